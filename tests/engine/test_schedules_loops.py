"""Our orders against the loops that Megatron-Core and torch really execute.

The real schedule functions run here for one rank at a time, with recorders in place of model and
communication: no process group, no GPU. A tensor is a tag that says what it came from.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import pytest

from orchestrator.schedules import interleaved, legal, one_f_one_b
from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.specs.choices import OverlapAxis, ScheduleKind

torch = pytest.importorskip("torch")
schedules = pytest.importorskip("megatron.core.pipeline_parallel.schedules")
collections = pytest.importorskip("megatron.core.process_groups_config")
torch_schedules = pytest.importorskip("torch.distributed.pipelining.schedules")
torch_stage = pytest.importorskip("torch.distributed.pipelining.stage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What stands for a tensor: the chunk and the microbatch that made it."""

    chunk: int = 0
    microbatch: int = 0
    requires_grad: bool = True

    def __getitem__(self, _: int) -> "Tag":
        return self


class Config:
    """A model config in which everything that is not said is off."""

    def __init__(self, **said: object) -> None:
        self.__dict__.update(
            hidden_size=1,
            sequence_parallel=False,
            variable_seq_lengths=False,
            deallocate_pipeline_outputs=False,
            cuda_graph_impl="none",
            **said,
        )

    def __getattr__(self, _: str) -> None:
        return None


class Communicator:
    """A communicator that loses what is sent and makes up what is received."""

    def __init__(self, *, pp: int, rank: int, config: Config) -> None:
        self.pp_group = SimpleNamespace(size=lambda: pp, rank=lambda: rank)
        self.config = config
        self.virtual_pipeline_model_parallel_size = config.virtual_pipeline_model_parallel_size
        self.is_pp_first_stage, self.is_pp_last_stage = rank == 0, rank == pp - 1
        self.total_stages, self.current_stage = pp, rank

    def recv_forward(self, _shapes: object, is_first: bool) -> Tag | None:
        return None if is_first else Tag()

    def recv_backward(self, _shapes: object, is_last_stage: bool) -> Tag | None:
        return None if is_last_stage else Tag()

    def send_forward(self, _tensor: object, _is_last: bool) -> None:
        pass

    def send_backward(self, _tensor: object, _is_first: bool) -> None:
        pass

    def send_forward_recv_backward(
        self, _tensor: object, _shapes: object, is_last: bool
    ) -> Tag | None:
        return None if is_last else Tag()

    def send_backward_recv_forward(
        self, _tensor: object, _shapes: object, is_first: bool
    ) -> Tag | None:
        return None if is_first else Tag()

    def send_forward_recv_forward(
        self, sent: object, *, recv_prev: bool, overlap_p2p_comm: bool = False, **_: object
    ) -> object:
        received = Tag() if recv_prev else None
        handles = {"send_next": sent is not None, "recv_prev": recv_prev}
        return (received, handles_of(handles)) if overlap_p2p_comm else received

    def send_backward_recv_backward(
        self, sent: object, *, recv_next: bool, overlap_p2p_comm: bool = False, **_: object
    ) -> object:
        received = Tag() if recv_next else None
        handles = {"send_prev": sent is not None, "recv_next": recv_next}
        return (received, handles_of(handles)) if overlap_p2p_comm else received

    def send_forward_backward_recv_forward_backward(
        self, _output: object, _grad: object, *, recv_prev: bool, recv_next: bool, **_: object
    ) -> tuple[Tag | None, Tag | None]:
        return (Tag() if recv_prev else None), (Tag() if recv_next else None)


def handles_of(wanted: dict[str, bool]) -> dict[str, SimpleNamespace]:
    return {
        name: SimpleNamespace(wait=lambda: None) for name, is_wanted in wanted.items() if is_wanted
    }


