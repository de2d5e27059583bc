"""What a launcher submits, and what the local one makes of a bundle."""

import json
import sys
from dataclasses import FrozenInstanceError, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch.launchers.local import LAUNCHER, agent_argv
from launch.launchers.registry import find_launcher
from launch.request import HostSlots, LaunchRequest
from launch.run_directory import RunDirectory
from launch.supervisor.events import AgentPlace
from launch.supervisor.instructions import StartGeneration
from launch.supervisor.orders import Orders
from launch.supervisor.roster import AgentCall
from launch.transport.link import Address
from orchestrator.errors import EngineRefused, HostError, UnknownName
from orchestrator.records.bundle import BundleFile, EngineBundle
from orchestrator.specs.choices import Start
from orchestrator.specs.run import CheckpointSpec, LaunchSpec, SuperviseSpec

BUNDLE = EngineBundle(
    engine="megatron-core",
    argv=("python", "{bundle}/train.py", "--config={bundle}/run.json"),
    env=(("OMP_NUM_THREADS", "2"),),
    files=(BundleFile(path="run.json", text='{"a": 1}'),),
    world_size=4,
    last_step=100,
)
HERE = ("local", "launch.launchers.local:LAUNCHER", "llmorch.launchers")


def run_of(*, hosts: int = 1, chip: str = "cpu", start: Start | None = None) -> SimpleNamespace:
    """The parts of a ResolvedRun that a launcher reads."""
    spec = SimpleNamespace(
        launch=LaunchSpec(controller_port=4_001, rendezvous_port=4_002, start=start),
        supervise=SuperviseSpec(max_restarts=5, lease_s=7.0),
        checkpoint=CheckpointSpec(interval_steps=10, keep=2),
    )
    machine = SimpleNamespace(hosts=hosts, accelerator=SimpleNamespace(architecture=chip))
    return SimpleNamespace(name="tiny", spec=spec, machine=machine)


@pytest.fixture
def request_of_four() -> LaunchRequest:
    return LAUNCHER.prepare(BUNDLE, run_of())


def test_a_request_is_what_the_bundle_and_the_run_file_say(request_of_four) -> None:
    rules = request_of_four.supervision

    assert request_of_four.world_size == 4
    assert request_of_four.argv == BUNDLE.argv
    assert (request_of_four.controller_port, request_of_four.rendezvous_port) == (4_001, 4_002)
    assert (rules.max_restarts, rules.lease_s, rules.keep_checkpoints) == (5, 7.0, 2)


@pytest.mark.parametrize(
    ("chip", "start", "is_warm"),
    [
        ("cpu", None, True),
        ("cpu", Start.COLD, False),
        ("hopper", None, False),
        ("hopper", Start.WARM, True),
    ],
)
def test_ranks_are_forked_on_a_cpu_and_where_the_run_asks_for_it(chip, start, is_warm) -> None:
    bundle = replace(BUNDLE, warm=("{bin}/llmorch-forkserver",))

    request = LAUNCHER.prepare(bundle, run_of(chip=chip, start=start))

    assert bool(request.warm) is is_warm
    assert ("forked by" in request.to_text()) is is_warm


def test_a_fork_server_that_an_engine_has_not_is_refused() -> None:
    with pytest.raises(EngineRefused, match=r"launch\.start: warm"):
        LAUNCHER.prepare(BUNDLE, run_of(start=Start.WARM))


def test_a_request_is_frozen(request_of_four) -> None:
    with pytest.raises(FrozenInstanceError):
        request_of_four.last_step = 1


def test_a_request_of_several_hosts_is_refused_with_both_numbers() -> None:
    with pytest.raises(HostError, match="needs 2 hosts, the local launcher has this one"):
        LAUNCHER.prepare(BUNDLE, run_of(hosts=2))


def test_the_json_holds_every_field(request_of_four) -> None:
    content = json.loads(request_of_four.to_json())

    assert content["schema"] == 1
    assert set(content) == {"schema", *LaunchRequest.__dataclass_fields__}
    assert content["files"] == [{"path": "run.json", "text": '{"a": 1}'}]


def test_the_text_shows_command_environment_and_files(request_of_four) -> None:
    text = request_of_four.to_text()

    assert "each rank    python '{bundle}/train.py' '--config={bundle}/run.json'\n" in text
    assert "env          OMP_NUM_THREADS=2\n" in text
    assert 'file         run.json\n{"a": 1}\n' in text
    assert "restarts     5 without a new checkpoint\n" in text


def test_ports_that_are_not_given_are_any() -> None:
    request = LaunchRequest(
        run_name="r",
        engine="e",
        argv=("x",),
        env=(),
        files=(),
        hosts=(HostSlots(name="h", address="127.0.0.1", slots=1),),
        last_step=1,
    )

    assert "controller   127.0.0.1:any\n" in request.to_text()


def test_a_launcher_is_found_by_its_name() -> None:
    assert find_launcher("local", among=[EntryPoint(*HERE)]) is LAUNCHER


def test_an_unknown_launcher_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown launcher 'lokal'\n  did you mean 'local'"):
        find_launcher("lokal", among=[EntryPoint(*HERE)])


def test_the_agents_command_has_no_secret_in_it(tmp_path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    secret = run.make_secret()
    call = AgentCall(
        place=AgentPlace(agent_id=0, address="127.0.0.1", first_rank=0, slots=4),
        controller=Address(host="127.0.0.1", port=4_001),
        secret_file=run.secret,
        run_directory=run.path,
        archive=run.agent_archive,
        log=run.agent_log(0),
    )

    argv = agent_argv(call)

    assert argv[:4] == (sys.executable, "-I", "-S", str(run.agent_archive))
    assert "--connect" in argv
    assert not any(secret in word for word in argv)


@pytest.fixture
def orders(request_of_four, tmp_path) -> Orders:
    places = (
        AgentPlace(agent_id=0, address="10.0.0.1", first_rank=0, slots=2),
        AgentPlace(agent_id=1, address="10.0.0.2", first_rank=2, slots=2),
    )
    return Orders(request=request_of_four, places=places, directory=RunDirectory(tmp_path / "run"))


def test_an_order_places_ranks_host_by_host(orders) -> None:
    order = orders.start(StartGeneration(generation=3, port=5, resume_step=None), orders.places[1])

    assert [(slot.rank, slot.local_rank) for slot in order.ranks] == [(2, 0), (3, 1)]
    assert (order.world_size, order.local_world_size, order.group_rank) == (4, 2, 1)
    assert (order.master_addr, order.master_port) == ("10.0.0.1", 5)


def test_an_order_fills_in_paths(orders, tmp_path: Path) -> None:
    order = orders.start(StartGeneration(generation=3, port=5, resume_step=20), orders.places[0])

    run = tmp_path / "run"
    assert order.argv[2] == f"--config={run}/bundle/run.json"
    assert order.resume_from == f"{run}/checkpoints/step-20"
    assert order.log_dir == f"{run}/logs/generation-3"
    assert order.env == {
        "OMP_NUM_THREADS": "2",
        "LLMORCH_RUN_ID": "tiny",
        "LLMORCH_STAGING_DIR": f"{run}/checkpoints/staging/generation-3",
    }
