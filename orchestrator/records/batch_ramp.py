"""Which batch size each step has, and how many steps a token budget takes.

A ramp is a list of phases, each of one batch size; without one there is a single phase. The
planner counts steps with it, and the worker takes its batches by it, so the two cannot differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.errors import Problem
from orchestrator.specs.training import BatchPhaseSpec, TrainingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPhase:
    """Steps of one batch size; `first_step` and `first_sample` are what is done before it."""

    first_step: int
    first_sample: int
    global_batch_size: int

    def steps_for(self, samples: int) -> int:
        """Steps of this phase until so many samples are consumed since the run's beginning."""
        return -(-(samples - self.first_sample) // self.global_batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRamp:
    """The phases of a run, in order; the first begins at step 0."""

    phases: tuple[BatchPhase, ...]

    def batch_size_after(self, steps: int) -> int:
        """Sequences of the step that follows so many steps."""
        return self._phase_of(steps).global_batch_size

    def samples_after(self, steps: int) -> int:
        """Sequences consumed by so many steps."""
        phase = self._phase_of(steps)
        return phase.first_sample + (steps - phase.first_step) * phase.global_batch_size

    def steps_for(self, samples: int) -> int:
        """Steps until at least so many sequences are consumed."""
        phase = [phase for phase in self.phases if phase.first_sample < max(1, samples)][-1]
        return phase.first_step + phase.steps_for(samples)

    def _phase_of(self, steps: int) -> BatchPhase:
        return [phase for phase in self.phases if phase.first_step <= steps][-1]


def ramp_of(training: TrainingSpec) -> BatchRamp:
    """Return the batch sizes of a training whose ramp has no problems."""
    if not training.batch_ramp:
        only = BatchPhase(
            first_step=0, first_sample=0, global_batch_size=training.global_batch_size
        )
        return BatchRamp(phases=(only,))
    return BatchRamp(phases=_phases(training.batch_ramp, training.sequence_length))


def ramp_problems(training: TrainingSpec) -> Iterator[Problem]:
    """Say what of a ramp cannot be: phases that do not begin one after another, from 0."""
    phases = _phases(training.batch_ramp, training.sequence_length)
    for i, (spec, phase) in enumerate(zip(training.batch_ramp, phases, strict=True)):
        key = f"training.batch_ramp.{i}"
        if i == 0 and phase.first_step != 0:
            message = f"{_start(spec)}: the first phase begins at 0"
            yield Problem(key=key, message=message, possible="possible: from_steps: 0")
        if i > 0 and phase.first_step <= phases[i - 1].first_step:
            before = phases[i - 1].first_step
            message = (
                f"{_start(spec)} is step {phase.first_step}, not after step {before}, "
                "with which the phase before it begins"
            )
            yield Problem(key=key, message=message, possible="order the phases by their start")


def _phases(specs: Sequence[BatchPhaseSpec], sequence_length: int) -> tuple[BatchPhase, ...]:
    phases: list[BatchPhase] = []
    for spec in specs:
        before = (
            phases[-1]
            if phases
            else BatchPhase(first_step=0, first_sample=0, global_batch_size=spec.global_batch_size)
        )
        steps = before.first_step + before.steps_for(_samples(spec, before, sequence_length))
        phases.append(
            BatchPhase(
                first_step=steps,
                first_sample=before.first_sample
                + (steps - before.first_step) * before.global_batch_size,
                global_batch_size=spec.global_batch_size,
            )
        )
    return tuple(phases)


def _samples(spec: BatchPhaseSpec, before: BatchPhase, sequence_length: int) -> int:
    """Samples consumed at a phase's start, in what it is given in; tokens round down to samples.

    So does Megatron's calculator (`megatron/core/num_microbatches_calculator.py`, 0.19.2).
    """
    if spec.from_tokens is not None:
        return spec.from_tokens // sequence_length
    if spec.from_samples is not None:
        return spec.from_samples
    steps = (spec.from_steps or 0) - before.first_step
    return before.first_sample + steps * before.global_batch_size


def _start(spec: BatchPhaseSpec) -> str:
    names = ("from_steps", "from_samples", "from_tokens")
    (given,) = [(name, getattr(spec, name)) for name in names if getattr(spec, name) is not None]
    return f"{given[0]} {given[1]}"
