"""`llmorch data`: make corpora of text files, check them, blend them."""

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(help="Make, check and blend corpora (.bin/.idx).", no_args_is_help=True)


@data.command("tokenize")
def tokenize(
    inputs: Annotated[
        list[str], typer.Argument(help="Text: .jsonl, .parquet, .txt or .md files, in order.")
    ],
    to: Annotated[str, typer.Option(help="The corpus: a path without .bin and .idx.")],
    tokenizer: Annotated[
        str, typer.Option(help="'bytes', or a Hugging Face tokenizer.json on this machine.")
    ],
    end_of_document: Annotated[
        str | None,
        typer.Option(help="The token that ends a document, or 'none'; with bytes it is 256."),
    ] = None,
    key: Annotated[str, typer.Option(help="Where JSON lines and Parquet have the text.")] = "text",
    text_unit: Annotated[
        str, typer.Option(help="A document of a .txt or .md file: 'file' or 'line'.")
    ] = "file",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a processor.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out documents that are no text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Make a corpus of text files; run it again to go on after whatever stopped it."""
    from launch.workers.data.tokenize import TokenizeOrder
    from launch.workers.data.tokenizer import TokenizerChoice
    from orchestrator.cli import data_making
    from orchestrator.cli.screen import print_json, results

    order = TokenizeOrder(
        inputs=tuple(inputs),
        prefix=to,
        choice=TokenizerChoice(tokenizer=tokenizer, end_of_document=end_of_document),
        key=key,
        text_unit=data_making.text_unit_of(text_unit),
        num_processes=processes or data_making.num_processors(),
        skips=skip_broken,
    )
    made = data_making.made(order)
    if as_json:
        print_json(data_making.document(made, prefix=to))
    else:
        results().print(data_making.picture(made, prefix=to), soft_wrap=True)


@data.command("check")
def check(
    prefixes: Annotated[list[str], typer.Argument(help="Corpora: paths without .bin and .idx.")],
    vocab_size: Annotated[
        int | None, typer.Option(min=1, help="Read every token: each must be below that.")
    ] = None,
    end_of_document: Annotated[
        int | None, typer.Option(min=0, help="Each document must end in that token.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check that corpora are whole; the first broken document is named."""
    from launch.workers.data.check import Question
    from orchestrator.cli import data_checking
    from orchestrator.cli.screen import print_json, results

    question = Question(vocab_size=vocab_size, end_of_document=end_of_document)
    found = data_checking.checked(prefixes, question)
    if as_json:
        print_json(data_checking.document(found))
    else:
        results().print(data_checking.picture(found))
    data_checking.refuse_broken(found)


@data.command("blend")
def blend(
    sources: Annotated[
        list[str], typer.Argument(help="A run file, or corpora: PREFIX=WEIGHT, or PREFIX by size.")
    ],
    tokens: Annotated[
        float | None, typer.Option(min=1, help="Tokens to train on; a run file says it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write weights and prefixes for --data-args-path.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what a run reads of each corpus, in tokens and epochs, and how engines are told."""
    from orchestrator.cli import data_blending
    from orchestrator.cli.files import write_text
    from orchestrator.cli.screen import print_json, results, talk

    shares = data_blending.blended(sources, tokens=tokens)
    if out is not None:
        write_text(out, data_blending.arguments_file(shares))
    if as_json:
        print_json(data_blending.document(shares))
    else:
        results().print(data_blending.picture(shares))
    for warning in data_blending.warnings(shares):
        talk().print(warning, markup=False)
