"""The `llmorch` command: which commands there are, and how their errors end.

Heavy imports wait inside the commands, so that `--help` answers at once.
"""

import errno
import os
import sys
import traceback
from typing import NoReturn

import typer

from orchestrator.cli import (
    calibrate,
    checkpoint,
    cluster_cards,
    data,
    doctor,
    generate,
    launch,
    logs,
    model_cards,
    plan,
    resume,
    runs,
    schedule,
    schema,
    score,
    show,
    stop,
    validate,
)
from orchestrator.cli.outlet import ReaderGone
from orchestrator.errors import ExitCode, LlmorchError

_STREAM_ERRNOS = {errno.ENOSPC, errno.EPIPE}

app = typer.Typer(
    name="llmorch",
    help="Plan, check, launch and supervise LLM pre-training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("plan")(plan.plan)
app.command("validate")(validate.validate)
app.command("schedule")(schedule.schedule)
app.command("generate")(generate.generate)
app.command("launch")(launch.launch)
app.command("runs")(runs.runs)
app.command("logs")(logs.logs)
app.command("stop")(stop.stop)
app.command("resume")(resume.resume)
app.command("show")(show.show)
app.command("score")(score.score)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(model_cards.models, name="models")
app.command("clusters")(cluster_cards.clusters)
app.add_typer(data.data, name="data")
app.add_typer(checkpoint.checkpoint, name="checkpoint")
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)


def main() -> NoReturn:
    """Run the command line and exit with the code of what happened.

    Typer itself ends usage errors (2) and Ctrl-C (130); a command that has its own code raises
    `typer.Exit`.
    """
    _open_closed_streams()
    try:
        app(prog_name="llmorch")
        _end(ExitCode.OK)
    except LlmorchError as error:
        _end(error.exit_code, said=f"error: {error}\n")
    except SystemExit as end:
        _end(end.code if isinstance(end.code, int) else ExitCode.OK)
    except ReaderGone:
        os._exit(ExitCode.OK)
    except Exception as error:  # noqa: BLE001  the border: whatever is left ends here
        if isinstance(error, OSError) and error.errno in _STREAM_ERRNOS:
            _end_without_results(error)
        bug = "this is a bug of llmorch; please report it with the lines above\n"
        _end(ExitCode.BUG, said=traceback.format_exc() + bug)


def _open_closed_streams() -> None:
    """Give what was started without a standard stream an empty one (`2>&-`, some daemons).

    Else the next file that is opened gets its number: a journal, into which a child then complains.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = os.O_RDONLY if name == "stdin" else os.O_WRONLY
            null = os.open(os.devnull, mode)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))


def _end(code: int, *, said: str = "") -> NoReturn:
    """End with a code, even where nobody takes what there is to say.

    A normal exit would flush such a stream in vain, and end with another code.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        if code == ExitCode.OK:
            _end_without_results(error)
        _complain(said)
        os._exit(code)
    if not _complain(said):
        os._exit(code)
    sys.exit(code)


def _end_without_results(error: OSError) -> NoReturn:
    """End where stdout takes no more: its disk is full, or its reader (`| head`) has gone."""
    if error.errno == errno.EPIPE:
        os._exit(ExitCode.OK)
    problem = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
    _complain(f"error: the results cannot be written: {problem}\n")
    os._exit(ExitCode.STORAGE)


def _complain(said: str) -> bool:
    """Say it on stderr, and whether stderr still takes anything."""
    try:
        sys.stderr.write(said)
        sys.stderr.flush()
    except OSError:
        return False
    return True
