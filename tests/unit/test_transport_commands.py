"""Commands that are asked and answer."""

import sys

from launch.transport.commands import ask


def test_a_command_gets_the_text_and_its_answer_comes_back():
    program = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('e')"

    answer = ask([sys.executable, "-c", program], text="hello", timeout_s=60)

    assert (answer.exit_code, answer.out, answer.err) == (0, "HELLO", "e")


def test_a_command_that_fails_says_its_code():
    assert ask([sys.executable, "-c", "raise SystemExit(7)"], text="", timeout_s=60).exit_code == 7


def test_a_command_past_its_deadline_is_killed_and_has_no_code():
    program = "import threading; threading.Event().wait()"

    answer = ask([sys.executable, "-c", program], text="", timeout_s=2)

    assert answer.exit_code is None
