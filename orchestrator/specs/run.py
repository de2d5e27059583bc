"""The run file: one document that says everything about a run."""

import math
from typing import Final, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from orchestrator.specs.choices import Binding, Start, StarterKind, Via
from orchestrator.specs.closed import Closed
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.layout import LayoutSpec
from orchestrator.specs.model import ModelField
from orchestrator.specs.remote import PreflightSpec, SshSpec, Word
from orchestrator.specs.training import TrainingSpec

_NUM_SPLITS: Final = 3  # training, evaluation, test


class HooksSpec(Closed):
    """What an engine's own helpers watch from inside its ranks."""

    stragglers: bool = Field(
        default=False, description="log lines name the slowest and fastest ranks (megatron-lm)"
    )
    fault_tolerance: bool = Field(
        default=False,
        description="steps and saves timed by nvidia-resiliency-ext, started with ft_launcher "
        "(megatron-lm)",
    )


class EngineSpec(Closed):
    """Which training engine runs, and which version of it."""

    name: str = "megatron-core"
    version: str | None = Field(default=None, description="absent: the pinned one")
    checkout: str | None = Field(
        default=None,
        min_length=1,
        description="with megatron-lm: the folder of that release's sources, on every host",
    )
    arguments: tuple[str, ...] = Field(
        default=(),
        description="with megatron-lm: more of its options, as it spells them; with deepspeed: of "
        "the script's",
    )
    script: str | None = Field(
        default=None,
        min_length=1,
        description="with deepspeed: the training script, on every host; it is told "
        "--deepspeed_config FILE",
    )
    config: dict[str, JsonValue] = Field(
        default={}, description="with deepspeed: more of its JSON, as it spells it"
    )
    hooks: HooksSpec = HooksSpec()


class CorpusSpec(Closed):
    """A small corpus that `launch` makes when it is not there yet."""

    source: Literal["python-stdlib"]
    limit_bytes: PositiveInt = 8_000_000


class SourceSpec(Closed):
    """One corpus of a blend, and its share of the samples."""

    prefix: str = Field(min_length=1, description="path without .bin, from the working folder")
    weight: PositiveFloat = Field(description="relative to the others': 50 and 25, or 0.5 and 0.25")


class DataSpec(Closed):
    """Tokenised text in Megatron's `.bin/.idx` format: one corpus, or a blend of several."""

    prefix: str | None = Field(
        default=None, min_length=1, description="path without .bin, from the working folder"
    )
    blend: tuple[SourceSpec, ...] = Field(default=(), description="several corpora, by weight")
    split: str = Field(
        default="1,0,0",
        description="Megatron's: shares of the documents for training, evaluation and test",
    )
    seed: NonNegativeInt | None = Field(
        default=None, description="of the order of samples; absent: training.seed"
    )
    cache_dir: str | None = Field(
        default=None, min_length=1, description="sample indices; absent: beside the first corpus"
    )
    end_of_document: NonNegativeInt = 256
    corpus: CorpusSpec | None = None

    def sources(self) -> tuple[SourceSpec, ...]:
        """Return the corpora with their weights; a single one has all the weight."""
        if self.prefix is None:
            return self.blend
        return (SourceSpec(prefix=self.prefix, weight=1.0),)

    @field_validator("split")
    @classmethod
    def _check_split(cls, split: str) -> str:
        shares = [_share(word) for word in split.split(",")]
        if len(shares) > _NUM_SPLITS or None in shares or not shares[0]:
            msg = (
                f"'{split}' is not a split: up to three numbers with commas, the first above 0, "
                "as in 99,1,0"
            )
            raise ValueError(msg)
        return split

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prefix is None) == (not self.blend):
            msg = "give either prefix (one corpus) or blend (several, each with its weight)"
            raise ValueError(msg)
        if self.corpus is not None and self.prefix is None:
            msg = "corpus makes one corpus: give its prefix instead of a blend"
            raise ValueError(msg)
        prefixes = [source.prefix for source in self.blend]
        twice = sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1})
        if twice:
            msg = f"{', '.join(twice)} is in the blend twice: add its weights up"
            raise ValueError(msg)
        return self

    def held_out_share(self) -> float:
        """Return the part of the documents that is evaluated on, of 1."""
        shares = [float(word) for word in self.split.split(",")]
        return shares[1] / sum(shares) if len(shares) > 1 else 0.0


class CheckpointSpec(Closed):
    """How often a checkpoint is committed and how many are kept."""

    interval_steps: PositiveInt
    keep: PositiveInt = 3


class LoggingSpec(Closed):
    """What a run writes down besides its metrics."""

    interval_steps: PositiveInt = Field(default=1, description="of the rank's log, and TensorBoard")
    tensorboard_dir: str | None = Field(
        default=None, min_length=1, description="event files go here; absent: none are written"
    )


