"""Ending a run from outside: only its controller is asked, and no process is touched."""

from typing import Any

from launch.run_directory import RunDirectory
from launch.supervisor.journal import edges
from launch.supervisor.run_state import Phase
from launch.supervisor.verdict import Verdict
from launch.supervisor.visitor import NoControllerError, Visitor
from launch.wire import Status, StopHow
from orchestrator.errors import HostError

SCHEMA = 1
Answer = Status | Verdict


def stopped(run: RunDirectory, how: StopHow) -> Answer:
    """Ask the controller; return where the run is now, or how it had ended before.

    Raises:
        HostError: there is no controller to ask; says what becomes of the ranks.
        StorageError: the run directory cannot be read, or its secret is not ours to read.
    """
    closed = edges(run.journal).closed
    if closed is not None:
        return closed.verdict
    try:
        with Visitor(run) as visitor:
            return visitor.stop(how)
    except NoControllerError as error:
        raise _no_controller(run, error.reason) from None


def sentence(run: RunDirectory, answer: Answer) -> str:
    """Return what was done, for people."""
    name = run.path.name
    if isinstance(answer, Verdict):
        return f"{name} had ended before: {answer.value}"
    if answer.phase == Phase.LEAVING:
        return (
            f"{name}: the ranks save and leave, within {answer.stop_grace_s:g} s; "
            "once more, or --now, kills them"
        )
    if answer.phase == Phase.ENDED:
        return f"{name} has ended"
    return f"{name} is ending: the ranks are killed"


def document(run: RunDirectory, answer: Answer) -> dict[str, Any]:
    """Return the answer as JSON; `verdict` is None while the run is still ending."""
    common = {"schema": SCHEMA, "run": run.path.name, "directory": str(run.path)}
    if isinstance(answer, Verdict):
        return common | {
            "verdict": answer.value,
            "phase": Phase.ENDED.value,
            "generation": None,
            "step": None,
        }
    return common | {
        "verdict": None,
        "phase": answer.phase,
        "generation": answer.generation,
        "step": answer.step,
    }


def _no_controller(run: RunDirectory, reason: str) -> HostError:
    reign = run.reign()
    where = f"pid {reign.pid} on {reign.host}" if reign else "nobody"
    return HostError(
        host=run.path.name,
        problem=f"its controller ({where}) does not answer: {reason}",
        instead="if it has died, agents kill their ranks when supervise.lease_s is over (120 s "
        "unless set);\n  if it has not, stop that process itself: nothing was stopped here",
    )
