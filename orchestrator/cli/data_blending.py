"""What `llmorch data blend` answers: tokens and epochs of each source, and engines' arguments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launch.workers.data.corpus import Fault, open_corpus
from orchestrator import api
from orchestrator.cli.files import text_of
from orchestrator.cost.blend import MANY_EPOCHS, BlendShare, BlendSource, blend_shares
from orchestrator.errors import InvalidFile, Problem, UsageError

SCHEMA = 1
_RUN_FILES = (".yaml", ".yml")


def blended(words: Sequence[str], *, tokens: float | None) -> tuple[BlendShare, ...]:
    """Return what a run reads of each source.

    Raises:
        UsageError: neither a run file nor corpora with a number of tokens.
        InvalidFile: the run file or a corpus is broken.
    """
    if len(words) == 1 and words[0].endswith(_RUN_FILES):
        return _of_run_file(Path(words[0]), tokens)
    if tokens is None:
        raise UsageError(
            problem="how many tokens are trained on is not said",
            instead="--tokens 15.6e12, or a run file in place of corpora",
        )
    sources = [_source_of(word) for word in words]
    return blend_shares(sources, training_tokens=tokens)


def arguments_file(shares: Sequence[BlendShare]) -> str:
    """Return what Megatron reads from `--data-args-path`."""
    return " ".join(_megatron_words(shares)) + "\n"


def warnings(shares: Sequence[BlendShare]) -> tuple[str, ...]:
    """Return a line for each source that is read too often."""
    return tuple(
        f"warning: {share.prefix} is read {share.epochs:.1f} times: past {MANY_EPOCHS:g} epochs "
        f"repeated tokens are worth less; a weight of at most "
        f"{share.weight * MANY_EPOCHS / share.epochs:.4f} of 1 stays within"
        for share in shares
        if share.is_worn_out
    )


def document(shares: Sequence[BlendShare]) -> dict[str, Any]:
    """Return the answer as JSON."""
    return {
        "schema": SCHEMA,
        "sources": [
            {
                "prefix": share.prefix,
                "weight": share.weight,
                "available_tokens": share.available_tokens,
                "tokens": share.tokens,
                "epochs": share.epochs,
                "is_past_epochs": share.is_worn_out,
            }
            for share in shares
        ],
        "arguments": {
            "run_file": {"data": {"blend": _blend(shares)}},
            "megatron": ["--data-path", *_megatron_words(shares)],
        },
    }


def picture(shares: Sequence[BlendShare]) -> RenderableType:
    """Return a table of the sources, and how each engine is told."""
    table = Table(box=None, pad_edge=False)
    table.add_column("corpus", overflow="fold")
    for name in ("weight", "available tokens", "tokens read", "epochs"):
        table.add_column(name, justify="right")
    for share in shares:
        table.add_row(
            share.prefix,
            f"{share.weight:.4f}",
            f"{share.available_tokens:,}",
            f"{share.tokens:,.0f}",
            f"{share.epochs:.2f}",
        )
    lines = (
        "",
        "run file, for each engine:",
        "data:",
        "  blend:",
        *(f"    - {{prefix: {s['prefix']}, weight: {s['weight']}}}" for s in _blend(shares)),
        "",
        "Megatron's own scripts:",
        f"--data-path {' '.join(_megatron_words(shares))}",
    )
    return Group(table, Text("\n".join(lines), overflow="fold"))


def _of_run_file(path: Path, tokens: float | None) -> tuple[BlendShare, ...]:
    if tokens is not None:
        said = f"{path} says itself how many tokens are trained on"
        raise UsageError(problem=said, instead="leave --tokens out")
    run = api.read_run(text_of(path), file=str(path))
    data = run.spec.data
    if data is None:
        problem = Problem(key="data", message="absent: there is nothing to blend")
        raise InvalidFile(file=str(path), problems=[problem])
    shares = [float(word) for word in data.split.split(",")]
    trained_on = shares[0] / sum(shares)  # of the documents, and of the tokens about the same
    sources = [
        BlendSource(
            prefix=source.prefix,
            weight=source.weight,
            available_tokens=int(_tokens_of(source.prefix) * trained_on),
        )
        for source in data.sources()
    ]
    return blend_shares(sources, training_tokens=run.tokens)


def _source_of(word: str) -> BlendSource:
    prefix, separator, weight = word.rpartition("=")
    if not separator:
        available = _tokens_of(word)
        return BlendSource(prefix=word, weight=float(available), available_tokens=available)
    try:
        number = float(weight)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        problem = f"{word}: '{weight}' is no weight"
        raise UsageError(problem=problem, instead="PREFIX=50, PREFIX=0.5")
    return BlendSource(prefix=prefix, weight=number, available_tokens=_tokens_of(prefix))


def _tokens_of(prefix: str) -> int:
    found = open_corpus(prefix)
    if isinstance(found, Fault):
        problem = Problem(key="", message=found.problem, possible=found.instead)
        raise InvalidFile(file=str(found.path), problems=[problem])
    if not found.num_tokens:
        problem = Problem(key="", message="has no tokens: there is nothing to train on")
        raise InvalidFile(file=str(found.index), problems=[problem])
    return found.num_tokens


def _blend(shares: Sequence[BlendShare]) -> list[dict[str, Any]]:
    return [{"prefix": share.prefix, "weight": round(share.weight, 6)} for share in shares]


def _megatron_words(shares: Sequence[BlendShare]) -> list[str]:
    return [word for share in shares for word in (f"{share.weight:.6g}", share.prefix)]
