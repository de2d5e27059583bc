"""The words of an ssh command, and the hosts of a request."""

import json
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from launch.launchers.ssh.addresses import own_address
from launch.launchers.ssh.agents import Queue
from launch.launchers.ssh.command import PROGRAM, order_text, shell_text, ssh_argv, ssh_options
from launch.launchers.ssh.inspection import inspect
from launch.launchers.ssh.request import request_of
from launch.request import HostSlots, SshStart
from launch.run_directory import RunDirectory
from orchestrator.errors import HostError, UsageError
from orchestrator.records.bundle import EngineBundle
from orchestrator.specs.remote import SshSpec
from orchestrator.specs.run import CheckpointSpec, LaunchSpec, SuperviseSpec

START = SshStart(options=("-T",), parallel=2, python="/v env/python", working_folder="/w")
BUNDLE = EngineBundle(
    engine="megatron-core@0.16.1",
    argv=("{bin}/llmorch-megatron-core-worker", "--config", "{bundle}/a.json"),
    env=(("GLOO_SOCKET_IFNAME", "lo"),),
    files=(),
    world_size=4,
    last_step=9,
    prepare=(("{bin}/llmorch-data-worker",),),
)


def run_of(folder: Path, lines: str = "", *, hosts: int = 2, **launch: object) -> SimpleNamespace:
    """The parts of a ResolvedRun that a launcher reads."""
    hostfile = folder / "hosts.txt"
    hostfile.write_text(lines)
    settings = {"hostfile": str(hostfile), "ssh": SshSpec(config_file="/dev/null")} | launch
    spec = SimpleNamespace(
        launch=LaunchSpec(**settings),
        supervise=SuperviseSpec(),
        checkpoint=CheckpointSpec(interval_steps=10),
    )
    accelerator = SimpleNamespace(architecture="cpu")
    machine = SimpleNamespace(hosts=hosts, gpus_per_host=2, accelerator=accelerator)
    return SimpleNamespace(name="r", spec=spec, machine=machine)


@settings(deadline=None, max_examples=40)  # each starts a shell
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)))
def test_a_shell_reads_back_the_very_words(words: list[str]) -> None:
    argv = ["printf", r"%s\0", *words, "end"]
    said = subprocess.run(["sh", "-c", shell_text(argv)], capture_output=True, check=True).stdout

    assert said.decode().split("\0")[:-1] == [*words, "end"]


def test_a_host_stands_after_all_options() -> None:
    host = HostSlots(name="-oProxyCommand=x", address="a", slots=1, user="eve n")

    argv = ssh_argv(START, host)

    assert argv[:6] == ("ssh", "-l", "eve n", "-T", "--", "-oProxyCommand=x")
    assert argv[6].startswith("exec '/v env/python' -I -c 'import sys;")


def test_what_a_user_sets_replaces_what_we_set() -> None:
    words = ssh_options(
        SshSpec(user="u", port=7, identity_file="k", options={"connecttimeout": "3"})
    )

    assert [w for w in words if w.lower().startswith("connecttimeout")] == ["connecttimeout=3"]
    assert "BatchMode=yes" in words
    assert words[:8] == ("-T", "-x", "-i", "k", "-l", "u", "-p", "7")


@pytest.mark.parametrize(
    "wrong",
    [{"options": {"Proxy Command": "x"}}, {"user": ""}, {"user": "a\0b"}, {"port": 0}],
    ids=["option", "empty", "nul", "port"],
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        SshSpec.model_validate(wrong)


def test_a_path_may_hold_anything_but_nul() -> None:
    assert SshSpec(identity_file="a 'b'\n\"c\"").identity_file == "a 'b'\n\"c\""


def test_an_order_is_one_line_and_what_follows() -> None:
    line, payload = order_text(PROGRAM, {"do": "x\ny"}, b"zip").split(b"\n", 1)

    content = json.loads(line)
    assert content["order"] == {"do": "x\ny"}
    assert compile(content["program"], "program", "exec")
    assert payload == b"zip"


def test_a_request_has_the_first_hosts_of_the_file(tmp_path: Path) -> None:
    lines = "localhost slots=4\nada@10.0.0.2 slots=2\nh3 slots=2\n"
    run = run_of(tmp_path, lines, venv="/opt/v", interface="eth0", working_folder="/w")

    request = request_of(BUNDLE, run)

    assert [(h.name, h.slots, h.user) for h in request.hosts] == [
        ("localhost", 2, None),
        ("10.0.0.2", 2, "ada"),
    ]
    assert request.argv[0] == "/opt/v/bin/llmorch-megatron-core-worker"
    assert request.prepare == (("/opt/v/bin/llmorch-data-worker",),)
    assert dict(request.env) == {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}
    assert dict(request.preflight.packages) == {"llmorch": "0.1.0", "megatron-core": "0.16.1"}
    assert (request.ssh.python, request.ssh.working_folder) == ("/opt/v/bin/python", "/w")


def test_without_a_hostfile_there_is_no_run() -> None:
    run = SimpleNamespace(spec=SimpleNamespace(launch=LaunchSpec()))

    with pytest.raises(UsageError, match=r"launch\.hostfile is absent"):
        request_of(BUNDLE, run)


def test_a_host_with_too_few_gpus_is_refused_by_name_and_line(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"h2: the run needs 2 GPUs of each host, and it has 1"):
        request_of(BUNDLE, run_of(tmp_path, "h1 slots=8\nh2 slots=1\n"))


def test_ssh_itself_says_what_is_wrong_with_its_settings(tmp_path: Path) -> None:
    ssh = SshSpec(config_file="/dev/null", options={"NoSuchOption": "1"})

    with pytest.raises(HostError, match="Bad configuration option"):
        request_of(BUNDLE, run_of(tmp_path, "h1 slots=2\nh2 slots=2\n", ssh=ssh))


def test_an_address_without_a_way_is_told_with_what_would_work() -> None:
    with pytest.raises(HostError, match=r"set launch\.controller_host"):
        own_address([HostSlots(name="h", address="no.such.name.invalid", slots=1)])


def test_the_own_address_is_the_one_other_machines_see() -> None:
    here = HostSlots(name="a", address="127.0.0.1", slots=1)

    assert own_address([here]) == "127.0.0.1"


def test_no_more_connections_are_made_at_a_time_than_allowed() -> None:
    begun: list[int] = []
    queue = Queue(places=2)
    for number in range(4):
        queue.enter(lambda number=number: begun.append(number))

    before = list(begun)
    queue.leave()

    assert before == [0, 1]
    assert begun == [0, 1, 2]


def test_a_controller_port_in_use_is_told_before_any_host_is_asked(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = run_of(tmp_path, "127.0.0.1\n127.0.0.2\n", controller_port=port)
        request = request_of(BUNDLE, run)

        with pytest.raises(HostError, match=f"cannot listen on port {port}: Address already in"):
            inspect(request, START, RunDirectory.create(tmp_path / "run"))


def test_settings_that_only_ssh_honours_are_known() -> None:
    given = LaunchSpec(venv="/v", ssh=SshSpec(user="u"), rendezvous_port=7)

    assert given.ssh_settings() == ("venv", "ssh")
    assert LaunchSpec().ssh_settings() == ()
