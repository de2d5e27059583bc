"""From text files to a corpus: chunks out to processes, tokens back in order, onto the disk.

One process writes, because a tokenizer is twenty times slower than a disk; the others tokenise. The
chunks come back in the order of the input, so the corpus does not depend on how many processes
there were, nor on how often it was interrupted.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from launch.workers.data.build_folder import BuildFolder, Entry, require_room
from launch.workers.data.chunks import (
    CHUNK_BYTES,
    Chunk,
    InputFile,
    InputFormat,
    TextUnit,
    chunks_of,
    input_files,
)
from launch.workers.data.counts import Counts
from launch.workers.data.crew import Crew
from launch.workers.data.documents import block_of, spoken_place
from launch.workers.data.encode import (
    BrokenChunk,
    EncodedChunk,
    EncodeOrder,
    Encoder,
)
from launch.workers.data.tokenizer import Tokenizer, TokenizerChoice, tokenizer_of
from orchestrator.errors import InvalidFile, Problem, StorageError, UsageError

_RECIPE: Final = "recipe.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeOrder:
    """What to make a corpus of, and how."""

    inputs: tuple[str, ...]
    prefix: str
    choice: TokenizerChoice
    key: str
    text_unit: TextUnit
    num_processes: int
    skips: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a corpus is."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """A corpus that is there; `num_resumed` chunks had been done by an earlier attempt."""

    counts: Counts
    dtype: str
    end_of_document: int | None
    num_skipped: int
    num_resumed: int
    was_there: bool


def tokenize(order: TokenizeOrder, tell: Callable[[Progress], None]) -> Tokenized:
    """Make a corpus, or go on with one that was begun.

    Raises:
        UsageError: the order does not hold together, or differs from the one it was begun with.
        InvalidFile: a document is broken.
        StorageError: a file cannot be read or written; what is done stays.
        HostError: a process was killed; what is done stays.
    """
    files = input_files(order.inputs, text_unit=order.text_unit)
    tokenizer = tokenizer_of(order.choice)
    recipe = _recipe(order, files, tokenizer)
    if (there := _finished(order.prefix, recipe)) is not None:
        shutil.rmtree(f"{order.prefix}.building", ignore_errors=True)  # a kill came before that
        return there
    require_room(order.prefix)
    folder = BuildFolder(order.prefix)
    try:
        folder.open()
        _agree(folder, recipe, files)
        return _built(order, folder, _Inputs(files=files, tokenizer=tokenizer, recipe=recipe), tell)
    except OSError as error:
        raise StorageError(
            path=str(error.filename or folder.path),
            problem=error.strerror or str(error),
            instead=f"what is done stays in {folder.path}; the same command goes on with it",
        ) from error
    finally:
        folder.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    files: tuple[InputFile, ...]
    tokenizer: Tokenizer
    recipe: dict[str, Any]


def _built(
    order: TokenizeOrder, folder: BuildFolder, inputs: _Inputs, tell: Callable[[Progress], None]
) -> Tokenized:
    num_resumed = len(folder.entries)
    total_bytes = sum(file.size_bytes for file in inputs.files)
    chunks = chunks_of(inputs.files)
    done_bytes = sum(chunk.size_bytes for chunk in islice(chunks, num_resumed))
    tell(Progress(done_bytes=done_bytes, total_bytes=total_bytes))
    for encoded in _encoded(order, chunks, left_bytes=total_bytes - done_bytes):
        if isinstance(encoded, BrokenChunk):
            raise _refusal(encoded, folder)
        folder.append(encoded)
        done_bytes += encoded.chunk.size_bytes
        tell(Progress(done_bytes=done_bytes, total_bytes=total_bytes))
    num_skipped, dtype = folder.num_skipped, inputs.tokenizer.dtype
    facts = {"dtype": dtype.name, "num_skipped": num_skipped}
    facts["end_of_document"] = inputs.tokenizer.end_of_document
    counts = folder.finish(
        dtype, lambda counts: {"recipe": inputs.recipe, "counts": asdict(counts), **facts}
    )
    return Tokenized(
        counts=counts,
        dtype=dtype.name,
        end_of_document=inputs.tokenizer.end_of_document,
        num_skipped=num_skipped,
        num_resumed=num_resumed,
        was_there=False,
    )


def _encoded(
    order: TokenizeOrder, chunks: Iterator[Chunk], *, left_bytes: int
) -> Iterator[EncodedChunk | BrokenChunk]:
    encode = EncodeOrder(choice=order.choice, key=order.key, skips=order.skips)
    num_processes = min(order.num_processes, 1 + left_bytes // CHUNK_BYTES)
    if num_processes == 1:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        yield from map(Encoder(encode).encode, chunks)
        return
    with Crew(encode, num_processes=num_processes) as crew:
        yield from crew.encode(chunks)


def _recipe(
    order: TokenizeOrder, files: tuple[InputFile, ...], tokenizer: Tokenizer
) -> dict[str, Any]:
    """What the tokens depend on; not whether broken documents are skipped: the rest is the same."""
    return {
        "schema": 1,
        "tokenizer": tokenizer.identity,
        "end_of_document": tokenizer.end_of_document,
        "key": order.key,
        "text_unit": order.text_unit.value,
        "files": [asdict(file) for file in files],
    }


def _finished(prefix: str, recipe: dict[str, Any]) -> Tokenized | None:
    """A whole corpus of the same recipe."""
    try:
        note = json.loads(Path(f"{prefix}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not Path(f"{prefix}.idx").exists() or note.get("recipe") != recipe:
        return None
    return Tokenized(
        counts=Counts(**note["counts"]),
        dtype=note["dtype"],
        end_of_document=note["end_of_document"],
        num_skipped=note["num_skipped"],
        num_resumed=0,
        was_there=True,
    )


def _agree(folder: BuildFolder, recipe: dict[str, Any], files: tuple[InputFile, ...]) -> None:
    """Keep of an earlier attempt what this one would do in the same way."""
    path = folder.path / _RECIPE
    try:
        before = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        before = {**recipe, "files": []}
    differing = [key for key in recipe if key != "files" and before.get(key) != recipe[key]]
    if differing and folder.entries:
        spoken = ", ".join(f"{key} was {before.get(key)}" for key in differing)
        raise UsageError(
            problem=f"{folder.path}: was begun otherwise: {spoken}",
            instead="give the same again, or remove that folder and begin anew",
        )
    same = {file["path"] for file in before["files"] if file in recipe["files"]}
    agreed = 0
    for entry, chunk in zip(folder.entries, chunks_of(files), strict=False):
        if not entry.is_of(chunk) or not (chunk.path in same or _is_unchanged(chunk, entry)):
            break
        agreed += 1
    folder.keep(agreed)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(recipe))
    partial.rename(path)


def _is_unchanged(chunk: Chunk, entry: Entry) -> bool:
    """Whether the part of a file that a chunk was made of is as it was, though the file changed."""
    return chunk.format is not InputFormat.PARQUET and block_of(chunk).crc == entry.source_crc


def _refusal(broken: BrokenChunk, folder: BuildFolder) -> InvalidFile:
    place = spoken_place(broken.chunk, broken.bad.at)
    possible = (
        "mend it, or leave such documents out with --skip-broken; the same command goes on "
        f"with what is done ({len(folder.entries)} parts in {folder.path})"
    )
    return InvalidFile(
        file=place, problems=[Problem(key="", message=broken.bad.problem, possible=possible)]
    )
