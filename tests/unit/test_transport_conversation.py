"""Commands that answer line by line: heard at once, ended in time, whatever they write."""

import sys

import pytest

from launch.transport.conversation import converse

ECHO = "import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True)"


def talk(program, *, text="", timeout_s=30.0, heard=lambda _: None):
    return converse([sys.executable, "-c", program], text=text, timeout_s=timeout_s, heard=heard)


def test_each_line_is_heard_in_order_and_the_end_is_told():
    heard = []
    answer = talk(ECHO, text="a\nb\n", heard=heard.append)

    assert heard == ["aa", "bb"]
    assert (answer.exit_code, answer.out, answer.err) == (0, "aa\nbb\n", "")


def test_a_line_is_heard_before_the_command_ends():
    waits = "import sys, time\nprint('here', flush=True)\ntime.sleep(1000)"

    class HeardEnough(Exception):
        pass

    def stop(_):
        raise HeardEnough

    with pytest.raises(HeardEnough):
        talk(waits, heard=stop)


def test_a_command_that_takes_too_long_is_killed_and_what_it_said_is_kept():
    answer = talk("print('so far', flush=True)\nwhile True: pass", timeout_s=2.0)

    assert answer.exit_code is None
    assert answer.out == "so far\n"


def test_neither_side_blocks_the_other_with_much_text():
    loud = "import sys\nsys.stderr.write('x' * 10**6)\nsys.stdout.write('y' * 10**6)\nsys.exit(3)"
    answer = talk(loud, text="z" * 10**6)

    assert (answer.exit_code, len(answer.out), len(answer.err)) == (3, 10**6, 10**6)


def test_a_last_line_without_its_end_is_not_heard():
    heard = []
    answer = talk("print('whole')\nprint('torn', end='')", heard=heard.append)

    assert heard == ["whole"]
    assert answer.out == "whole\ntorn"
