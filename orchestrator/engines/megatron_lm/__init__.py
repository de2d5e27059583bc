"""The `megatron-lm` engine: argument lists of `pretrain_gpt.py` for a named release."""
