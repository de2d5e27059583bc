"""What a run that goes on does otherwise than the one whose checkpoint it takes up.

A new learning rate, batch or blend is anyone's right, and is honoured; that it is one is said.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_SECTIONS: Final = ("training", "data")
_OF_NO_MATTER: Final = ("data.cache_dir",)
# With these, a position is another sample than it was when it was counted.
_OF_THE_ORDER: Final = ("data.sources", "data.split", "data.seed", "training.sequence_length")


def remarks(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say each setting of the programme that has changed, in the words of the configuration."""
    there, here = _settings(saved), _settings(now)
    for key in sorted({*there, *here}):
        if key in _OF_NO_MATTER or there.get(key) == here.get(key):
            continue
        effect = ": samples come in another order from here on" if key in _OF_THE_ORDER else ""
        yield f"{key} was {there.get(key)} and is {here.get(key)}{effect}"


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys, two sections deep."""
    found: dict[str, Any] = {}
    for section in _SECTIONS:
        for name, value in arguments.get(section, {}).items():
            if isinstance(value, dict):
                found |= {f"{section}.{name}.{inner}": x for inner, x in value.items()}
            else:
                found[f"{section}.{name}"] = value
    return found
