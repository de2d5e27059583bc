"""The run file: one document that says everything about a run."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from orchestrator.specs.choices import Via
from orchestrator.specs.closed import Closed
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.layout import LayoutSpec
from orchestrator.specs.model import ModelField
from orchestrator.specs.training import TrainingSpec


class EngineSpec(Closed):
    """Which training engine runs, and which version of it."""

    name: str = "megatron-core"
    version: str | None = Field(default=None, description="absent: the pinned one")


class CorpusSpec(Closed):
    """A small corpus that `launch` makes when it is not there yet."""

    source: Literal["python-stdlib"]
    limit_bytes: PositiveInt = 8_000_000


class DataSpec(Closed):
    """Tokenised text in Megatron's `.bin/.idx` format."""

    prefix: str = Field(min_length=1, description="path without .bin, from the working folder")
    end_of_document: NonNegativeInt = 256
    corpus: CorpusSpec | None = None


class CheckpointSpec(Closed):
    """How often a checkpoint is committed and how many are kept."""

    interval_steps: PositiveInt
    keep: PositiveInt = 3


class LaunchSpec(Closed):
    """What starts the run; ports are chosen freely unless given."""

    via: Via = Via.LOCAL
    folder: str = Field(default="runs", description="run directories are made here")
    controller_port: int | None = Field(default=None, ge=1, le=65535)
    rendezvous_port: int | None = Field(default=None, ge=1, le=65535)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.controller_port is not None and self.controller_port == self.rendezvous_port:
            msg = f"controller_port and rendezvous_port are both {self.controller_port}"
            raise ValueError(msg)
        return self


class SuperviseSpec(Closed):
    """When to try again and when to give up."""

    max_restarts: NonNegativeInt = Field(
        default=3, description="restarts without a newly committed checkpoint in between"
    )
    join_timeout_s: PositiveFloat = 60.0
    beat_interval_s: PositiveFloat = 0.5
    lease_s: PositiveFloat = 120.0
    stop_grace_s: PositiveFloat = 60.0


class RunSpec(Closed):
    """A run file; an absent layout means: plan it."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model: ModelField
    cluster: ClusterSpec
    training: TrainingSpec
    layout: LayoutSpec | None = None
    engine: EngineSpec = EngineSpec()
    data: DataSpec | None = None
    checkpoint: CheckpointSpec | None = None
    launch: LaunchSpec = LaunchSpec()
    supervise: SuperviseSpec = SuperviseSpec()
