"""Many commands at a time: bounds, deadlines, order, and nothing left behind."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.transport.many import Question, Reply, ask_many


def ask(
    *commands: str, at_once: int = 8, timeout_s: float = 30.0, text: bytes = b""
) -> list[Reply]:
    questions = [
        Question(argv=("sh", "-c", command), text=text, timeout_s=timeout_s) for command in commands
    ]
    return list(ask_many(questions, at_once=at_once, wall_s=lambda: 7.0))


def test_replies_come_in_the_questions_order() -> None:
    replies = ask("sleep 0.2; echo first", "echo second; echo aside >&2; exit 3")

    assert [(r.exit_code, r.out, r.err) for r in replies] == [
        (0, "first\n", ""),
        (3, "second\n", "aside\n"),
    ]


def test_a_command_reads_what_it_is_told() -> None:
    (reply,) = ask("cat", text=b"x" * 200_000)

    assert reply.out == "x" * 200_000


def test_no_more_run_at_a_time_than_allowed(tmp_path: Path) -> None:
    begin = f"cd {tmp_path}; touch $$; ls | wc -l; rm $$"
    replies = ask(*[begin] * 6, at_once=2)

    assert max(int(reply.out) for reply in replies) <= 2


def test_a_command_that_does_not_end_in_time_is_killed_with_its_children() -> None:
    (reply,) = ask("sleep 300 & echo $!; wait", timeout_s=0.5)

    assert reply.exit_code is None
    assert ends(int(reply.out))


def test_a_helper_that_holds_the_outputs_is_not_waited_for() -> None:
    began_s = time.monotonic()
    (reply,) = ask("setsid sleep 20 & echo $!")
    os.kill(int(reply.out), signal.SIGKILL)

    assert reply.exit_code == 0
    assert time.monotonic() - began_s < 15


def test_a_program_that_is_not_there_answers_as_a_shell_would() -> None:
    question = Question(argv=("/nowhere/ssh",), text=b"", timeout_s=1.0)

    (reply,) = ask_many([question], at_once=1, wall_s=lambda: 0.0)

    assert reply.exit_code == 127
    assert reply.err == "cannot start /nowhere/ssh: No such file or directory"


def test_a_signal_is_told_as_a_negative_code() -> None:
    (reply,) = ask("kill -TERM $$")

    assert reply.exit_code == -signal.SIGTERM


def test_an_interrupt_kills_what_still_runs(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    os.mkfifo(note)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    questions = [
        Question(argv=("sh", "-c", command), text=b"", timeout_s=60.0)
        for command in (
            f"read pid < {note}; exit 0",
            f"echo $$ > {tmp_path}/own; echo > {note}; exec sleep 300",
        )
    ]
    with pytest.raises(KeyboardInterrupt):
        ask_many(questions, at_once=2, wall_s=lambda: 0.0, replied=stop)

    assert not is_alive(int((tmp_path / "own").read_text()))


def test_commands_die_with_whoever_asked(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    os.mkfifo(note)
    program = (
        "from launch.transport.many import Question, ask_many\n"
        f"ask = Question(argv=('sh', '-c', 'echo $$ > {note}; exec sleep 300'), text=b'',"
        " timeout_s=99)\n"
        "ask_many([ask], at_once=1, wall_s=lambda: 0.0)"
    )
    asker = subprocess.Popen([sys.executable, "-c", program])
    pid = int(note.read_text())
    asker.kill()
    asker.wait()

    assert ends(pid)


def ends(pid: int) -> bool:
    """Whether a process is gone soon; one that init has still to reap is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([descriptor], [], [], 10.0)
    os.close(descriptor)
    return bool(ended)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
