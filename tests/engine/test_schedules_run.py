"""Our tables run: four real processes, torch's runtime, gradients as without a pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.schedules.exports import csv
from orchestrator.schedules.schedule import Schedule, build
from orchestrator.specs.choices import ScheduleKind

pytest.importorskip("torch.distributed.pipelining.schedules")

RANK = Path(__file__).with_name("csv_rank.py")
PP, MICROBATCHES = 4, 8
DEADLINE_S = 150
ONE_CHUNK = {ScheduleKind.ONE_F_ONE_B, ScheduleKind.GPIPE}
KINDS = [kind for kind in ScheduleKind if kind is not ScheduleKind.NO_PIPELINE]


def schedule(kind: ScheduleKind) -> Schedule:
    return build(
        kind,
        pp=PP,
        vpp=1 if kind in ONE_CHUNK else 2,
        num_microbatches=MICROBATCHES,
        microbatch_group_size=PP,
    )


def case(kind: ScheduleKind, folder: Path) -> dict:
    made = schedule(kind)
    path = folder / f"{kind}.csv"
    path.write_text(csv.text_of(made))
    return {
        "name": kind.value,
        "csv": str(path),
        "stages": made.num_stages,
        "microbatches": MICROBATCHES,
        "of_rank": [made.stages_of(rank) for rank in range(PP)],
    }


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> list[dict[str, float]]:
    """Return each rank's largest difference of a gradient, by schedule."""
    folder = tmp_path_factory.mktemp("csv")
    (folder / "cases.json").write_text(json.dumps([case(kind, folder) for kind in KINDS]))
    logs = [open(folder / f"rank-{rank}.log", "w") for rank in range(PP)]  # noqa: PTH123, SIM115
    ranks = [
        subprocess.Popen([sys.executable, RANK, str(rank), folder], stdout=log, stderr=log)
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [process.wait(timeout=DEADLINE_S) for process in ranks]
    finally:
        for process, log in zip(ranks, logs, strict=True):
            process.kill()
            process.wait()
            log.close()
    assert codes == [0] * PP, (folder / "rank-0.log").read_text()[-3000:]
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(PP)]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_a_sequential_run(errors, kind):
    assert [rank[kind.value] < 1e-6 for rank in errors] == [True] * PP, errors
