"""What torch.distributed.pipelining does: the loops of GPipe and 1F1B, the tables of the others.

The loops run for real with recorders in place of stage and communication. (Their printed tables
are not what they run: that of 1F1B is wrong on the last rank.) The other schedules are executed
from tables, which torch lowers to transfers before it runs them.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any
from unittest import mock

from torch.distributed.pipelining import schedules
from torch.distributed.pipelining.stage import PipelineStage

from launch.workers.engine_check.cases import Case, Recording, call_text, recorded

LOOPS = {"gpipe": "GPipe", "1f1b": "1F1B"}
TABLES = {
    "interleaved-1f1b": "Interleaved1F1B",
    "looped-bfs": "LoopedBFS",
    "interleaved-zero-bubble": "InterleavedZeroBubble",
    "zb-v": "ZBVZeroBubble",
    "dualpipe-v": "DualPipeV",
}
_SIMULATED = (
    "_initialize_stage",
    "_maybe_compute_loss",
    "_maybe_get_loss",
    "_update_losses",
)


def record(case: Case) -> Recording:
    """Return what one rank does, or why torch refuses."""
    try:
        if case.schedule in LOOPS:
            return _loop(case)
        return record_ranks(replace(case, rank=0))[case.rank]
    except (ValueError, AssertionError) as error:
        return Recording(refused=f"{type(error).__name__}: {error}")


@lru_cache(maxsize=4)  # the ranks of a case are asked one after the other
def record_ranks(case: Case) -> list[Recording]:
    """Return what every rank of a schedule with a table does; `case.rank` does not matter.

    Raises:
        ValueError: torch refuses.
        AssertionError: torch refuses.
    """
    stages = [_stage(case, rank=0) for _ in range(case.vpp)]
    made = schedules.get_schedule_class(TABLES[case.schedule])(stages, case.num_microbatches)
    recordings = []
    for rank in range(case.pp):
        table = [action for action in made.pipeline_order[rank] if action is not None]
        recordings.append(
            Recording(
                order=tuple(map(str, table)),
                stream=tuple(map(str, made.pipeline_order_with_comms[rank])),
            )
        )
    return recordings


def _loop(case: Case) -> Recording:
    log: list[str] = []
    m = case.num_microbatches
    loop = schedules.get_schedule_class(LOOPS[case.schedule])(_recorder(case, log), m)
    for name in _SIMULATED:
        setattr(loop, name, lambda *_, **__: None)
    loop._check_inputs = lambda *_: ([()] * m, [{}] * m)  # noqa: SLF001

    def call(transfers: list[str], *_: object, **__: object) -> dict[str, object]:
        if transfers:
            log.append(call_text(transfers))
        return {}

    with (
        mock.patch.object(schedules, "_batch_p2p", call),
        mock.patch.object(schedules, "_sorted_batch_p2p", call),
        mock.patch.object(schedules, "_wait_batch_p2p", return_value=None),
    ):
        loop._step_microbatches([()] * m, [{}] * m)  # noqa: SLF001
    return recorded(log)


def _recorder(case: Case, log: list[str]) -> Any:  # noqa: ANN401  a mock
    rank, stage = case.rank, _stage(case, rank=case.rank)
    stage.forward_one_chunk.side_effect = lambda i, *_, **__: log.append(f"{rank}F{i}")
    stage.backward_one_chunk.side_effect = lambda i, **_: log.append(f"{rank}B{i}")
    for name, what, exists in (
        ("get_fwd_recv_ops", "RECV_F", rank > 0),
        ("get_fwd_send_ops", "SEND_F", rank < case.pp - 1),
        ("get_bwd_recv_ops", "RECV_B", rank < case.pp - 1),
        ("get_bwd_send_ops", "SEND_B", rank > 0),
    ):
        getattr(stage, name).side_effect = _transfers(rank, what, exists=exists)
    return stage


def _transfers(rank: int, what: str, *, exists: bool) -> Any:  # noqa: ANN401  a side effect
    return lambda microbatch: [f"{rank}{what}{microbatch}"] if exists else []


def _stage(case: Case, *, rank: int) -> Any:  # noqa: ANN401  a mock
    stage = mock.create_autospec(PipelineStage, instance=True)
    stage.group_rank, stage.group_size = rank, case.pp
    stage.stage_index, stage.num_stages = rank, case.pp * case.vpp
    stage.submod = None
    return stage
