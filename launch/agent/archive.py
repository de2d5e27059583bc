"""The agent as one file that any Python 3.11 can run: `agent.pyz`."""

import zipfile
from pathlib import Path

import launch

_MAIN = """from launch.agent.main import main

main()
"""
_PACKAGES = ("agent", "transport")
_MODULES = ("__init__", "clock", "codec", "fork_lines", "marks", "rank_lines", "wire")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip file cannot be older; equal sources give equal bytes
_PLAIN_FILE = 0o100644 << 16


def build_zipapp(path: Path) -> None:
    """Write the agent's archive: sources alone, uncompressed, the same bytes each time."""
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_STORED) as archive:
        for name, text in sorted(_contents().items()):
            entry = zipfile.ZipInfo(name, date_time=_EARLIEST)
            entry.external_attr = _PLAIN_FILE
            archive.writestr(entry, text)


def _contents() -> dict[str, str]:
    root = Path(launch.__file__).parent
    files = [root / f"{module}.py" for module in _MODULES]
    for package in _PACKAGES:
        files += (root / package).glob("*.py")
    sources = {f"launch/{file.relative_to(root)}": file.read_text() for file in files}
    return {"__main__.py": _MAIN} | sources
