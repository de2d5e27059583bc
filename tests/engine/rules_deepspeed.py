"""What the installed DeepSpeed says of a run: one JSON object a line in, one answer out.

The run is rank 0 of its true world on torch's fake backend. What is asked: the configuration class
with the batch arithmetic, the pipeline's own check of the ZeRO stage, and Ulysses' cut of heads
and sequence. An answer is DeepSpeed's own refusal, or null.
"""

import ast
import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any

Run = dict[str, Any]


def serve() -> None:
    os.environ["DS_ACCELERATOR"] = "cpu"
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        for line in sys.stdin:
            answers.write(json.dumps(refusal(json.loads(line))) + "\n")
            answers.flush()


def refusal(run: Run) -> str | None:
    try:
        _stand_up(run["world"])
        _config(run)
        _pipeline(run)
        _ulysses(run)
    except (AssertionError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _stand_up(world: int) -> None:
    import deepspeed
    import torch.distributed as dist
    from deepspeed.comm import comm
    from deepspeed.comm.torch import TorchBackend
    from torch.testing._internal.distributed.fake_pg import FakeStore

    # Else a shared-memory operator is compiled first, which nothing here would use.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if dist.is_initialized():
        dist.destroy_process_group()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    comm.cdb = TorchBackend("fake", timeout=None, init_method=None, rank=0, world_size=world)


def _config(run: Run) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    layout, micro = run["layout"], run["layout"]["micro_batch_size"]

    class Grid:
        """What a pipeline or a user's `mpu` answers: how many ranks share no microbatch."""

        def get_data_parallel_world_size(self) -> int:
            return layout["dp"]

        def get_model_parallel_world_size(self) -> int:
            return layout["tp"] * layout["pp"]

    for size in run["batches"]:
        DeepSpeedConfig(
            {
                "train_batch_size": size,
                "train_micro_batch_size_per_gpu": micro,
                "gradient_accumulation_steps": size // (micro * layout["dp"]),
                "zero_optimization": {"stage": layout["zero_stage"]},
                "bf16": {"enabled": run["precision"] == "bf16"},
            },
            mpu=Grid(),
        )


def _pipeline(run: Run) -> None:
    """Ask the assertion of `PipelineEngine.__init__` itself, of the installed sources."""
    if run["layout"]["pp"] == 1:
        return
    import inspect
    import textwrap

    from deepspeed.runtime.config import ZeroStageEnum
    from deepspeed.runtime.pipe.engine import PipelineEngine

    tree = ast.parse(textwrap.dedent(inspect.getsource(PipelineEngine.__init__)))
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    found = [node for node in checks if "ZeRO" in ast.unparse(node)]
    assert found, "DeepSpeed's pipeline no longer asks for the ZeRO stage"
    stage = run["layout"]["zero_stage"]
    asker = type("Engine", (), {"zero_optimization_stage": lambda _: stage})()
    code = compile(ast.Module(body=found[:1], type_ignores=[]), "PipelineEngine", "exec")
    exec(code, {"self": asker, "ZeroStageEnum": ZeroStageEnum})


def _ulysses(run: Run) -> None:
    cp = run["layout"]["cp"]
    if cp == 1:
        return
    import torch
    from deepspeed.sequence import layer

    model = run["model"]
    for heads in (model["num_attention_heads"], model["num_query_groups"]):
        if run["sequence_length"] % cp:
            msg = "each rank of DistributedAttention holds an equal piece of the sequence"
            raise ValueError(msg)
        share = torch.empty((1, run["sequence_length"] // cp, heads, 2), device="meta")
        layer._generate_layout_params(2, 0, cp, share)


if __name__ == "__main__":
    serve()
