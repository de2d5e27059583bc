"""The `deepspeed` engine: DeepSpeed's JSON and environment, for a script that reads them."""
