"""Builds Megatron for one rank: groups, model, optimizer, learning rate; or says why it refuses."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from launch.workers.megatron_core import distributed, patches, random_states
from launch.workers.megatron_core.arguments import ENGINE, Arguments
from launch.workers.megatron_core.device import Device
from launch.workers.megatron_core.learning_rate import build_schedule
from launch.workers.megatron_core.model import Model, build_model
from launch.workers.megatron_core.optimizer import build_optimizer
from orchestrator.errors import EngineRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a step trains and a checkpoint holds."""

    model: Model
    optimizer: Any  # Megatron is untyped
    schedule: OptimizerParamScheduler


def build_engine(arguments: Arguments, device: Device) -> Engine:
    """Build everything in its first state.

    Raises:
        EngineRefused: Megatron does not take the configuration.
    """
    with _refusals():
        patches.apply()
        distributed.make_groups(arguments.parallel)
        random_states.seed(arguments.training.seed)
        model = build_model(arguments, device)
        optimizer = build_optimizer(arguments, model)
        schedule = build_schedule(arguments.training.optimizer, optimizer)
    return Engine(model=model, optimizer=optimizer, schedule=schedule)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what Megatron raises over a configuration into a refusal.

    What may go better another time passes through: storage, memory, and the bare RuntimeError
    that a lost peer raises in whoever was talking to it.
    """
    try:
        yield
    except NotImplementedError as error:
        raise EngineRefused(engine=ENGINE, reason=_reason(error)) from error
    except (EngineRefused, OSError, MemoryError, RuntimeError):
        raise
    except Exception as error:
        # Megatron checks with assert, ValueError and bare Exception alike.
        raise EngineRefused(engine=ENGINE, reason=_reason(error)) from error


def _reason(error: Exception) -> str:
    """What the engine said and where; an assert without words is quoted."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error) or (frame.line or "")
    return f"{type(error).__name__}: {said} ({Path(frame.filename).name}:{frame.lineno})"
