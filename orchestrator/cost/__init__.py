"""What a layout costs: parameters, FLOPs, bytes and seconds, as formulas and nothing else."""
