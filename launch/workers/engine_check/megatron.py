"""The loops that Megatron-Core executes, recorded: real functions, no process group, no GPU.

Recorders stand in for the model and the communication. A tensor is a tag that knows what made it
or, if it was received, what read it: so each transfer gets its stage and microbatch.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from megatron.core import process_groups_config
from megatron.core.pipeline_parallel import schedules

from launch.workers.engine_check.cases import Case, P2p, Recording, call_text, recorded
from launch.workers.engine_check.megatron_stand_ins import Communicator, Config, Tag, tag_of

COMBINED = "combined-1f1b"
ONE_CHUNK = ("1f1b", "no-pipeline")

Record = Callable[[Case], Recording]


@contextmanager
def recording() -> Iterator[Record]:
    """Yield a function that records a rank; Megatron's functions are put back after."""
    recorder = _Recorder()
    zeros = torch.zeros
    with ExitStack() as stack:
        # The loops ask for device="cuda" whatever the machine has.
        on_cpu = mock.patch.object(
            torch, "zeros", lambda *size, **said: zeros(*size, **{**said, "device": "cpu"})
        )
        stack.enter_context(on_cpu)
        for name, stand_in in recorder.stand_ins().items():
            stack.enter_context(mock.patch.object(schedules, name, stand_in))
        yield recorder.record


class _Recorder:
    """Runs the real loop of one rank and keeps the order in which it computes and sends."""

    case: Case
    config: Config
    models: list[torch.nn.Module]
    log: list[Any]

    def stand_ins(self) -> dict[str, Callable[..., Any]]:
        """Return what replaces which function of the schedules module."""
        return {
            "get_model_config": lambda _: self.config,
            "get_model_type": lambda _: None,
            "deallocate_output_tensor": lambda *_: None,
            # Without torch.distributed these two call every rank the only one.
            "is_pp_first_stage": lambda group: group.rank() == 0,
            "is_pp_last_stage": lambda group: group.rank() == group.size() - 1,
            "forward_step": self.forward_step,
            "backward_step": self.backward_step,
            "combined_1f1b_schedule_for_interleaved_pipelining": self.combined_step,
        }

    def record(self, case: Case) -> Recording:
        """Return what one rank does, or why Megatron refuses."""
        try:
            self._run(case)
        except (ValueError, RuntimeError, AssertionError) as error:
            return Recording(refused=f"{type(error).__name__}: {error}")
        return recorded(list(map(self._text, self.log)))

    def forward_step(
        self, _step: object, _data: object, model: torch.nn.Module, *rest: object, **said: int
    ) -> tuple[Tag, int]:
        chunk, microbatch = self.models.index(model), said["current_microbatch"]
        return self._forward(chunk, microbatch, rest[1])

    def backward_step(self, _input: object, output: object, grad: object, *_: object) -> Tag:
        made = tag_of(output)
        assert made is not None  # noqa: S101  every output is a tag that we made
        self.log.append(f"{self._stage(made.chunk)}B{made.microbatch}")
        return self._backward(made, grad)

    def combined_step(self, *said: Any, **named: Any) -> tuple[Tag | None, Tag | None]:  # noqa: ANN401
        """Stand in for the slot of combined 1F1B: its two passes are one step of the log."""
        before_f, after_f, before_b, after_b, microbatch_of, chunk_of = said[6:12]
        forward, backward = named["f_virtual_microbatch_id"], named["b_virtual_microbatch_id"]
        words, output, gradient = [], None, None
        if forward is not None:
            chunk, microbatch = (
                chunk_of(forward, forward=True),
                microbatch_of(forward, forward=True),
            )
            output, _ = self._forward(chunk, microbatch, before_f(forward, chunk, microbatch))
            words.append(self.log.pop())
        if backward is not None:
            _, made, grad = before_b(backward, chunk_of(backward, forward=False))
            gradient = self._backward(tag_of(made), grad)
            words.append(f"{self._stage(gradient.chunk)}B{gradient.microbatch}")
        _call(named["pre_forward"])
        _call(named["pre_backward"])
        self.log.append(f"({words[0]};{words[1]})OVERLAP_F_B" if len(words) > 1 else words[0])
        sent = _passed(output, named["post_forward"])
        returned = _passed(gradient, named["post_backward"])
        if output is not None:
            after_f(output.chunk, output, 0)
        if gradient is not None:
            after_b(backward)
        return sent, returned

    def _forward(self, chunk: int, microbatch: int, read: object) -> tuple[Tag, int]:
        received = tag_of(read)
        if received is not None:
            received.named(chunk=chunk, microbatch=microbatch)
        self.log.append(f"{self._stage(chunk)}F{microbatch}")
        return Tag(chunk=chunk, microbatch=microbatch), 0

    def _backward(self, made: Tag | None, grad: object) -> Tag:
        assert made is not None  # noqa: S101  every output is a tag that we made
        received = tag_of(grad)
        if received is not None:
            received.named(chunk=made.chunk, microbatch=made.microbatch)
        return Tag(chunk=made.chunk, microbatch=made.microbatch)

    def _stage(self, chunk: int) -> int:
        return chunk * self.case.pp + self.case.rank

    def _text(self, entry: Any) -> str:  # noqa: ANN401  a word, or the transfers of a call
        if isinstance(entry, str):
            return entry
        return call_text(
            [f"{self._stage(one.tag.chunk)}{one.what}{one.tag.microbatch}" for one in entry]
        )

    def _run(self, case: Case) -> None:
        is_one = case.schedule in ONE_CHUNK
        overlaps = case.p2p is not P2p.BATCHED
        self.case, self.log = case, []
        self.models = [torch.nn.Module() for _ in range(case.vpp)]
        self.config = Config(
            virtual_pipeline_model_parallel_size=None if is_one else case.vpp,
            microbatch_group_size_per_vp_stage=case.microbatch_group_size,
            overlap_p2p_comm=overlaps,
            batch_p2p_comm=not overlaps,
            overlap_p2p_comm_warmup_flush=case.p2p is P2p.OVERLAPPED_TO_THE_ENDS,
            overlap_moe_expert_parallel_comm=case.schedule == COMBINED,
        )
        said = self._surroundings()
        loop = {
            "no-pipeline": schedules.forward_backward_no_pipelining,
            "1f1b": schedules.forward_backward_pipelining_without_interleaving,
        }.get(case.schedule, schedules.forward_backward_pipelining_with_interleaving)
        loop(
            data_iterator=None if is_one else [None] * case.vpp,
            model=self.models[0] if is_one else self.models,
            num_microbatches=case.num_microbatches,
            **said,
        )

    def _surroundings(self) -> dict[str, Any]:
        communicator = Communicator(
            pp=self.case.pp, rank=self.case.rank, config=self.config, log=self.log
        )
        alone = SimpleNamespace(size=lambda: 1, rank=lambda: 0)
        groups = process_groups_config.ProcessGroupCollection(
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


def _call(hook: Callable[[], None] | None) -> None:
    if hook is not None:
        hook()


def _passed(tensor: Tag | None, hook: Callable[[Tag], Tag | None] | None) -> Tag | None:
    """Return what a hook makes of a tensor, if there are both."""
    return tensor if tensor is None or hook is None else hook(tensor)
