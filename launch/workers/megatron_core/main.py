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

from launch.wire import RankPhase, RefusedLine
from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core.arguments import Arguments, read_arguments
from launch.workers.megatron_core.support import require_support
from launch.workers.report import Reporter, die_with_parent
from launch.workers.sample_index import index_folder
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
    try:
        _train(options, reporter, environment)
    except EngineRefused as error:
        reporter.send(RefusedLine(reason=error.reason))
        return _say(error)
    except LlmorchError as error:
        return _say(error)
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


def _train(options: Options, reporter: Reporter, environment: Mapping[str, str]) -> None:
    world = World.from_environment(environment)
    arguments = read_arguments(options.config)
    require_support(arguments, world_size=world.size)
    index = _index_of(arguments)
    if reporter.pipe is not None:
        die_with_parent()
    leave = LeaveRequest()
    leave.listen()
    reporter.phase(RankPhase.START)
    _prepare_torch(reporter)
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
    return index_folder(
        arguments.data.prefix,
        cache_dir=arguments.data.cache_dir,
        sequence_length=arguments.training.sequence_length,
        seed=arguments.training.seed,
    )


def _prepare_torch(reporter: Reporter) -> None:
    """Put in place what must be there before Megatron is imported and takes hold of it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
    import torch

    from launch.workers.megatron_core import shim

    if not torch.cuda.is_available():
        shim.install()
    if reporter.marks is not None:
        from launch.workers.collectives import mark_collectives

        mark_collectives(reporter.mark)


def _say(error: LlmorchError) -> ExitCode:
    sys.stderr.write(f"{error}\n")
    return error.exit_code
