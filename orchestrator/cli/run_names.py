"""Which run a person means: a run's folder, or its name among the runs of this folder."""

from pathlib import Path

from launch.run_directory import RunDirectory
from launch.supervisor.survey import runs_in
from orchestrator.errors import UnknownName

RUNS = Path("runs")


def run_named(name: str) -> RunDirectory:
    """Return the run directory at a path, or of that name below `runs`.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    for path in (Path(name), RUNS / name):
        run = RunDirectory(path.absolute())
        if run.journal.is_file():
            return run
    raise UnknownName(kind="run", name=name, known=[run.path.name for run in runs_in(RUNS)])
