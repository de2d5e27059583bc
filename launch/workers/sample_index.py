"""A corpus's sample index, built whole or not at all.

Megatron's dataset caches its index as four files, written in place by rank 0: a rank killed in
between leaves a torn cache that each later attempt trusts and dies of. It also keys the cache by
the corpus's path, so that a corpus prepared anew is read through its predecessor's index. Here the
index is built aside, renamed when complete, and keyed by the corpus's size and time as well.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import EngineRefused


def index_folder(prefix: str, *, cache_dir: str, sequence_length: int, seed: int) -> Path:
    """Where the index of exactly this corpus, sequence length and seed is kept.

    Raises:
        EngineRefused: there is no such corpus; trying again would not help.
    """
    try:
        state = Path(f"{prefix}.idx").stat()
    except FileNotFoundError:
        raise EngineRefused(
            engine="megatron-core",
            reason=f"{prefix}.idx: no such corpus",
            instead="name one under data.prefix, or let data.corpus make it",
        ) from None
    identity = (prefix, state.st_size, state.st_mtime_ns, sequence_length, seed)
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
