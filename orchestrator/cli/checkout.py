"""Whether the folder named by `engine.checkout` holds the release it should."""

import re
from pathlib import Path

from orchestrator.errors import EngineRefused
from orchestrator.specs.run import EngineSpec

_INFO = Path("megatron/core/package_info.py")
_NUMBER = re.compile(r"^(MAJOR|MINOR|PATCH)\s*=\s*(\d+)", re.MULTILINE)
_PRE_RELEASE = re.compile(r"^PRE_RELEASE\s*=\s*'([^']+)'", re.MULTILINE)


def checkout_note(spec: EngineSpec, *, engine: str) -> str | None:
    """Return what could not be checked of a checkout, None where it is right or not asked for.

    A folder that is not on this machine may be on the hosts: that is a note, not an error.

    Raises:
        EngineRefused: the folder is here, and is no checkout of the release in `engine`
            (`name@release`).
    """
    if spec.checkout is None:
        return None
    folder, release = Path(spec.checkout), engine.partition("@")[2]
    if not folder.is_dir():
        return f"engine.checkout {spec.checkout} is not on this machine: its release is unchecked"
    found = release_in(folder)
    if found is None or not (folder / "pretrain_gpt.py").is_file():
        missing = "pretrain_gpt.py" if found else str(_INFO)
        raise EngineRefused(
            engine=engine,
            reason=f"engine.checkout: {spec.checkout} has no {missing}, so it is no Megatron-LM",
            instead=f"git clone -b core_v{release} https://github.com/NVIDIA/Megatron-LM",
        )
    if found != release:
        raise EngineRefused(
            engine=engine,
            reason=f"engine.checkout: {spec.checkout} is {found}, and the arguments are for "
            f"{release}; releases differ in their options",
            instead=f"git checkout core_v{release}, or engine.version: {found}",
        )
    return None


def release_in(folder: Path) -> str | None:
    """Return the release that a folder of Megatron-LM's sources says it is, None without one."""
    try:
        text = (folder / _INFO).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    numbers = dict(_NUMBER.findall(text))
    if set(numbers) != {"MAJOR", "MINOR", "PATCH"}:
        return None
    before = _PRE_RELEASE.search(text)
    release = f"{numbers['MAJOR']}.{numbers['MINOR']}.{numbers['PATCH']}"
    return f"{release}{before[1]}" if before else release
