"""The option table of each release of Megatron-LM: sections in the order they are written."""

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.engines.megatron_lm.data_rows import DATA, MOCK_DATA, READING
from orchestrator.engines.megatron_lm.expert_rows import EXPERTS, LATENT_ATTENTION
from orchestrator.engines.megatron_lm.hook_rows import FAULT_TOLERANCE, STRAGGLERS
from orchestrator.engines.megatron_lm.keeping_rows import CHECKPOINT, LEAVING
from orchestrator.engines.megatron_lm.log_rows import EVALUATION, FLIGHT_RECORDER, LOGS
from orchestrator.engines.megatron_lm.model_rows import MULTI_TOKEN, SHAPE, VOCABULARY
from orchestrator.engines.megatron_lm.numerics_rows import GRADIENTS, STATES
from orchestrator.engines.megatron_lm.parallel_rows import AXES, RECOMPUTE, SHARDING
from orchestrator.engines.megatron_lm.position_rows import (
    LATENT_WITHOUT_YARN,
    PLAIN_YARN,
    POSITIONS,
    YARN,
)
from orchestrator.engines.megatron_lm.precision_rows import FP8, PRECISION
from orchestrator.engines.megatron_lm.row import Section
from orchestrator.engines.megatron_lm.training_rows import (
    BATCH,
    CONSTANT_BATCH,
    OPTIMIZER,
    RAMP_BY_INCREMENT,
    RAMP_BY_SCHEDULE,
)

_POSITIONS = (POSITIONS, YARN, LATENT_WITHOUT_YARN)
_MODEL = (SHAPE, *_POSITIONS, VOCABULARY, LATENT_ATTENTION, EXPERTS, MULTI_TOKEN)
_LAYOUT = (AXES, SHARDING, RECOMPUTE, PRECISION, FP8, GRADIENTS, STATES)
_TRAINING = (BATCH, CONSTANT_BATCH, OPTIMIZER)
_WATCHING = (LEAVING, STRAGGLERS, FAULT_TOLERANCE)
_REST = (DATA, MOCK_DATA, READING, EVALUATION, CHECKPOINT, LOGS, *_WATCHING)

TABLES: Mapping[str, tuple[Section, ...]] = MappingProxyType(
    {
        "0.16.1": (*_MODEL, *_LAYOUT, *_TRAINING, RAMP_BY_INCREMENT, *_REST),
        "0.17.1": (*_MODEL, *_LAYOUT, *_TRAINING, RAMP_BY_INCREMENT, *_REST, FLIGHT_RECORDER),
        "0.18.2": (*_MODEL, *_LAYOUT, *_TRAINING, RAMP_BY_SCHEDULE, *_REST, FLIGHT_RECORDER),
        "0.19.2": (
            *(*_MODEL, PLAIN_YARN, *_LAYOUT, *_TRAINING),
            *(RAMP_BY_SCHEDULE, *_REST, FLIGHT_RECORDER),
        ),
    }
)
"""One table for each release of `flags.RELEASES`."""

NEWEST = "0.19.2"
