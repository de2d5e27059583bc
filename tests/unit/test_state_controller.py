"""The controller's loop: what is written, what is done, and in which order."""

import errno
import os
from dataclasses import dataclass, field

import pytest

from launch.rank_lines import StepLine
from launch.request import HangTerms
from launch.supervisor.events import (
    AgentJoined,
    InterruptAsked,
    PortGranted,
    RanksStepping,
    RunOpened,
)
from launch.supervisor.instructions import AskPort, CloseRun, Instruction, StopGeneration
from launch.supervisor.journal import Decided, Happened, replay
from launch.supervisor.loop import Controller
from launch.supervisor.observer import StepRow
from launch.supervisor.run_state import Phase
from launch.supervisor.state import InvalidTransition
from launch.supervisor.verdict import Verdict
from launch.wire import Exited, PortReserved, RankLine, Started
from orchestrator.errors import HostError
from tests.fakes.clock import FakeClock
from tests.fakes.journal import FakeJournal
from tests.fakes.world import terms_of


@dataclass
class Watcher:
    """An observer, a doer and a metrics file, which all only remember."""

    journal: FakeJournal
    rows: list[StepRow] = field(default_factory=list)
    metrics: list[StepRow] = field(default_factory=list)
    phases: list[tuple[Phase, int]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    done: list[tuple[Instruction, int]] = field(default_factory=list)
    is_full: bool = False

    def on_step(self, row: StepRow) -> None:
        self.rows.append(row)

    def on_phase(self, phase: Phase, generation: int) -> None:
        self.phases.append((phase, generation))

    def on_sentence(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def do(self, instruction: Instruction) -> None:
        self.done.append((instruction, self.journal.synced))

    def append(self, row: StepRow) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.metrics.append(row)


class Scene:
    def __init__(self, *, slots: int = 2) -> None:
        self.journal = FakeJournal()
        self.watcher = Watcher(self.journal)
        self.clock = FakeClock()
        self.is_superseded = False
        self.controller = Controller(
            opened=RunOpened(
                at_s=1.0,
                epoch=1,
                terms=terms_of(hosts=1, slots=slots),
                generation=0,
                checkpoints=(),
            ),
            journal=self.journal,
            metrics=self.watcher,
            clock=self.clock,
            observer=self.watcher,
            confirm_reign=self._confirm,
            hang=HangTerms(floor_s=2.0, ceiling_s=60.0, phase_s=600.0),
        )

    def _confirm(self) -> None:
        if self.is_superseded:
            raise HostError(host="h", problem="epoch 2 took over")

    def started(self) -> "Scene":
        self.controller.begin(self.watcher)
        self.controller.post(AgentJoined(at_s=2.0, agent_id=0, host="h", pid=9))
        self.controller.heard(0, PortReserved(generation=1, port=5))
        for rank in sorted(self.controller.state.terms.ranks):
            self.controller.heard(0, Started(generation=1, rank=rank, pid=10 + rank))
        return self

    def step(self, rank: int, step: int, *, loss: float | None = None) -> None:
        line = StepLine(
            step=step, loss=loss, grad_norm=None, learning_rate=None, tokens=64, duration_s=0.5
        )
        generation = self.controller.state.generation
        self.controller.heard(0, RankLine(generation=generation, rank=rank, record=line))

    @property
    def done(self) -> list[Instruction]:
        return [instruction for instruction, _ in self.watcher.done]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_instruction_is_written_and_synced_before_it_is_done(scene) -> None:
    scene.started()

    places = {id(e.instruction): e.seq for e in scene.journal.entries if isinstance(e, Decided)}
    for instruction, synced in scene.watcher.done:
        assert places[id(instruction)] <= synced


def test_the_journal_replays_to_the_controllers_state(scene) -> None:
    scene.started()
    scene.step(0, 1, loss=2.0)
    scene.step(1, 1)

    assert replay(scene.journal.entries) == scene.controller.state


def test_a_stale_event_is_kept_as_such(scene) -> None:
    scene.started()
    late = PortReserved(generation=0, port=5)

    scene.controller.heard(0, late)

    entry = scene.journal.entries[-1]
    assert isinstance(entry, Happened)
    assert entry.is_stale
    assert isinstance(entry.event, PortGranted)


def test_the_observer_hears_every_phase_and_sentence(scene) -> None:
    scene.started()

    assert scene.watcher.phases == [(Phase.RESERVING, 1), (Phase.STARTING, 1)]
    assert scene.watcher.sentences == [
        "generation 1 starts from scratch on 2 ranks, rendezvous port 5"
    ]


def test_the_first_common_step_is_an_event_and_the_others_are_not(scene) -> None:
    scene.started()

    for step in (1, 2, 3):
        scene.step(0, step, loss=1.0)
        scene.step(1, step)

    stepping = [e.event for e in scene.journal.entries if isinstance(e, Happened)]
    assert [e.step for e in stepping if isinstance(e, RanksStepping)] == [1]
    assert scene.controller.state.phase is Phase.RUNNING


def test_a_step_is_one_row_from_a_rank_that_knows_the_loss(scene) -> None:
    scene.started()

    scene.step(0, 1)
    scene.step(1, 1, loss=2.5)
    scene.step(0, 2, loss=2.0)
    scene.step(1, 2, loss=2.0)

    assert [(row.step, row.loss) for row in scene.watcher.metrics] == [(1, 2.5), (2, 2.0)]
    assert scene.watcher.rows == scene.watcher.metrics


def test_a_step_whose_loss_nobody_knows_is_a_row_when_all_have_done_it(scene) -> None:
    scene.started()

    scene.step(0, 1)
    before = len(scene.watcher.metrics)
    scene.step(1, 1)

    assert (before, len(scene.watcher.metrics)) == (0, 1)
    assert scene.watcher.metrics[0].loss is None


def test_steps_of_an_older_generation_are_no_rows(scene) -> None:
    scene.started()
    line = StepLine(step=1, loss=1.0, grad_norm=None, learning_rate=None, tokens=1, duration_s=0.1)

    scene.controller.heard(0, RankLine(generation=0, rank=0, record=line))

    assert scene.watcher.metrics == []


def test_after_a_restart_steps_are_rows_again(scene) -> None:
    scene.started()
    scene.step(0, 1, loss=3.0)
    for rank in (0, 1):
        scene.controller.heard(
            0,
            Exited(generation=1, rank=rank, pid=1, exit_code=None, signal=9, tail=("killed",)),
        )
    scene.controller.heard(0, PortReserved(generation=2, port=6))

    scene.step(0, 1, loss=3.0)

    assert [(row.step, row.generation) for row in scene.watcher.metrics] == [(1, 1), (1, 2)]


def test_a_full_disk_stops_the_ranks_and_is_the_verdict(scene) -> None:
    scene.started()
    scene.journal.is_full = True

    scene.controller.post(InterruptAsked(at_s=3.0, signal="SIGINT"))

    assert isinstance(scene.done[-2], StopGeneration)
    assert scene.controller.state.verdict is Verdict.STORAGE
    assert "No space left" in scene.controller.state.reason


def test_full_metrics_stop_the_run_as_well(scene) -> None:
    scene.started()
    scene.watcher.is_full = True

    scene.step(0, 1, loss=1.0)

    assert scene.controller.state.verdict is Verdict.STORAGE


def test_a_run_whose_disk_is_full_from_the_start_ends(scene) -> None:
    scene.journal.is_full = True

    scene.controller.begin(scene.watcher)

    assert scene.done[-1] == CloseRun(
        verdict=Verdict.STORAGE, reason="run directory: No space left on device"
    )


def test_after_the_end_nothing_is_decided_or_written(scene) -> None:
    scene.controller.begin(scene.watcher)
    scene.controller.post(InterruptAsked(at_s=3.0, signal="SIGINT"))
    entries, done = len(scene.journal.entries), len(scene.done)

    scene.controller.post(AgentJoined(at_s=4.0, agent_id=0, host="h", pid=9))

    assert (len(scene.journal.entries), len(scene.done)) == (entries, done)


def test_an_impossible_event_is_a_bug_that_shows_the_journals_tail(scene) -> None:
    scene.started()

    with pytest.raises(InvalidTransition, match="no transition from starting on agent_joined"):
        scene.controller.post(AgentJoined(at_s=5.0, agent_id=0, host="h", pid=9))


def test_the_tail_of_an_impossible_event_ends_with_it(scene) -> None:
    scene.started()

    with pytest.raises(InvalidTransition) as caught:
        scene.controller.post(AgentJoined(at_s=5.0, agent_id=0, host="h", pid=9))
    assert "AgentJoined" in caught.value.tail[-1]


def test_a_controller_that_was_replaced_does_nothing_more(scene) -> None:
    scene.controller.begin(scene.watcher)
    scene.is_superseded = True

    with pytest.raises(HostError, match="epoch 2 took over"):
        scene.controller.post(AgentJoined(at_s=2.0, agent_id=0, host="h", pid=9))
    assert not any(isinstance(instruction, AskPort) for instruction in scene.done)


def test_a_watcher_whose_terminal_is_gone_does_not_end_the_run(scene) -> None:
    scene.started()

    def gone(row: StepRow) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    scene.watcher.on_step = gone

    scene.step(0, 1, loss=2.0)
    scene.step(1, 1)

    assert scene.controller.state.phase is Phase.RUNNING
    assert [row.step for row in scene.watcher.metrics] == [1]
