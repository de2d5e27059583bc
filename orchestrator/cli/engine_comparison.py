"""Compares our schedules with what installed engines do; each engine runs in a process of its own.

Private names of engines move between versions. Then the answer is not a difference but
`problem`: the comparison itself no longer fits the engine.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

from launch.transport.commands import CommandAnswer, ask
from launch.workers.engine_check.cases import Case, P2p
from orchestrator.schedules import legal, zero_bubble
from orchestrator.schedules.engines import SWITCHES, PipelineEngine
from orchestrator.schedules.schedule import Schedule, arranged
from orchestrator.schedules.streams import deepspeed, megatron, torch_loops, torch_tables
from orchestrator.specs.choices import ScheduleKind

TIMEOUT_S = 300.0
"""Importing an engine takes up to twenty seconds on a cold disk, the cases a few more."""

_WORKER = "launch.workers.engine_check.main"
_SHOWN = 3
_LARGEST_PP = 3
_TWO_CHUNKS = (ScheduleKind.ZB_V, ScheduleKind.DUAL_PIPE_V)
_ONE_CHUNK = (ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B, ScheduleKind.GPIPE)
_GROUPED = (ScheduleKind.INTERLEAVED, ScheduleKind.COMBINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found of one engine; `version` is None where it is not installed.

    `compared` counts rank tables, `refused` those that both sides refuse.
    """

    engine: PipelineEngine
    version: str | None
    compared: int = 0
    refused: int = 0
    differences: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether nothing speaks against what we know of the engine."""
        return not self.differences and self.problem is None


def compare(engine: PipelineEngine) -> Comparison:
    """Return how an installed engine compares with our schedules."""
    cases = tuple(_cases(engine))
    text = "".join(json.dumps(asdict(case)) + "\n" for case in cases)
    # -P: a folder `launch` or `torch` in the working folder must not be imported instead.
    answer = ask(
        [sys.executable, "-P", "-m", _WORKER, engine.value], text=text, timeout_s=TIMEOUT_S
    )
    lines = [json.loads(line) for line in answer.out.splitlines()]
    if not lines or answer.exit_code != 0:
        return Comparison(engine=engine, version=None, problem=_why(answer))
    if "missing" in lines[0]:
        return Comparison(engine=engine, version=None)
    return _judged(engine, lines[0]["version"], cases, lines[1:])


def _judged(
    engine: PipelineEngine, version: str, cases: tuple[Case, ...], answers: list[dict[str, object]]
) -> Comparison:
    problem = None
    if answers and "broken" in answers[-1]:
        problem = f"{answers.pop()['broken']} (llmorch knows other versions of {engine})"
    differences, refused = [], 0
    for case, theirs in zip(cases, answers, strict=False):
        ours = _expected(engine, case)
        if ours is None or theirs["refused"] is not None:
            refused += 1
            if (ours is None) != (theirs["refused"] is not None):
                who = "llmorch alone" if ours is None else f"{engine} alone"
                differences.append(f"{_words(case)}: refused by {who}")
        elif theirs["stream"] != list(ours):
            differences.append(f"{_words(case)}: {_first_difference(ours, theirs['stream'])}")
    return Comparison(
        engine=engine,
        version=version,
        compared=len(answers),
        refused=refused,
        differences=tuple(differences),
        problem=problem,
    )


def summary(found: Comparison) -> list[str]:
    """Return a comparison for people."""
    if found.version is None and found.problem is None:
        return [f"{found.engine}: not installed"]
    name = f"{found.engine} {found.version or ''}".rstrip()
    counts = f"{found.compared:,} rank tables, {len(found.differences)} differ"
    lines = [f"{name}: {counts}, {found.refused} refused by both"]
    if found.problem is not None:
        lines.append(f"  could not compare on: {found.problem}")
    return [*lines, *(f"  {text}" for text in found.differences[:_SHOWN])]


def _cases(engine: PipelineEngine) -> Iterator[Case]:
    for kind, pp in itertools.product(SWITCHES, range(1, _LARGEST_PP + 1)):
        if engine not in SWITCHES[kind] or (kind is ScheduleKind.NO_PIPELINE) != (pp == 1):
            continue
        vpps = (1,) if kind in _ONE_CHUNK else (2,) if kind in _TWO_CHUNKS else (2, 3)
        for vpp, m in itertools.product(vpps, range(1, 3 * pp + 2)):
            yield from _rank_cases(engine, kind, pp=pp, vpp=vpp, m=m)


def _rank_cases(
    engine: PipelineEngine, kind: ScheduleKind, *, pp: int, vpp: int, m: int
) -> Iterator[Case]:
    is_grouped = engine is PipelineEngine.MEGATRON and kind in _GROUPED
    own = zero_bubble.group_size(pp=pp, num_microbatches=m)
    for group in (pp, pp + 1) if is_grouped else (own,):
        for p2p, rank in itertools.product(P2p if is_grouped else (P2p.BATCHED,), range(pp)):
            yield Case(
                engine=engine.value,
                schedule=kind.value,
                pp=pp,
                vpp=vpp,
                num_microbatches=m,
                microbatch_group_size=group,
                rank=rank,
                p2p=p2p,
            )


def _expected(engine: PipelineEngine, case: Case) -> tuple[str, ...] | None:
    """Return the stream that we expect, None where we expect a refusal."""
    kind = ScheduleKind(case.schedule)
    words = {
        "pp": case.pp,
        "vpp": case.vpp,
        "num_microbatches": case.num_microbatches,
        "microbatch_group_size": case.microbatch_group_size,
    }
    if legal.refusal_by(engine, kind, **words) is not None:
        return None
    return _stream(engine, _arranged(kind, **words), case)


@lru_cache(maxsize=4)  # the ranks of a case come one after the other
def _arranged(kind: ScheduleKind, **words: int) -> Schedule:
    return arranged(kind, **words)


@lru_cache(maxsize=4)
def _lowered(schedule: Schedule) -> tuple[tuple[str, ...], ...]:
    return torch_tables.streams(schedule)


def _stream(engine: PipelineEngine, schedule: Schedule, case: Case) -> tuple[str, ...]:
    if engine is PipelineEngine.MEGATRON:
        return megatron.stream(schedule, rank=case.rank, p2p=megatron.P2p(case.p2p.value))
    if engine is PipelineEngine.DEEPSPEED:
        return deepspeed.stream(schedule, rank=case.rank)
    if schedule.kind in {ScheduleKind.GPIPE, ScheduleKind.ONE_F_ONE_B}:
        return torch_loops.stream(schedule, rank=case.rank)
    return _lowered(schedule)[case.rank]


def _words(case: Case) -> str:
    return (
        f"{case.schedule} pp {case.pp} vpp {case.vpp} microbatches {case.num_microbatches} "
        f"group {case.microbatch_group_size} rank {case.rank} {case.p2p.value}"
    )


def _first_difference(ours: tuple[str, ...], theirs: object) -> str:
    pairs = itertools.zip_longest(ours, theirs if isinstance(theirs, list) else [])
    place, (mine, other) = next(
        (place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1]
    )
    return f"step {place} is '{other}', not '{mine}'"


def _why(answer: CommandAnswer) -> str:
    if answer.exit_code is None:
        return f"no answer within {TIMEOUT_S:.0f} s"
    tail = answer.err.strip().splitlines()[-1:] or ["it said nothing"]
    return f"the check ended with exit code {answer.exit_code}: {tail[0]}"
