"""What a run file says and an engine's own command does not: named, with why it is no loss.

It is said of `llmorch launch`, which starts and supervises; a command that runs under torchrun has
nobody who would do it. Whatever else a command cannot say is refused.
"""

from collections.abc import Iterator

from orchestrator.records.bundle import Unsaid
from orchestrator.specs.closed import Closed
from orchestrator.specs.run import RunSpec

_LAUNCH = "of llmorch launch; torchrun starts this command, the same on every host"
_SUPERVISE = "of llmorch launch: nothing supervises this command, a scheduler may start it again"

LAUNCHED = {
    "cluster.spares": "of llmorch launch: no spare host takes part",
    **dict.fromkeys(
        (
            *("launch.via", "launch.folder", "launch.controller_port", "launch.binding"),
            *("launch.logs", "launch.hostfile", "launch.controller_host", "launch.working_folder"),
            *("launch.venv", "launch.ssh", "launch.preflight"),
        ),
        _LAUNCH,
    ),
    "supervise": _SUPERVISE,
}
"""Keys, or whole sections, that a command under torchrun leaves to nobody."""


def unsaid_of(spec: RunSpec, reasons: dict[str, str]) -> tuple[Unsaid, ...]:
    """Return those of the keys whose value in a run file is not the default."""
    given = dict(_given(spec, ""))
    return tuple(
        Unsaid(key=key, why=why)
        for key, why in reasons.items()
        if any(name == key or name.startswith(f"{key}.") for name in given)
    )


def _given(section: Closed, before: str) -> Iterator[tuple[str, object]]:
    """Give each key of a section that differs from its default, sections within it unfolded."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Closed):
            yield from _given(value, f"{before}{name}.")
        elif value != field.get_default(call_default_factory=True, validated_data={}):
            yield f"{before}{name}", value
