"""Entry point of `llmorch-megatron-core-worker`: one rank of a training run.

Started by an agent, with the environment of docs/protocols.md; or by torchrun, and then it only
logs. torch and megatron-core are imported when the arguments have been accepted.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.rank_lines import RankPhase, RefusedLine
from launch.workers.corpus_files import require_corpora
from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core.arguments import Arguments, read_arguments
from launch.workers.megatron_core.refusals import require_programme
from launch.workers.megatron_core.support import require_support
from launch.workers.report import Reporter, die_with_parent
from launch.workers.sample_index import index_folder
from launch.workers.voice import speaks_first
from launch.workers.world import World
from orchestrator.errors import EngineRefused, ExitCode, LlmorchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line and the environment say, the command line first."""

    config: Path
    staging: Path | None
    resume_from: Path | None


def main() -> None:
    """Run one rank; its exit code says how it went."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(words: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Train as told; what a user can solve is said in a line, anything else is a traceback."""
    options = _parse(words, environment)
    reporter = Reporter.from_environment(environment)
    world = World.from_environment(environment)
    try:
        arguments = _accepted(options, world)
    except EngineRefused as error:  # every rank reads the same
        return _refuse(error, reporter, aloud=world.rank == 0)
    try:
        _train(arguments, options, reporter, world)
    except EngineRefused as error:
        return _refuse(error, reporter, aloud=speaks_first())
    except LlmorchError as error:
        return _say(str(error), error)
    return ExitCode.OK


def _parse(words: Sequence[str], environment: Mapping[str, str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="llmorch-megatron-core-worker", description="One rank of a Megatron-Core training run."
    )
    parser.add_argument("--config", type=Path, required=True, help="arguments, as JSON")
    parser.add_argument(
        "--staging-dir", default=environment.get("LLMORCH_STAGING_DIR"), help="for checkpoints"
    )
    parser.add_argument(
        "--resume-from", default=environment.get("LLMORCH_RESUME_FROM"), help="a checkpoint"
    )
    given = parser.parse_args(words)
    return Options(
        config=given.config,
        staging=Path(given.staging_dir) if given.staging_dir else None,
        resume_from=Path(given.resume_from) if given.resume_from else None,
    )


def _accepted(options: Options, world: World) -> Arguments:
    arguments = read_arguments(options.config)
    require_support(arguments, world_size=world.size)
    require_programme(arguments, world_size=world.size)
    return arguments


def _train(arguments: Arguments, options: Options, reporter: Reporter, world: World) -> None:
    if world.local_rank == 0:  # the host's one voice; the others wait in the rendezvous
        require_corpora(arguments.data.prefixes)
    index = _index_of(arguments)
    if reporter.pipe is not None:
        die_with_parent()
    leave = LeaveRequest()
    leave.listen()
    reporter.phase(RankPhase.START)
    prepare_torch(reporter)
    from launch.workers.megatron_core.session import Session

    Session(
        arguments=arguments,
        index=index,
        world=world,
        reporter=reporter,
        leave=leave,
        staging=options.staging,
        resume_from=options.resume_from,
    ).run()


def _index_of(arguments: Arguments) -> Path:
    data, training = arguments.data, arguments.training
    settings: list[object] = [training.sequence_length, data.seed, data.split]
    if len(data.sources) > 1:  # then which corpus a sample comes from is part of the index
        num_samples = arguments.ramp().samples_after(training.steps)
        settings += [num_samples, *(source.weight for source in data.sources)]
    settings.append(training.evaluation)
    return index_folder(data.prefixes, settings, cache_dir=data.cache_dir)


def prepare_torch(reporter: Reporter) -> None:
    """Put in place what must be there before Megatron is imported and takes hold of it.

    What a fork server has put in place already stays; marks go to this reporter from now on.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
    import torch

    from launch.workers.megatron_core import shim

    if not torch.cuda.is_available():
        shim.install()
    if reporter.marks is not None:
        from launch.workers.collectives import replace_collectives

        replace_collectives().told = reporter.arrive


def _refuse(error: EngineRefused, reporter: Reporter, *, aloud: bool) -> ExitCode:
    # What would work is a part of what the controller is told.
    reason = f"{error.reason}\n  {error.instead}" if error.instead else error.reason
    reporter.send(RefusedLine(reason=reason))
    return _say(str(error) if aloud else "refused: another rank's log says why", error)


def _say(text: str, error: LlmorchError) -> ExitCode:
    sys.stderr.write(f"{text}\n")
    return error.exit_code
