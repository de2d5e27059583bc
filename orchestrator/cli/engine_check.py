"""Asks installed engines about a run without a GPU, and compares their answers with ours.

Each engine runs in a process of its own (`launch/workers/engine_check`), started when it is asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launch.workers.engine_check.questions import Answer, Topic
from orchestrator.cli import engine_check_compare as compare
from orchestrator.cli.engine_check_conversation import Told, conversation, is_installed
from orchestrator.cli.engine_check_questions import (
    DEEPSPEED,
    MEGATRON,
    Asked,
    Job,
    deepspeed_questions,
    megatron_questions,
    unasked_of_a_step,
    unasked_of_deepspeed,
)
from orchestrator.errors import EngineDisagrees, EngineRefused
from orchestrator.units import text_of_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was asked of an engine and how the answer compares; equal without differences."""

    asked: str
    seconds: float
    differences: tuple[str, ...] = ()
    refused: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether the engine takes it and says what we say."""
        return not self.differences and self.refused is None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAnswer:
    """All findings on one engine; `unasked` says what could not be asked of it, and why."""

    engine: str
    version: str
    findings: tuple[Finding, ...]
    unasked: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether nothing speaks against our numbers."""
        return all(finding.is_equal for finding in self.findings)

    def error(self) -> EngineRefused:
        """Return the differences as an error, in the engine's own words where it refuses."""
        wrong = [finding for finding in self.findings if not finding.is_equal]
        refused = [finding.refused for finding in wrong if finding.refused is not None]
        if refused:
            reason = "\n  ".join(dict.fromkeys(refused))
            return EngineRefused(engine=f"{self.engine} {self.version}", reason=reason)
        lines = [f"{finding.asked}: {text}" for finding in wrong for text in finding.differences]
        return EngineDisagrees(engine=f"{self.engine} {self.version}", differences=lines)


Pairs = Sequence[tuple[Asked, Answer]]


def checked(job: Job, told: Told) -> tuple[EngineAnswer, ...]:
    """Return what the engines say of a run: the run's own, and DeepSpeed of data parallelism.

    The Megatron engines are all asked as Megatron-Core, which they share.

    Raises:
        HostError: the run's engine is not installed.
        EngineRefused: the installed engine is not as we know it.
    """
    is_deepspeed = job.run.spec.engine.name == DEEPSPEED
    answers = [] if is_deepspeed else [_megatron(job, told)]
    if is_deepspeed or (not unasked_of_deepspeed(job) and is_installed(DEEPSPEED)):
        answers.append(_deepspeed(job, told))
    return tuple(answers)


def _deepspeed(job: Job, told: Told) -> EngineAnswer:
    asked = deepspeed_questions(job)
    version, answers = conversation(DEEPSPEED, asked, told)
    return deepspeed_answer(job, version, tuple(zip(asked, answers, strict=True)))


def deepspeed_answer(job: Job, version: str, pairs: Pairs) -> EngineAnswer:
    """Return how DeepSpeed's answers compare, given with the questions of a run."""
    (_, config), *rest = pairs
    stage, world = job.layout.zero_stage, job.layout.world_size
    findings = [
        Finding(
            asked=f"its reading of batch, ZeRO {stage} and precision, {world:,} ranks",
            seconds=config.seconds,
            differences=tuple(compare.config_differences(job, config.partition or {})),
            refused=config.refused,
        )
    ]
    if rest:
        findings.append(_partition(rest, stage=stage))
    unasked = unasked_of_deepspeed(job)
    return EngineAnswer(
        engine=DEEPSPEED, version=version, findings=tuple(findings), unasked=unasked
    )


def _partition(pairs: Pairs, *, stage: int) -> Finding:
    differences = [
        f"rank {asked.question.rank}: {text}"
        for asked, answer in pairs
        if answer.partition is not None
        for text in compare.partition_differences(asked, answer.partition)
    ]
    elements = sum(pairs[0][0].question.tensors)
    return Finding(
        asked=f"ZeRO {stage} shares of {_ranks(pairs)} of {elements:,} parameters",
        seconds=sum(answer.seconds for _, answer in pairs),
        differences=tuple(differences),
        refused=_refused(answer for _, answer in pairs),
    )


