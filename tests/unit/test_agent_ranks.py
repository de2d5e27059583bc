"""What a rank is given, what is understood of what it says, and the archive that does all that."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch.agent.archive import build_zipapp
from launch.agent.environment import RankDoors, rank_environment
from launch.agent.options import parse_options
from launch.agent.rank import MarkFile, RankLineReader
from launch.marks import MarkWriter
from launch.rank_lines import FinishedLine, LeftLine
from launch.wire import RankSlot, StartRanks, encode

DOORS = RankDoors(line_descriptor=7, mark_file="/proc/self/fd/8", marker="0@/run", gpus="0,1")


def environment(*, env=(), inherited=(), resume_from: str | None = None) -> dict[str, str]:
    order = StartRanks(
        generation=3,
        ranks=(RankSlot(rank=5, local_rank=1),),
        argv=("true",),
        env=dict(env),
        world_size=8,
        local_world_size=4,
        group_rank=1,
        master_addr="10.0.0.1",
        master_port=29_500,
        resume_from=resume_from,
        log_dir="/run/logs",
    )
    return rank_environment(order, order.ranks[0], doors=DOORS, inherited=dict(inherited))


def test_a_rank_knows_its_place_as_under_torchrun() -> None:
    assert environment() == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "1",
        "NODE_RANK": "1",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "29500",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "LLMORCH_GENERATION": "3",
        "LLMORCH_RANK_FD": "7",
        "LLMORCH_MARK_FILE": "/proc/self/fd/8",
        "LLMORCH_AGENT": "0@/run",
    }


def test_every_variable_of_the_page_is_given_by_agent_or_controller(root) -> None:
    section = (root / "docs" / "protocols.md").read_text().split("## 2.")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    documented = {name for row in rows for name in row.replace("`", "").split()}

    from_controller = {"LLMORCH_RUN_ID", "LLMORCH_STAGING_DIR"}  # held by test_request
    given = set(environment(resume_from="/run/checkpoints/step-5"))
    assert documented == given | from_controller


def test_a_restart_is_told_where_to_resume() -> None:
    assert environment(resume_from="/run/checkpoints/step-5")["LLMORCH_RESUME_FROM"] == (
        "/run/checkpoints/step-5"
    )


@pytest.mark.parametrize("source", ["env", "inherited"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_NUM_THREADS", "8"), ("PYTHONUNBUFFERED", ""), ("CUDA_VISIBLE_DEVICES", "3")],
)
def test_what_a_user_sets_where_we_only_advise_is_kept(source: str, name: str, value: str) -> None:
    assert environment(**{source: [(name, value)]})[name] == value


@pytest.mark.parametrize("source", ["env", "inherited"])
def test_what_is_promised_wins_over_what_a_user_exports(source: str) -> None:
    assert environment(**{source: [("RANK", "0")]})["RANK"] == "5"


def test_variables_of_an_outer_run_do_not_leak_in() -> None:
    inherited = [("LLMORCH_RESUME_FROM", "/other"), ("PATH", "/bin")]

    variables = environment(inherited=inherited)

    assert "LLMORCH_RESUME_FROM" not in variables
    assert variables["PATH"] == "/bin"


class Reading:
    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.reader = RankLineReader(self.complaints.append)

    def __call__(self, data: bytes) -> list:
        return list(self.reader.feed(data))


def test_lines_are_put_together_from_pieces() -> None:
    read = Reading()
    line = encode(FinishedLine(step=9))

    assert read(line[:10]) == []
    assert read(line[10:] + encode(LeftLine(step=9))) == [FinishedLine(step=9), LeftLine(step=9)]


def test_a_line_that_is_not_understood_costs_that_line_only() -> None:
    read = Reading()

    records = read(b"hello there\n" + encode(FinishedLine(step=9)))

    assert records == [FinishedLine(step=9)]
    assert len(read.complaints) == 1
    assert read.complaints[0].startswith("rank line not understood: not JSON")


def test_an_endless_line_is_skipped_to_its_end_with_one_complaint() -> None:
    read = Reading()

    for _ in range(10):
        assert read(b"x" * 5_000) == []
    records = read(b"x\n" + encode(FinishedLine(step=9)))

    assert records == [FinishedLine(step=9)]
    assert read.complaints == ["rank line past 4096 bytes"]


def test_a_mark_is_seen_with_its_age() -> None:
    file = MarkFile(3)
    with MarkWriter(f"/proc/self/fd/{file.descriptor}") as writer:
        writer.mark("all_reduce dp", step=12)
    made = file.beat(rank=3, pid=7, monotonic_s=0.0)

    later = file.beat(rank=3, pid=7, monotonic_s=10.0**9)
    file.close()

    assert (made.seq, made.step, made.label) == (1, 12, "all_reduce dp")
    assert made.mark_age_s == 0.0  # never negative, whatever the clocks say
    assert later.mark_age_s > 10.0**8


def test_a_rank_without_a_mark_is_beaten_without_one() -> None:
    file = MarkFile(3)

    beat = file.beat(rank=3, pid=7, monotonic_s=1.0)
    file.close()

    assert (beat.rank, beat.pid) == (3, 7)
    assert beat.seq is beat.step is beat.mark_age_s is beat.label is None


def test_options_come_from_the_command_line_and_the_secret_from_its_file(tmp_path) -> None:
    (tmp_path / "secret").write_text("5e5e\n")

    options = parse_options(
        [
            *("--connect", "[::1]:4001", "--secret-file", str(tmp_path / "secret")),
            *("--run-dir", "/run", "--agent-id", "2", "--slots", "8"),
        ]
    )

    assert options.secret == "5e5e"
    assert (options.controller.host, options.controller.port) == ("::1", 4001)
    assert (options.marker, options.slots) == ("2@/run", 8)


def test_the_same_sources_give_the_same_archive(tmp_path) -> None:
    build_zipapp(tmp_path / "one.pyz")
    build_zipapp(tmp_path / "two.pyz")

    assert (tmp_path / "one.pyz").read_bytes() == (tmp_path / "two.pyz").read_bytes()


def test_the_archive_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    archive = tmp_path / "agent.pyz"
    build_zipapp(archive)

    answer = subprocess.run(
        [sys.executable, "-S", "-P", archive, "--help"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    assert "--secret-file" in answer.stdout
