"""The journal file: what it holds, what it forgives, what it refuses."""

import errno
import fcntl
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from launch.supervisor.events import AgentJoined, PortGranted, RunOpened
from launch.supervisor.instructions import AskPort, CloseRun, Say
from launch.supervisor.journal import Decided, Edges, Happened, Journal, edges, read, replay
from launch.supervisor.run_state import Phase
from launch.supervisor.state import open_run
from launch.supervisor.verdict import Verdict
from orchestrator.errors import StorageError
from tests.fakes.world import FakeWorld, terms_of

OPENED = RunOpened(at_s=1.0, epoch=1, terms=terms_of(hosts=1), generation=0, checkpoints=())
JOINED = AgentJoined(at_s=2.0, agent_id=0, host="h1", pid=7)
ASKED = AskPort(agent_id=0, generation=1, port=None)
LATE = PortGranted(at_s=3.0, generation=0, port=4)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.happened(OPENED)
    journal.happened(JOINED)
    journal.decided(ASKED)
    journal.came_late(LATE)
    journal.sync()
    journal.close()
    return path


def test_what_was_written_is_read_in_order(path) -> None:
    assert read(path).entries == (
        Happened(seq=1, event=OPENED, is_stale=False),
        Happened(seq=2, event=JOINED, is_stale=False),
        Decided(seq=3, instruction=ASKED),
        Happened(seq=4, event=LATE, is_stale=True),
    )


def test_a_line_is_json_whose_checksum_anybody_can_check(path) -> None:
    line = path.read_bytes().splitlines()[1]

    content = json.loads(line)
    rest = line[len(b'{"crc":"00000000",') :]
    assert content["seq"] == 2
    assert content["event"]["kind"] == "agent_joined"
    assert int(content["crc"], 16) == zlib.crc32(rest)


def test_a_torn_last_line_is_dropped(path) -> None:
    path.write_bytes(path.read_bytes() + b'{"crc":"12345678","seq":5,"eve')

    assert len(read(path).entries) == 4


def test_a_damaged_last_line_is_dropped(path) -> None:
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + bytes(len(last) - 1) + b"\n")

    assert len(read(path).entries) == 3


def test_writing_goes_on_where_a_torn_line_began(path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"crc":"1234')

    journal = Journal(path)
    journal.decided(Say(sentence="on we go"))
    journal.close()

    assert read(path).entries[-1] == Decided(seq=5, instruction=Say(sentence="on we go"))
    assert path.read_bytes().startswith(whole)


def test_a_damaged_line_in_the_middle_is_refused_with_its_number(path) -> None:
    text = path.read_text().replace('"host":"h1"', '"host":"h2"')
    path.write_text(text)

    with pytest.raises(StorageError, match="line 2: damaged"):
        read(path)


def test_a_missing_line_is_refused_with_its_number(path) -> None:
    first, _, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join((first, *others)))

    with pytest.raises(StorageError, match="line 2: has the number 3"):
        read(path)


def test_a_line_of_an_unknown_kind_is_refused(path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    rest = b'"seq":2,"event":{"kind":"dance"}}'
    lines[1] = b'{"crc":"%08x",%s\n' % (zlib.crc32(rest), rest)
    path.write_bytes(b"".join(lines))

    with pytest.raises(StorageError, match="line 2: kind: unknown kind 'dance'"):
        read(path)


def test_a_new_journal_is_empty(tmp_path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")

    assert journal.before.entries == ()
    journal.close()


def test_the_tail_is_the_last_lines(path) -> None:
    journal = Journal(path)
    for number in range(30):
        journal.decided(Say(sentence=f"sentence {number}"))

    tail = journal.tail()
    journal.close()
    assert len(tail) == 20
    assert tail == tuple(path.read_text().splitlines()[-20:])


def history() -> list:
    world = FakeWorld(terms_of(hosts=1, slots=1))
    world.let_peace(until=Phase.ENDED)
    return world.entries


def test_a_replay_leads_to_the_same_state() -> None:
    assert replay(history()).phase is Phase.ENDED


def test_a_replay_forgives_instructions_that_were_never_written() -> None:
    entries = history()[:4]  # opened, start_agent, set_deadline, joined: and then the lights went

    assert replay(entries).phase is Phase.RESERVING


def test_a_replay_refuses_an_instruction_that_would_not_be_given() -> None:
    entries = history()
    at = next(i for i, e in enumerate(entries) if isinstance(e, Decided) and i > 3)
    entries[at] = replace(entries[at], instruction=Say(sentence="something else"))

    with pytest.raises(StorageError, match=f"line {entries[at].seq}: not what this program"):
        replay(entries)


def test_a_replay_refuses_a_history_without_its_instructions() -> None:
    events_alone = [entry for entry in history() if isinstance(entry, Happened)]

    with pytest.raises(StorageError, match="not what this program"):
        replay(events_alone)


def test_a_second_reign_begins_anew_where_the_first_stopped() -> None:
    second = replace(OPENED, epoch=2, generation=3, checkpoints=(4, 8))
    entries = [*history(), Happened(seq=99, event=second, is_stale=False)]

    assert replay(entries) == open_run(second)[0]


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(StorageError, match="it is empty"):
        replay([])


def test_two_controllers_cannot_write_one_journal(path) -> None:
    first = Journal(path)

    with pytest.raises(StorageError, match="another controller is at work on this run"):
        Journal(path)
    first.close()
    Journal(path).close()


def test_a_file_system_without_locks_is_no_obstacle(path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    journal = Journal(path)
    journal.close()

    assert len(journal.before.entries) == 4


def test_the_edges_of_a_journal_are_known_without_what_is_between(path) -> None:
    journal = Journal(path)
    journal.happened(OPENED)
    before = edges(path)
    journal.decided(CloseRun(verdict=Verdict.FINISHED, reason="step 3 done"))
    journal.close()

    after = edges(path)
    assert (before.opened, before.closed) == (OPENED, None)
    assert (after.opened, after.closed.reason) == (OPENED, "step 3 done")


@pytest.mark.parametrize("written", ["", '{"crc":"0'], ids=["empty", "torn"])
def test_a_journal_that_is_being_begun_has_no_edges_yet(path, written: str) -> None:
    path.write_text(written)

    assert edges(path) == Edges(opened=None, closed=None)


def test_what_is_no_journal_has_no_edges(path) -> None:
    path.write_text("hello\n")

    with pytest.raises(StorageError, match="line 1: not the beginning of a run"):
        edges(path)
