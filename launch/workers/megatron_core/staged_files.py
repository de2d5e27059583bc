"""Which files of a staged checkpoint are this rank's, how long they are, and their CRC32.

They are read back right after they were written, so from memory. What is stated here goes to the
controller past the storage, which may then lose nothing unnoticed.
"""

import zlib
from pathlib import Path
from typing import Final

from launch.rank_lines import StagedFile

_PIECE_BYTES: Final = 1 << 24
_SHARD: Final = ".distcp"


def files_of(folder: Path, *, rank: int) -> tuple[StagedFile, ...]:
    """This rank's shards; rank 0 has what is nobody's shard as well."""
    return tuple(_stated(path) for path in sorted(folder.iterdir()) if _is_mine(path, rank))


def _is_mine(path: Path, rank: int) -> bool:
    if path.suffix == _SHARD:
        return path.name.startswith(f"__{rank}_")
    return rank == 0 and path.is_file()


def _stated(path: Path) -> StagedFile:
    crc32 = size_bytes = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            crc32 = zlib.crc32(piece, crc32)
            size_bytes += len(piece)
    return StagedFile(name=path.name, size_bytes=size_bytes, crc32=crc32)