def _megatron(job: Job, told: Told) -> EngineAnswer:
    asked = megatron_questions(job)
    version, answers = conversation(MEGATRON, asked, told)
    return megatron_answer(job, version, tuple(zip(asked, answers, strict=True)))


def megatron_answer(job: Job, version: str, pairs: Pairs) -> EngineAnswer:
    """Return how Megatron-Core's answers compare, given with the questions of a job."""
    of_stages = [pair for pair in pairs if pair[0].question.topic is Topic.PARAMETERS]
    of_ranks = [pair for pair in pairs if pair[0].question.topic is not Topic.PARAMETERS]
    findings = [_groups(of_ranks), _parameters(job, of_stages)]
    if of_ranks[0][0].question.topic is Topic.STEP:
        findings.append(_step(job, of_ranks))
    return EngineAnswer(
        engine=MEGATRON,
        version=version,
        findings=tuple(findings),
        unasked=tuple(f"a step: {reason}" for reason in unasked_of_a_step(job)),
    )


def _groups(pairs: Pairs) -> Finding:
    world = pairs[0][0].question.world_size
    differences = [
        f"rank {asked.question.rank}: {text}"
        for asked, answer in pairs
        if answer.groups is not None
        for text in compare.group_differences(asked, answer.groups)
    ]
    return Finding(
        asked=f"process groups of {_ranks(pairs)} of {world:,}",
        seconds=sum(answer.groups_s for _, answer in pairs),
        differences=tuple(differences),
        refused=_refused(answer for _, answer in pairs if answer.groups is None),
    )


def _parameters(job: Job, pairs: Pairs) -> Finding:
    run = job.run
    held = [answer.held for _, answer in pairs if answer.held is not None]
    differences: list[str] = []
    count = 0
    if len(held) == len(pairs):
        differences += [
            text
            for (asked, _), one in zip(pairs, held, strict=True)
            for text in compare.held_differences(run, asked, one)
        ]
        count, ours = compare.whole_model(run, pairs[0][0].layout, held), compare.our_count(run)
        if count != ours:
            differences.append(f"the model has {count:,} parameters, not {ours:,}")
    stages = "1 pipeline rank" if len(pairs) == 1 else f"{len(pairs)} pipeline ranks"
    return Finding(
        asked=f"parameters of {stages}: {count:,} in all",
        seconds=sum(answer.seconds for _, answer in pairs),
        differences=tuple(differences),
        refused=_refused(answer for _, answer in pairs if answer.held is None),
    )


def _step(job: Job, pairs: Pairs) -> Finding:
    recorded = [one for _, answer in pairs for one in answer.recorded]
    calls = sum(one.calls for one in recorded)
    size = sum(one.calls * one.payload_bytes for one in recorded)
    microbatches = pairs[0][0].question.num_microbatches
    of_all = f" of {job.num_microbatches:,}" if microbatches < job.num_microbatches else ""
    differences = [
        f"rank {asked.question.rank}: {text}"
        for asked, answer in pairs
        if answer.refused is None
        for text in compare.call_differences(job.run, asked, answer.recorded)
    ]
    return Finding(
        asked=f"a step of {_ranks(pairs)}, {microbatches:,}{of_all} microbatches: "
        f"{calls:,} calls, {text_of_bytes(size)}",
        seconds=sum(answer.seconds - answer.groups_s for _, answer in pairs),
        differences=tuple(differences),
        refused=_refused(answer for _, answer in pairs if answer.groups is not None),
    )


def _ranks(pairs: Pairs) -> str:
    ranks = [f"{asked.question.rank:,}" for asked, _ in pairs]
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(ranks[:-1])} and {ranks[-1]}"


def _refused(answers: Iterable[Answer]) -> str | None:
    return next((answer.refused for answer in answers if answer.refused is not None), None)
