"""What the dry run asks an engine about one rank of a run, and what it answers.

One JSON object a line in both directions; the words are the run file's, not the engine's.
"""

from dataclasses import dataclass
from enum import StrEnum


class Topic(StrEnum):
    """What a question is about.

    `GROUPS`: the process groups of the rank. `PARAMETERS`: what the rank holds of the model.
    `STEP`: one optimizer step, its collectives recorded. `CONFIG`: whether the engine takes its
    configuration. `PARTITION`: what the rank keeps of states that are sharded.
    """

    GROUPS = "groups"
    PARAMETERS = "parameters"
    STEP = "step"
    CONFIG = "config"
    PARTITION = "partition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about one rank; `model` is the model card as JSON.

    `num_microbatches` is how many the recorded step runs, which may be fewer than the run's.
    `tensors` are the elements of the model's parameters one by one, for an engine that is handed
    a stand-in. `config` is the engine's own file that the run is started with, where it has one.
    """

    topic: Topic
    rank: int
    world_size: int
    tp: int
    cp: int
    pp: int
    vpp: int
    ep: int
    etp: int
    microbatch_group_size: int
    micro_batch_size: int
    num_microbatches: int
    zero_stage: int
    zero_replicas: int
    sequence_parallel: bool
    overlaps_dp: bool
    recompute_granularity: str
    recompute_modules: tuple[str, ...]
    recompute_layers: int | None
    stage_layout: str | None
    sequence_length: int
    precision: str
    padded_vocab_size: int
    tensors: tuple[int, ...]
    model: dict[str, object]
    config: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Elements of the parameters that a rank holds, by how they are shared.

    `sharded`: cut by tp; `whole`: equal on all tp ranks; of experts, cut by etp or equal on its
    ranks. `tied`: the copy of the embedding on the last rank, counted in `sharded` too.
    """

    sharded: int = 0
    whole: int = 0
    expert_sharded: int = 0
    expert_whole: int = 0
    tied: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Equal calls of a rank: `group` lists its ranks, `peer` the other rank of a message."""

    kind: str
    group: tuple[int, ...]
    payload_bytes: int
    calls: int
    peer: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an engine did; `refused` are its own words where it did not.

    `groups` by our names of them; `partition` is elements of this rank by what is sharded.
    `groups_s` is how long it took to make the groups, `seconds` all together.
    """

    refused: str | None = None
    groups: dict[str, list[int]] | None = None
    held: Held | None = None
    recorded: tuple[Recorded, ...] = ()
    partition: dict[str, int] | None = None
    groups_s: float = 0.0
    seconds: float = 0.0
