"""The hosts of a run, as somebody listed them: names, GPUs, and the switches above them."""

from dataclasses import dataclass

LEVELS = ("block", "rail", "rack")
"""The levels of a fabric that a hostfile may name, outermost first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host of a hostfile; what its line does not say is None.

    `gpus` are the ranks it can run (`slots`). `rack` is what it shares a cabinet and its uplink
    with, `rail` the group of hosts whose adapters meet on the same leaf switches, `block` what
    lies above both. `switches` are the same as Slurm tells them (`SLURM_TOPOLOGY_ADDR`),
    outermost first, and stand instead of the three. `line` is 1-based, 0 where no file is.
    """

    name: str
    gpus: int | None = None
    rack: str | None = None
    rail: str | None = None
    block: str | None = None
    switches: tuple[str, ...] = ()
    user: str | None = None
    address: str | None = None
    line: int = 0

    @property
    def path(self) -> tuple[str, ...]:
        """What stands above the host in the fabric, outermost first."""
        named = (self.block, self.rail, self.rack)
        return self.switches or tuple(part for part in named if part is not None)

    @property
    def levels(self) -> tuple[str, ...]:
        """What the parts of `path` are called."""
        if self.switches:
            return tuple(f"switch level {depth + 1}" for depth in range(len(self.switches)))
        named = (self.block, self.rail, self.rack)
        return tuple(level for level, part in zip(LEVELS, named, strict=True) if part is not None)
