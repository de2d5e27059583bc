"""What `llmorch validate` says about hosts and ranks, as text and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType

from orchestrator.cli import topology_json, topology_text
from orchestrator.cli.topology_view import Wishes, looked, write
from orchestrator.records.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Page:
    """What to print: `complaints` are a hostfile's problems, `talk` what was written."""

    document: Mapping[str, Any]
    picture: RenderableType | None = None
    complaints: tuple[str, ...] = ()
    talk: tuple[str, ...] = ()


def page_of(plan: Plan | None, wishes: Wishes) -> Page:
    """Look at the topology where something of it was asked for, and write what was asked for.

    Raises:
        StorageError: a file cannot be written.
        UsageError: the picture would have too many boxes.
    """
    if not wishes.any:
        return Page(document={})
    found = looked(plan, wishes)
    if found.problems:
        problems = [asdict(problem) for problem in found.problems]
        return Page(
            document={"hostfile": {"file": found.file, "problems": problems}},
            complaints=tuple(f"{found.file}: {problem}" for problem in found.problems),
        )
    if found.topology is None:
        return Page(document={})
    files = write(found.topology, wishes)
    asked = wishes.wants_rank_map
    return Page(
        document={
            "topology": topology_json.document_of(found.topology, wants_rank_map=asked, files=files)
        },
        picture=topology_text.picture(found.topology, wants_rank_map=asked),
        talk=tuple(f"wrote {path}" for path in files.values()),
    )
