"""What `pretrain_gpt.py` writes, written by ranks of our worker: real models, real optimizers.

The 0.16.1 wheel has no `megatron.training`: names of folders and keys of the outermost dictionary
are taken from its `checkpointing.py`, everything within them comes from megatron-core.
"""

import random
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.transformer.enums import AttnBackend

from launch.workers.megatron_core.checkpoint import Checkpointer, Position

STEP = 4


def install(folder: str) -> None:
    """Make every rank write both formats too, when it stages its checkpoint of `STEP`."""
    stage = Checkpointer.stage

    def staged(self: Checkpointer, place: Path, position: Position) -> None:
        stage(self, place, position)
        if position.step == STEP:
            legacy(self, Path(folder) / "legacy", position)
            torch_dist(self, Path(folder) / "torch_dist", position)
            dist.barrier()

    Checkpointer.stage = staged


def common(saver: Checkpointer, position: Position) -> dict[str, Any]:
    parallel, model = saver.arguments.parallel, saver.arguments.model
    args = Namespace(
        tensor_model_parallel_size=parallel.tp,
        pipeline_model_parallel_size=parallel.pp,
        data_parallel_size=parallel_state.get_data_parallel_world_size(),
        context_parallel_size=1,
        expert_model_parallel_size=1,
        world_size=dist.get_world_size(),
        use_distributed_optimizer=parallel.zero_stage > 0,
        consumed_train_samples=position.consumed_samples,
        seq_length=saver.arguments.training.sequence_length,
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        padded_vocab_size=model.padded_vocab_size,
        bf16=False,
        fp16=False,
        params_dtype=torch.float32,
        attention_backend=AttnBackend.auto,
    )
    return {"args": args, "checkpoint_version": 3.0, "iteration": position.step}


def legacy(saver: Checkpointer, root: Path, position: Position) -> None:
    tp = parallel_state.get_tensor_model_parallel_rank()
    pp = parallel_state.get_pipeline_model_parallel_rank()
    place = root / f"iter_{position.step:07d}" / f"mp_rank_{tp:02d}_{pp:03d}"
    place.mkdir(parents=True, exist_ok=True)
    (model,) = saver.engine.model.bare_chunks
    state = {
        **common(saver, position),
        "model": model.state_dict_for_save_checkpoint(),
        "optimizer": saver.engine.optimizer.state_dict(),
        "rng_state": [
            {
                "random_rng_state": random.getstate(),
                "np_rng_state": np.random.get_state(),
                "torch_rng_state": torch.get_rng_state(),
            }
        ],
    }
    if parallel_state.get_data_parallel_rank() == 0:
        torch.save(state, place / "model_optim_rng.pt")
    for one in saver.engine.optimizer.chained_optimizers:
        one.data_parallel_group_gloo = one.data_parallel_group  # which is gloo's here
    saver.engine.optimizer.save_parameter_state(str(place / "distrib_optim.pt"))
    (root / "latest_checkpointed_iteration.txt").write_text(str(position.step))


def torch_dist(saver: Checkpointer, root: Path, position: Position) -> None:
    place = root / f"iter_{position.step:07d}"
    place.mkdir(parents=True, exist_ok=True)
    dist.barrier()
    (model,) = saver.engine.model.bare_chunks
    state = {**common(saver, position), **model.sharded_state_dict()}
    dist_checkpointing.save(state, str(place))
    (root / "latest_checkpointed_iteration.txt").write_text(str(position.step))
