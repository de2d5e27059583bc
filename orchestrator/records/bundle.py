"""What an engine renders for a run: one command for every rank and the files beside it."""

from dataclasses import dataclass

BUNDLE_PLACEHOLDER = "{bundle}"
"""In a command: the bundle's absolute folder on the host."""

SCRIPTS_PLACEHOLDER = "{bin}"
"""In a command: where llmorch's console scripts are installed on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """A text file of the bundle; `path` is relative to the bundle's folder."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a part of the command or the environment is there, under a heading."""

    part: str
    section: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaid:
    """A key of the run file that the command does not say, and why that is no loss."""

    key: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBundle:
    """All an engine needs on a host to run any rank of a plan.

    `argv` is the same for all ranks (they differ by environment alone); `prepare` are commands
    run once, in order, before the first rank starts. Both may hold the placeholders `{bundle}`
    (the bundle's absolute folder) and `{bin}` (where llmorch's console scripts are installed),
    which the launcher replaces. `torchrun` is what starts a host's ranks without llmorch: torch's
    program, or one that takes its options, and its first words. `unsaid` is what the run file says
    and this command does not. `warm` is the command of the fork server that can start ranks of
    `argv`; none where the engine has no such thing.
    """

    engine: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    files: tuple[BundleFile, ...]
    world_size: int
    last_step: int
    prepare: tuple[tuple[str, ...], ...] = ()
    warm: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    torchrun: tuple[str, ...] = ("torchrun",)
    unsaid: tuple[Unsaid, ...] = ()
