"""What hosts' answers mean, what their silence means, and how both are told."""

import json
import random
from dataclasses import replace

import pytest

from launch.launchers.ssh.complaints import complaint_of
from launch.preflight.answers import HostAnswers, Untold, answers_in
from launch.preflight.checks import HostView, findings
from launch.request import HostSlots, LaunchRequest, PreflightTerms, SshStart
from launch.transport.many import Reply
from orchestrator.errors import ExitCode, HostFinding, PreflightFailed

SOUND = {
    "host": "h1",
    "time_s": 100.0,
    "packages": {"llmorch": "0.1.0"},
    "programs": {"/venv/bin/worker": None},
    "folder": None,
    "shared": {"/runs/a": None},
    "free_bytes": 2**40,
    "controller": None,
    "port": None,
    "names": {"rendezvous": None, "own": "10.0.0.1"},
    "gpus": None,
    "others": [],
}
TERMS = PreflightTerms(
    timeout_s=60.0,
    clock_skew_s=5.0,
    free_disk_bytes=2**30,
    gpus=0,
    gpu_used_bytes=2**30,
    packages=(("llmorch", "0.1.0"),),
)
REQUEST = LaunchRequest(
    run_name="r",
    engine="e",
    argv=("/venv/bin/worker",),
    env=(),
    files=(),
    hosts=(
        HostSlots(name="h1", address="10.0.0.1", slots=1),
        HostSlots(name="h2", address="10.0.0.2", slots=1),
    ),
    last_step=1,
    controller_host="10.0.0.9",
    ssh=SshStart(options=(), parallel=1, python="/venv/bin/python", working_folder="/work"),
    preflight=TERMS,
)


def answered(**changes: object) -> HostAnswers:
    answers = answers_in("\nllmorch-answer " + json.dumps(SOUND | changes))
    assert answers is not None
    return answers


def told(terms: PreflightTerms = TERMS, *, unseen: tuple[str, ...] = (), **changes: object) -> list:
    view = HostView(
        name="h1",
        answers=answered(**changes),
        asked_s=99.0,
        answered_s=101.0,
        unseen=frozenset(unseen),
        request=REQUEST,
        terms=terms,
    )
    return [(finding.check, finding.problem) for finding in findings(view)]