class Recorder:
    """Runs Megatron's real loop of one rank and keeps the order in which it calls the model."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        zeros = torch.zeros
        # The loops ask for device="cuda" whatever the machine has.
        patch.setattr(
            torch, "zeros", lambda *size, **said: zeros(*size, **{**said, "device": "cpu"})
        )
        patch.setattr(schedules, "get_model_config", lambda _: self.config)
        patch.setattr(schedules, "get_model_type", lambda _: None)
        patch.setattr(schedules, "deallocate_output_tensor", lambda *_: None)
        patch.setattr(schedules, "forward_step", self.forward_step)
        patch.setattr(schedules, "backward_step", self.backward_step)

    def forward_step(
        self, _step: object, _data: object, model: object, *_: object, **said: int
    ) -> tuple[Tag, int]:
        tag = Tag(chunk=self.models.index(model), microbatch=said["current_microbatch"])
        self.note(ActionKind.FORWARD, tag)
        return tag, 0

    def backward_step(self, _input: object, output: object, *_: object) -> Tag:
        self.note(ActionKind.BACKWARD, output[0])
        return Tag()

    def note(self, kind: ActionKind, tag: Tag) -> None:
        stage = tag.chunk * self.pp + self.rank
        self.log.append(Action(kind=kind, stage=stage, microbatch=tag.microbatch))

    def begin(self, *, pp: int, rank: int, config: Config) -> dict:
        self.pp, self.rank, self.config, self.log = pp, rank, config, []
        vpp = config.virtual_pipeline_model_parallel_size or 1
        self.models = [torch.nn.Module() for _ in range(vpp)]
        communicator = Communicator(pp=pp, rank=rank, config=config)
        alone = SimpleNamespace(size=lambda: 1, rank=lambda: 0)
        groups = collections.ProcessGroupCollection(
            tp=alone, cp=alone, dp=alone, dp_cp=alone, pp=communicator.pp_group
        )
        groups.embd = groups.pos_embd = None
        return {
            "forward_step_func": None,
            "seq_length": 1,
            "micro_batch_size": 1,
            "p2p_communicator": communicator,
            "pg_collection": groups,
        }

    def one_f_one_b(self, *, pp: int, m: int, rank: int, overlap: bool = False) -> list[Action]:
        said = self.begin(pp=pp, rank=rank, config=Config(overlap_p2p_comm=overlap))
        schedules.forward_backward_pipelining_without_interleaving(
            data_iterator=None, model=self.models[0], num_microbatches=m, **said
        )
        return self.log

    def interleaved(
        self, *, pp: int, vpp: int, m: int, g: int, rank: int, overlap: bool, flush: bool
    ) -> list[Action]:
        config = Config(
            virtual_pipeline_model_parallel_size=vpp,
            microbatch_group_size_per_vp_stage=g,
            overlap_p2p_comm=overlap,
            batch_p2p_comm=not overlap,
            overlap_p2p_comm_warmup_flush=flush,
        )
        said = self.begin(pp=pp, rank=rank, config=config)
        schedules.forward_backward_pipelining_with_interleaving(
            data_iterator=[None] * vpp, model=self.models, num_microbatches=m, **said
        )
        return self.log


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with pytest.MonkeyPatch.context() as patch:
        yield Recorder(patch)


def test_1f1b_is_the_loop_that_megatron_executes(recorder):
    for pp, m in itertools.product(range(1, 9), range(1, 20)):
        for rank in range(pp):
            ours = list(one_f_one_b.order(pp=pp, num_microbatches=m, rank=rank))
            assert ours == recorder.one_f_one_b(pp=pp, m=m, rank=rank), (pp, m, rank)


@pytest.mark.parametrize(
    ("overlap", "flush"),
    [(False, False), (True, False), (True, True)],
    ids=["batched", "overlapped", "overlapped to the ends"],
)
def test_interleaving_is_the_loop_that_megatron_executes(recorder, overlap, flush):
    compared = 0
    for pp, vpp in itertools.product(range(2, 7), (2, 3, 4)):
        for g, m in itertools.product(range(pp, pp + 5), range(pp, 4 * pp)):
            words = {"pp": pp, "vpp": vpp, "num_microbatches": m, "microbatch_group_size": g}
            if legal.refusal(ScheduleKind.INTERLEAVED, **words) is not None:
                continue
            for rank in range(pp):
                ours = list(interleaved.order(**words, rank=rank))
                theirs = recorder.interleaved(
                    pp=pp, vpp=vpp, m=m, g=g, rank=rank, overlap=overlap, flush=flush
                )
                assert ours == theirs, (words, rank)
                compared += 1

    assert compared >= 1000


def test_groups_are_refused_exactly_where_megatron_refuses(recorder):
    for pp, vpp in itertools.product((2, 3, 4, 5), (2, 3)):
        for g, m in itertools.product(range(1, pp + 4), range(1, 3 * pp + 2)):
            refused = legal.refusal(
                ScheduleKind.INTERLEAVED,
                pp=pp,
                vpp=vpp,
                num_microbatches=m,
                microbatch_group_size=g,
            )
            try:
                recorder.interleaved(pp=pp, vpp=vpp, m=m, g=g, rank=0, overlap=True, flush=False)
                taken = True
            except (ValueError, RuntimeError):
                taken = False

            assert (refused is None) == taken, (pp, vpp, m, g)


def test_megatron_refuses_overlapped_1f1b_as_we_do(recorder):
    with pytest.raises(ValueError, match="does not support overlapping"):
        recorder.one_f_one_b(pp=4, m=8, rank=0, overlap=True)

    assert legal.p2p_refusal(ScheduleKind.ONE_F_ONE_B, pp=4, overlap=(OverlapAxis.PP,))


def torch_loop(pp: int, m: int, rank: int) -> list[str]:
    """Return what torch's Schedule1F1B executes; its printed table is wrong on the last rank."""
    log: list[str] = []
    stage = mock.create_autospec(torch_stage.PipelineStage, instance=True)
    stage.group_rank, stage.group_size, stage.num_stages = rank, pp, pp
    stage.stage_index, stage.submod = rank, None
    for name in ("fwd_recv", "fwd_send", "bwd_recv", "bwd_send"):
        getattr(stage, f"get_{name}_ops").return_value = []
    stage.forward_one_chunk.side_effect = lambda i, *_, **__: log.append(f"{rank}F{i}")
    stage.backward_one_chunk.side_effect = lambda i, **_: log.append(f"{rank}B{i}")
    loop = torch_schedules.Schedule1F1B(stage, m)
    for name in ("_initialize_stage", "_maybe_compute_loss", "_maybe_get_loss", "_update_losses"):
        setattr(loop, name, lambda *_, **__: None)
    loop._check_inputs = lambda *_: ([()] * m, [{}] * m)
    loop._step_microbatches([()] * m, [{}] * m)
    return log


def test_1f1b_is_the_loop_that_torch_executes():
    for pp in range(1, 6):
        for m, rank in itertools.product(range(pp, pp + 6), range(pp)):
            ours = one_f_one_b.order(pp=pp, num_microbatches=m, rank=rank)
            assert list(map(str, ours)) == torch_loop(pp, m, rank), (pp, m, rank)
