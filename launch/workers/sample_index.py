"""The sample index of a run's corpora, built whole or not at all.

Megatron's datasets cache their indices as several files, written in place by rank 0: a rank killed
in between leaves a torn cache that each later attempt trusts and dies of. They also key the cache
by the corpora's paths, so that a corpus prepared anew is read through its predecessor's index. Here
the index is built aside, renamed when complete, and keyed by the corpora's sizes and times as well.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def index_folder(prefixes: Sequence[str], settings: Sequence[object], *, cache_dir: str) -> Path:
    """Where the index of exactly these corpora, with settings such as the seed, is kept.

    A corpus that is not there has an index of its own, too: whoever builds it finds out.
    """
    identity = (*(_state(prefix) for prefix in prefixes), *settings)
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    return Path(cache_dir) / f"samples-{key}"


def ensure_index(index: Path, build: Callable[[Path], object]) -> None:
    """Have the index built into an empty folder, and give that its name, unless it is there.

    Call it on the first rank of each host before the ranks meet: then the builder waits for
    nobody, and the others wait in the rendezvous.
    """
    if index.is_dir():
        return
    index.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=index.parent, prefix="building-"))
    try:
        build(aside)
        aside.rename(index)
    except OSError:
        if not index.is_dir():  # or else another host was first, and its index is as good
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _state(prefix: str) -> tuple[str, int, int]:
    try:
        state = Path(f"{prefix}.idx").stat()
    except FileNotFoundError:
        return prefix, 0, 0
    return prefix, state.st_size, state.st_mtime_ns
