"""A training script with nothing in it: form a gloo group, do a step (an all-reduce), say so, end.

Started by anybody who sets torchrun's variables. Each rank leaves a note of when its step was done.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist


def main() -> None:
    """Do one step."""
    begun_s = time.monotonic()
    dist.init_process_group("gloo")
    formed_s = time.monotonic()
    total = torch.ones(1)
    dist.all_reduce(total)
    assert total.item() == dist.get_world_size()  # noqa: S101
    times = {"imported_s": begun_s, "formed_s": formed_s, "stepped_s": time.monotonic()}
    note = next(word for word in sys.argv[1:] if word.startswith("/"))  # DeepSpeed adds words
    Path(note, f"rank-{dist.get_rank()}").write_text(json.dumps(times))
    say(kind="step", step=1, loss=1.0, grad_norm=None, learning_rate=1.0, tokens=1, duration_s=0.1)
    dist.barrier()
    say(kind="finished", step=1)
    dist.destroy_process_group()


def say(**line: object) -> None:
    """Tell the agent, where there is one."""
    pipe = os.environ.get("LLMORCH_RANK_FD")
    if pipe is not None:
        os.write(int(pipe), json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
