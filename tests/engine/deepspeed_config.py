"""What the installed DeepSpeed makes of a JSON: one question a line in, one answer out.

Rank 0 of the true world stands on torch's fake backend; `DeepSpeedConfig` reads the JSON, and the
learning-rate class that it names is made with its parameters. An answer is what was understood, or
DeepSpeed's own refusal.
"""

import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any

Question = dict[str, Any]


def serve() -> None:
    os.environ["DS_ACCELERATOR"] = "cpu"
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        answers.write(json.dumps(fields()) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(answer(json.loads(line))) + "\n")
            answers.flush()


def fields() -> dict[str, list[str]]:
    """Return the keys of the blocks that are pydantic classes, by their names in the JSON."""
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.compile.config import CompileConfig
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero import config, offload_config

    blocks = {
        "bf16": DeepSpeedBF16Config,
        "fp16": DeepSpeedFP16Config,
        "comms_logger": CommsLoggerConfig,
        "compile": CompileConfig,
        "zero_optimization": config.DeepSpeedZeroConfig,
        "zero_optimization.offload_param": offload_config.DeepSpeedZeroOffloadParamConfig,
        "zero_optimization.offload_optimizer": offload_config.DeepSpeedZeroOffloadOptimizerConfig,
    }
    return {
        name: sorted({*one.model_fields, *(f.alias for f in one.model_fields.values() if f.alias)})
        for name, one in blocks.items()
    }


def answer(question: Question) -> dict[str, Any]:
    import deepspeed  # its own functions log by the thousand

    deepspeed.utils.logger.setLevel("ERROR")
    _stand_up(question["world"])
    try:
        return {"refused": None, "read": _read(question)}
    except Exception as error:  # noqa: BLE001  whatever it is, a rank would die of it
        return {"refused": f"{type(error).__name__}: {error}", "read": None}


def _stand_up(world: int) -> None:
    import deepspeed
    import torch.distributed as dist
    from deepspeed.comm import comm
    from deepspeed.comm.torch import TorchBackend
    from torch.testing._internal.distributed.fake_pg import FakeStore

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if dist.is_initialized():
        dist.destroy_process_group()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    comm.cdb = TorchBackend("fake", timeout=None, init_method=None, rank=0, world_size=world)


def _read(question: Question) -> dict[str, Any]:
    from deepspeed.runtime.config import DeepSpeedConfig

    class Grid:
        """What a pipeline's module answers."""

        def get_data_parallel_world_size(self) -> int:
            return question["world"] // question["pp"]

    config = DeepSpeedConfig(question["json"], mpu=Grid() if question["pp"] > 1 else None)
    _scheduler(config)
    zero = config.zero_config
    return {
        "batch": [
            config.train_batch_size,
            config.train_micro_batch_size_per_gpu,
            config.gradient_accumulation_steps,
            config.world_size,
        ],
        "stage": int(zero.stage),
        "overlap": zero.overlap_comm,
        "bucket": zero.reduce_bucket_size,
        "offload_optimizer": zero.offload_optimizer and str(zero.offload_optimizer.device),
        "offload_param": zero.offload_param and str(zero.offload_param.device),
        "bf16": config.bfloat16_config.enabled,
        "fp16": config.float16_config.enabled,
        "gradients": config.grad_accum_dtype,
        "clipping": config.gradient_clipping,
    }


def _scheduler(config: Any) -> None:
    import torch
    from deepspeed.runtime import lr_schedules

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **config.optimizer_params)
    made = getattr(lr_schedules, config.scheduler_name)(optimizer, **config.scheduler_params)
    made.step()


if __name__ == "__main__":
    serve()
