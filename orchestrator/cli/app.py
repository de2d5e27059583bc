"""The `llmorch` command: which commands there are, and how their errors end.

Heavy imports wait inside the commands, so that `--help` answers at once.
"""

import sys
import traceback

import typer

from orchestrator.cli import cluster_cards, launch, model_cards, plan, schema, show, validate
from orchestrator.errors import ExitCode, LlmorchError

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
app.command("launch")(launch.launch)
app.command("show")(show.show)
app.add_typer(model_cards.models, name="models")
app.command("clusters")(cluster_cards.clusters)
app.command("schema")(schema.schema)


def main() -> None:
    """Run the command line and exit with the code of what happened.

    Typer itself ends usage errors (2) and Ctrl-C (130); a command that has its own code raises
    `typer.Exit`.
    """
    try:
        app()
    except LlmorchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001  the border: whatever is left is our bug, and we say so
        traceback.print_exc()
        sys.stderr.write("this is a bug of llmorch; please report it with the lines above\n")
        sys.exit(ExitCode.BUG)
