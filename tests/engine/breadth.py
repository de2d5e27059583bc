"""Tables of cases: those that are run always, and the rest, which `make engine-all` adds."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest


def names(table: Iterable[str], *, always: Collection[str]) -> list[Any]:
    """Parameters that are the names themselves, for fixtures that answer all cases at once."""
    return cases({name: (name,) for name in table}, always=always)


def cases(table: Mapping[str, tuple[Any, ...]], *, always: Collection[str]) -> list[Any]:
    """Parameters named as in the table; those not named in `always` are marked `slow_engine`."""
    unknown = sorted(set(always) - set(table))
    assert not unknown, f"not in the table: {unknown}"
    return [
        pytest.param(*values, id=name, marks=() if name in always else pytest.mark.slow_engine)
        for name, values in table.items()
    ]


def asked_for(
    request: pytest.FixtureRequest, table: Mapping[str, Any], *, always: Collection[str]
) -> list[str]:
    """The cases that this session's tests of the module name, and those that are run always."""
    named = {
        item.callspec.params.get("name")
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    return [name for name in table if name in named or name in always]
