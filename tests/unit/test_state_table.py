"""The page about the supervisor shows the table that the code has."""

from launch.supervisor.events import EVENTS, RunOpened
from launch.supervisor.run_state import Phase
from launch.supervisor.state import TABLE

ACTIVE = [phase for phase in Phase if phase is not Phase.ENDED]


def test_the_page_shows_the_table_of_the_code(root) -> None:
    page = (root / "docs" / "supervisor.md").read_text()

    missing = [row for row in rows() if row not in page]

    assert missing == [], "put these rows into docs/supervisor.md"


def test_nothing_happens_after_the_end() -> None:
    assert not any(phase is Phase.ENDED for phase, _ in TABLE)


def rows() -> list[str]:
    """The table, a row an event: the handler in each phase, nothing where it cannot happen."""
    head = "| event | " + " | ".join(ACTIVE) + " |"
    kinds = {kind: event for kind, event in EVENTS.items() if event is not RunOpened}
    return [head, *(f"| `{kind}` | {' | '.join(cells(event))} |" for kind, event in kinds.items())]


def cells(event: type) -> list[str]:
    handlers = (TABLE.get((phase, event)) for phase in ACTIVE)
    return [handler.__name__.replace("_", " ") if handler else "" for handler in handlers]
