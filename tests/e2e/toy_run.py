"""A controller process for tests: a run of toy ranks on this machine, told in lines on stdout.

Arguments: the run directory, then the request's changes as JSON, then the toy rank's arguments.
"""

import json
import resource
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

from launch.launchers.local import LAUNCHER
from launch.request import BudgetTerms, HangTerms, HostSlots, LaunchRequest, RankTerms, Supervision
from launch.run_directory import RunDirectory
from launch.supervisor.observer import StepRow
from launch.supervisor.run_state import Phase
from orchestrator.errors import LlmorchError
from orchestrator.records.bundle import BundleFile

TOY_RANK = Path(__file__).with_name("toy_rank.py")


class Teller:
    """Tells everything; from `full_from_step` on, the disk takes nothing more."""

    def __init__(self, full_from_step: int | None) -> None:
        self.full_from_step = full_from_step

    def on_step(self, row: StepRow) -> None:
        tell(what="step", **asdict(row))
        if row.step == self.full_from_step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))

    def on_phase(self, phase: Phase, generation: int) -> None:
        tell(what="phase", phase=phase, generation=generation)

    def on_sentence(self, sentence: str) -> None:
        tell(what="sentence", sentence=sentence)


def tell(**content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def toy_request(changes: dict, toy_arguments: list[str]) -> LaunchRequest:
    changes = dict(changes)
    steps, slots = changes.pop("steps", 10), changes.pop("slots", 2)
    warm = changes.get("warm")  # options of a fork server; without one the rank needs no packages
    if warm is not None:
        changes["warm"] = [str(Path(sys.executable).with_name("llmorch-forkserver")), *warm]
    rules = {"lease_s": 10.0, "beat_interval_s": 0.1, "stop_grace_s": 10.0, "join_timeout_s": 20.0}
    rules |= changes.pop("supervision", {})
    rules["hang"] = HangTerms(**rules.get("hang", {}))
    rules["budgets"] = BudgetTerms(**rules.get("budgets", {}))
    request = LaunchRequest(
        run_name="toy",
        engine="toy",
        argv=(
            sys.executable,
            *(("-I", "-S") if warm is None else ()),
            "{bundle}/toy_rank.py",
            "--steps",
            str(steps),
            *toy_arguments,
        ),
        env=(),
        files=(BundleFile(path="toy_rank.py", text=TOY_RANK.read_text()),),
        hosts=(HostSlots(name="here", address="127.0.0.1", slots=slots),),
        last_step=steps,
        supervision=Supervision(**rules),
        ranks=RankTerms(**changes.pop("ranks", {})),
    )
    return replace(
        request, **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    )


def main() -> int:
    # The tests themselves may run under nohup, whose ignored signal a run rightly respects.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    path, changes, *toy_arguments = sys.argv[1:]
    given = json.loads(changes)
    teller = Teller(given.pop("full_from_step", None))
    request = toy_request(given, toy_arguments)
    try:
        directory = Path(path)
        is_there = directory.exists()
        run = RunDirectory.reopen(directory) if is_there else RunDirectory.create(directory)
        begin = LAUNCHER.resume if is_there else LAUNCHER.submit
        outcome = begin(request, run, teller)
    except LlmorchError as error:
        tell(what="error", message=str(error))
        return error.exit_code
    tell(what="outcome", **json.loads(outcome.to_json()))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
