"""The log for people: readable lines on the first rank's standard output."""

import sys

import torch.distributed as dist


def log(text: str) -> None:
    """Write a line at once, on rank 0 alone."""
    if dist.get_rank() == 0:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