class LogsSpec(Closed):
    """Where ranks' logs go, and how long they may become."""

    folder: Word | None = Field(
        default=None,
        pattern=r"^/",
        description="absolute, of each host's own; absent: the run directory",
    )
    limit_bytes: int = Field(
        default=64 << 20, ge=64 << 10, description="a file this long is put aside as .1"
    )
    keep: int = Field(default=3, ge=0, le=100, description="how many older files stay")


class LaunchSpec(Closed):
    """What starts the run; ports are chosen freely unless given."""

    via: Via = Via.LOCAL
    starter: StarterKind | None = Field(
        default=None,
        description="of the script that generate writes; absent: agent where the engine can be "
        "supervised, else torchrun",
    )
    folder: str = Field(default="runs", description="run directories are made here")
    controller_port: int | None = Field(default=None, ge=1, le=65535)
    rendezvous_port: int | None = Field(default=None, ge=1, le=65535)
    binding: Binding = Field(
        default=Binding.AUTO, description="processors of a rank; auto: of its GPU's NUMA node"
    )
    start: Start | None = Field(
        default=None, description="warm: ranks are forked by a process that has the engine; cold"
    )
    logs: LogsSpec = LogsSpec()
    hostfile: Word | None = Field(default=None, description="with ssh: the hosts, one a line")
    controller_host: Word | None = Field(
        default=None, description="with ssh: this machine as hosts see it; absent: by the route"
    )
    interface: Word | None = Field(
        default=None, description="with ssh: network interface of hosts for NCCL and gloo"
    )
    working_folder: Word | None = Field(
        default=None, description="with ssh: where ranks run; absent: this folder, on every host"
    )
    venv: Word | None = Field(
        default=None, description="with ssh: llmorch's environment on hosts; absent: as here"
    )
    ssh: SshSpec = SshSpec()
    preflight: PreflightSpec = PreflightSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.controller_port is not None and self.controller_port == self.rendezvous_port:
            msg = f"controller_port and rendezvous_port are both {self.controller_port}"
            raise ValueError(msg)
        return self

    def ssh_settings(self) -> tuple[str, ...]:
        """Return the names of the settings that were given and that only ssh honours."""
        of_ssh = ("hostfile", "controller_host", "interface", "working_folder", "venv")
        named = (*of_ssh, "ssh", "preflight")
        return tuple(name for name in named if name in self.model_fields_set)


class HangSpec(Closed):
    """How long ranks may make no progress; in between, limits follow the times of their steps."""

    floor_s: PositiveFloat = Field(default=30.0, description="no limit is below that")
    ceiling_s: PositiveFloat = Field(
        default=600.0, description="the most for a step, and the limit of a generation's first one"
    )
    phase_s: PositiveFloat = Field(
        default=1800.0, description="the most for starting, saving or evaluating"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.floor_s <= self.ceiling_s <= self.phase_s:
            msg = f"floor_s {self.floor_s:g} <= ceiling_s {self.ceiling_s:g} <= phase_s "
            msg += f"{self.phase_s:g} does not hold"
            raise ValueError(msg)
        return self


class BudgetsSpec(Closed):
    """How many failures of each class a run may have at once; time forgives them one by one."""

    program: NonNegativeInt = Field(default=10, description="a rank ended by itself")
    killed: NonNegativeInt = Field(default=10, description="a signal ended a rank")
    hang: NonNegativeInt = Field(default=10, description="ranks made no progress")
    host: NonNegativeInt = Field(default=20, description="a host or its agent went")
    checkpoint: NonNegativeInt = Field(default=5, description="a checkpoint was not whole")
    forgiven_after_s: PositiveFloat = Field(
        default=3600.0, description="one failure of each class is forgiven that often"
    )


class SuperviseSpec(Closed):
    """When to try again and when to give up."""

    max_restarts: NonNegativeInt = Field(
        default=3, description="restarts without a newly committed checkpoint in between"
    )
    join_timeout_s: PositiveFloat = 60.0
    beat_interval_s: PositiveFloat = 0.5
    lease_s: PositiveFloat = 120.0
    stop_grace_s: PositiveFloat = 60.0
    hang: HangSpec = HangSpec()
    budgets: BudgetsSpec = BudgetsSpec()


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
    logging: LoggingSpec = LoggingSpec()
    launch: LaunchSpec = LaunchSpec()
    supervise: SuperviseSpec = SuperviseSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        evaluates = self.training.evaluation is not None
        if evaluates and self.data is not None and self.data.held_out_share() == 0:
            msg = (
                f"training.evaluation needs held-out documents, and data.split {self.data.split} "
                "has none: give its second number a share, as in 99,1,0"
            )
            raise ValueError(msg)
        return self


def _share(word: str) -> float | None:
    """A number of a split; None for what is none, or below 0."""
    try:
        share = float(word)
    except ValueError:
        return None
    return share if 0 <= share < math.inf else None