def test_a_sound_host_has_no_finding() -> None:
    assert told() == []


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"packages": {"llmorch": None}}, "engine", "llmorch is missing; 0.1.0 is needed"),
        ({"packages": {"llmorch": "9"}}, "engine", "llmorch 9; 0.1.0 is needed"),
        ({"programs": {"/x": "is missing"}}, "program", "/x: is missing"),
        ({"folder": "Permission denied"}, "folder", "/work: Permission denied"),
        ({"shared": {"/runs/a": "not seen here"}}, "shared path", "/runs/a: not seen here"),
        ({"free_bytes": 2**29}, "disk", "512.0 MiB are free"),
        ({"controller": "timed out"}, "controller", "this machine at 10.0.0.9: timed out"),
        ({"port": "Address already in use"}, "port", "Address already in use"),
        ({"names": {"rendezvous": "x", "own": "10.0.0.1"}}, "name", "10.0.0.1: x"),
        ({"names": {"rendezvous": None, "own": "127.0.1.1"}}, "name", "gloo would use it"),
        ({"names": {"rendezvous": None, "own": None}}, "name", "no address there"),
        ({"time_s": 107.0}, "clock", "is 6.0 s ahead of this machine; at most 5 s"),
        ({"time_s": 90.0}, "clock", "is 9.0 s behind this machine; at most 5 s"),
        ({"others": [[7, "/old"], [8, "/old"]]}, "other runs", "pid 7, 8 of run /old"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_each_trouble_is_a_finding(changes: dict, check: str, words: str) -> None:
    (found,) = told(**changes)

    assert found[0] == check
    assert words in found[1]


@pytest.mark.parametrize("time_s", [94.0, 99.5, 101.0, 106.0])
def test_a_clock_within_the_limit_of_the_conversation_is_no_finding(time_s: float) -> None:
    assert told(time_s=time_s) == []


@pytest.mark.parametrize("question", sorted(set(SOUND) - {"host", "time_s", "gpus"}))
def test_what_could_not_be_found_out_is_never_sound(question: str) -> None:
    found = told(**{question: {"untold": "OSError: stale file handle"}})

    assert len(found) == 1
    assert "could not tell: OSError: stale file handle" in found[0][1]


def test_gpus_are_asked_for_only_where_the_layout_needs_them() -> None:
    needs = replace(TERMS, gpus=2)
    busy = {"memory_mib": [[0, 9000, 80000], [1, 3, 80000]], "pids": [42]}

    assert told(gpus={"untold": "no nvidia-smi"}) == []
    assert told(needs, gpus={"untold": "no nvidia-smi"}) == [
        ("gpu", "could not tell: no nvidia-smi")
    ]
    assert told(needs, gpus=None) == [("gpu", "could not tell: it did not answer")]
    assert told(needs, gpus=busy) == [
        ("gpu", "GPU 0 has 8.8 GiB in use; at most 1.0 GiB"),
        ("gpu", "in use by pid 42"),
    ]


def test_what_a_host_wrote_and_is_not_seen_here_is_a_finding() -> None:
    assert told(unseen=("/runs/a",)) == [
        ("shared path", "/runs/a: what the host wrote is not seen here")
    ]


@pytest.mark.parametrize(
    "out",
    ["", "welcome", "llmorch-answer", "llmorch-answer {", "llmorch-answer 7", "llmorch-answer {}"],
)
def test_no_answer_is_no_answer(out: str) -> None:
    assert answers_in(out) is None


def test_the_last_answer_counts_among_what_login_scripts_print() -> None:
    line = "llmorch-answer " + json.dumps(SOUND)

    assert answers_in(f"hello\nllmorch-answer 7\n{line}\nbye\n") == answered()


def test_no_answer_however_odd_is_a_crash() -> None:
    odd = [None, 1, "x", [], [1], {}, {"a": 1}, [[1, 2]], {"memory_mib": 3}, True]
    chooser = random.Random(7)
    for _ in range(500):
        changes = {name: chooser.choice(odd) for name in chooser.sample(sorted(SOUND), 3)}
        answers = answers_in("llmorch-answer " + json.dumps(SOUND | changes))
        if answers is not None:
            view = HostView(
                name="h",
                answers=answers,
                asked_s=0.0,
                answered_s=1e9,
                unseen=frozenset(),
                request=REQUEST,
                terms=replace(TERMS, gpus=1),
            )
            list(findings(view))


def test_an_answer_of_another_shape_is_untold() -> None:
    assert answered(free_bytes=[1]).free_bytes == Untold("it answered [1]")


SSH = 255


@pytest.mark.parametrize(
    ("code", "err", "check", "words"),
    [
        (SSH, "ssh: connect to host h port 22: No route to host", "reach", "No route to host"),
        (SSH, "root@h: Permission denied (publickey).", "login", "Permission denied"),
        (SSH, "No ED25519 host key\nHost key verification failed.", "host key", "failed"),
        (SSH, "ssh: Could not resolve hostname h: no", "name", "Could not resolve"),
        (SSH, "command-line: line 0: Bad configuration option: x", "ssh", "Bad configuration"),
        (SSH, "", "reach", "did not say why"),
        (127, "sh: 1: exec: /x: not found", "python", "/x: not found"),
        (1, "llmorch-python 3.9.2", "python", "is Python 3.9.2; 3.11 or later is needed"),
        (1, "Traceback\nMemoryError", "python", "exit code 1: MemoryError"),
        (-9, "", "python", "SIGKILL"),
        (None, "", "reach", "no answer within 60 s"),
        (None, "llmorch-asks packages\nllmorch-asks shared", "shared", "hangs at 'shared'"),
    ],
)
def test_each_silence_has_its_meaning(code: int | None, err: str, check: str, words: str) -> None:
    reply = Reply(exit_code=code, out="", err=err, began_s=0.0, ended_s=1.0)

    complaint = complaint_of(reply, python="/x", limit_s=60.0)

    assert complaint.check == check
    assert words in complaint.problem


def finding(host: str, problem: str = "down") -> HostFinding:
    return HostFinding(host=host, check="reach", problem=problem, instead="plug it in")


def test_hosts_with_the_same_trouble_share_a_row() -> None:
    error = PreflightFailed(findings=[finding(f"node{i:04}") for i in range(900)], num_hosts=1024)

    lines = str(error).splitlines()
    assert error.exit_code is ExitCode.HOST
    assert lines[0] == "900 of 1024 hosts cannot take part; nothing was started"
    assert lines[2] == "  node0000, node0001 +898  reach  down"
    assert lines[3].strip() == "plug it in"


def test_the_table_fits_a_hundred_columns_and_a_screen() -> None:
    found = [finding("h" * 200 + str(i), f"{i} " + "long word " * 50) for i in range(100)]
    lines = str(PreflightFailed(findings=found, num_hosts=100)).splitlines()

    assert max(map(len, lines)) <= 100
    assert lines[-1] == "  and 60 more"
