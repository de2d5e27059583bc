"""What may be forked, what a fork server runs, and what an agent does without one."""

import sys
from pathlib import Path

import pytest

from launch.agent.environment import strays, warm_environment
from launch.agent.ranks import Ranks
from launch.transport.processes import kill_and_reap
from launch.wire import Exited, RankSlot, Started, StartRanks, StopHow, StopRanks, Warm
from launch.workers.forkserver.program import ForeignProgramError, Program
from launch.workers.forkserver.proof import obstacle
from tests.fakes.clock import FakeClock
from tests.unit.test_agent_processes import StillReactor

BIN = Path(sys.executable).parent


class FakeCuda:
    def __init__(self, *, is_used: bool) -> None:
        self.is_used = is_used

    def is_initialized(self) -> bool:
        return self.is_used


@pytest.fixture
def process(tmp_path) -> Path:
    """A process of one thread with one open file, as /proc describes it."""
    (tmp_path / "task" / "1").mkdir(parents=True)
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "0").symlink_to("/dev/null")
    return tmp_path


def test_a_process_of_one_thread_without_cuda_may_be_forked(process) -> None:
    assert obstacle(process, cuda=FakeCuda(is_used=False)) is None


def test_a_second_thread_forbids_the_fork(process) -> None:
    (process / "task" / "2").mkdir()

    assert "2 threads" in obstacle(process, cuda=FakeCuda(is_used=False))


def test_a_cuda_context_forbids_the_fork(process) -> None:
    assert obstacle(process, cuda=FakeCuda(is_used=True)) == "CUDA is initialised"


@pytest.mark.parametrize("device", ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm"])
def test_an_open_device_of_cuda_forbids_the_fork(process, device: str) -> None:
    (process / "fd" / "5").symlink_to(device)

    assert obstacle(process, cuda=FakeCuda(is_used=False)) == f"{device} is open"


def script(folder: Path, first_line: str) -> str:
    path = folder / "worker"
    path.write_text(f"{first_line}\nprint(1)\n")
    return str(path)


def test_a_script_is_run_with_its_words(tmp_path) -> None:
    program = Program.of((sys.executable, "train.py", "--lr", "1"))

    assert program == Program(script=Path("train.py"), words=("--lr", "1"))


def test_a_console_script_of_this_environment_is_run(tmp_path) -> None:
    name = script(tmp_path, f"#!{BIN}/python")

    assert Program.of((name, "--config", "x")) == Program(
        script=Path(name), words=("--config", "x")
    )


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ((sys.executable, "-O", "train.py"), "started with options"),
        ((sys.executable,), "started with options"),
        (("/nowhere/train",), "No such file"),
        (("/bin/sh", "train.sh"), "not a script of"),
        (("python3", "train.py"), "No such file"),  # by PATH: nobody knows which
    ],
    ids=["options", "no script", "absent", "another program", "by PATH"],
)
def test_what_another_interpreter_runs_is_not_forked(argv, reason: str, tmp_path) -> None:
    with pytest.raises(ForeignProgramError, match=reason):
        Program.of(argv)


def test_a_script_of_another_environment_is_not_forked(tmp_path) -> None:
    with pytest.raises(ForeignProgramError, match="not a script of"):
        Program.of((script(tmp_path, "#!/opt/other/bin/python"),))


def test_the_fork_server_has_no_ranks_variables_but_all_others() -> None:
    order = Warm(argv=("x",), env={"NCCL_DEBUG": "INFO"})
    inherited = {"RANK": "7", "MASTER_PORT": "1", "LLMORCH_GENERATION": "1", "PATH": "/bin"}

    variables = warm_environment(order, marker="0@/run", gpus=None, inherited=inherited)

    assert variables == {
        "NCCL_DEBUG": "INFO",
        "PATH": "/bin",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "LLMORCH_AGENT": "0@/run",
    }


def test_a_variable_that_the_imports_did_not_see_is_named() -> None:
    server = {"OMP_NUM_THREADS": "1", "GONE": "1", "PATH": "/bin"}
    rank = {"OMP_NUM_THREADS": "4", "NEW": "1", "PATH": "/bin", "RANK": "3"}

    assert strays(rank, server) == ("GONE", "NEW", "OMP_NUM_THREADS")


class Scene:
    """The ranks of a host that is to have a fork server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reactor = StillReactor()
        self.reports: list = []
        self.ranks = Ranks(
            reactor=self.reactor,
            marker="0@/run",
            slots=1,
            clock=FakeClock(),
            report=self.reports.append,
            say=lambda _: None,
        )

    def start(self) -> None:
        self.ranks.start(
            StartRanks(
                generation=1,
                ranks=(RankSlot(rank=6, local_rank=0),),
                argv=("sleep", "600"),
                env={},
                world_size=8,
                local_world_size=1,
                group_rank=6,
                master_addr="127.0.0.1",
                master_port=1,
                resume_from=None,
                log_dir=str(self.folder),
            )
        )


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    for pid in made.reactor.exits:
        kill_and_reap(pid)


def test_ranks_wait_for_a_server_that_imports(scene) -> None:
    scene.ranks.warm(Warm(argv=("sleep", "600"), env={}))
    scene.start()

    assert scene.reports == []
    assert scene.ranks.running == ()


@pytest.mark.parametrize("how", [StopHow.KILL, StopHow.SAVE])
def test_ranks_that_wait_are_gone_when_they_are_stopped(scene, how: StopHow) -> None:
    scene.ranks.warm(Warm(argv=("sleep", "600"), env={}))
    scene.start()
    scene.ranks.stop(StopRanks(generation=1, how=how, grace_s=5.0))

    (report,) = scene.reports
    assert isinstance(report, Exited)
    assert (report.rank, report.pid, report.signal) == (6, 0, 9)


def test_a_server_that_does_not_get_warm_in_time_is_not_waited_for(scene) -> None:
    scene.ranks.warm(Warm(argv=("sleep", "600"), env={}))
    scene.start()
    limit = next(callback for delay_s, callback in scene.reactor.later if delay_s > 60)
    limit()

    (report,) = scene.reports
    assert isinstance(report, Started)
    assert report.cold == "the fork server was not warm within 300 s"


def test_a_server_that_cannot_be_started_costs_a_cold_start(scene) -> None:
    scene.ranks.warm(Warm(argv=("/nowhere/llmorch-forkserver",), env={}))
    scene.start()

    (report,) = scene.reports
    assert report.fork_s is None
    assert report.cold == "cannot start /nowhere/llmorch-forkserver: No such file or directory"


def test_without_a_server_nothing_is_said_about_one(scene) -> None:
    scene.start()

    (report,) = scene.reports
    assert (report.fork_s, report.cold) == (None, None)
