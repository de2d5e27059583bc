"""The user's own options of `engine.arguments`, checked against the release's parser."""

from itertools import takewhile

from orchestrator.engines.megatron_lm.flags import complaint
from orchestrator.engines.megatron_lm.row import Argument
from orchestrator.errors import EngineRefused


def extra_arguments(words: tuple[str, ...], release: str) -> tuple[Argument, ...]:
    """Return the user's options, in the order given.

    Raises:
        EngineRefused: the release has no such option, or it takes other words.
    """
    found = tuple(_split(words))
    problems = [
        problem
        for argument in found
        if (problem := complaint(release, argument.flag, argument.words)) is not None
    ]
    if problems:
        text = "\n".join(f"engine.arguments: {problem}" for problem in problems)
        raise EngineRefused(engine=f"megatron-lm {release}", reason=text)
    return found


def joined(
    ours: tuple[Argument, ...], own: tuple[Argument, ...], *, release: str
) -> tuple[Argument, ...]:
    """Return our options and the user's; theirs take the place of those that yield.

    Raises:
        EngineRefused: the run file says something already that an own option says again.
    """
    flags = {argument.flag for argument in own}
    twice = [a.flag for a in ours if a.flag in flags and not a.yields]
    if twice:
        raise EngineRefused(
            engine=f"megatron-lm {release}",
            reason=f"engine.arguments: {', '.join(twice)} is written from the run file already",
            instead="change the run file's field instead",
        )
    return (*(argument for argument in ours if argument.flag not in flags), *own)


def _split(words: tuple[str, ...]) -> tuple[Argument, ...]:
    starts = [i for i, word in enumerate(words) if word.startswith("--")]
    if words and (not starts or starts[0] != 0):
        reason = f"engine.arguments: '{words[0]}' is not an option; options begin with --"
        raise EngineRefused(engine="megatron-lm", reason=reason)
    return tuple(
        Argument(
            section="Your own",
            flag=words[start],
            words=tuple(takewhile(lambda word: not word.startswith("--"), words[start + 1 :])),
            why="engine.arguments",
        )
        for start in starts
    )
