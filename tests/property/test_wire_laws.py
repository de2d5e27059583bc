"""Laws of the codec and of the channel, for any record and for any bytes."""

from dataclasses import MISSING, fields
from enum import StrEnum
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.codec import Line, WireError
from launch.rank_lines import RANK_LINES
from launch.transport.channel import (
    AgentHandshake,
    ChannelError,
    ControllerHandshake,
    LineSplitter,
    Session,
)
from launch.wire import HANDSHAKE, TO_AGENT, TO_CONTROLLER, decode, encode

FAMILIES = {"rank": RANK_LINES, "controller": TO_CONTROLLER, "agent": TO_AGENT, "shake": HANDSHAKE}
RECORDS = [(name, kind) for name, records in FAMILIES.items() for kind in records]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = {
    int: st.integers(-(2**63), 2**63),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: TEXT,
    NoneType: st.none(),
}


def values(hint: Any) -> st.SearchStrategy:
    """Any value of an annotated type."""
    if hint in SCALARS:
        return SCALARS[hint]
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if get_origin(hint) is UnionType:
        return st.one_of([values(option) for option in get_args(hint)])
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    if isinstance(hint, type):
        return records(hint)
    return st.dictionaries(TEXT, TEXT, max_size=3)


def records(kind: type) -> st.SearchStrategy:
    hints = get_type_hints(kind)
    return st.builds(kind, **{f.name: values(hints[f.name]) for f in fields(kind)})


@pytest.mark.parametrize(("family", "kind"), RECORDS)
def test_what_is_encoded_is_decoded_again(family: str, kind: str) -> None:
    @settings(max_examples=50, deadline=None)
    @given(records(FAMILIES[family][kind]))
    def law(record: Line) -> None:
        assert decode(encode(record), FAMILIES[family]) == record

    law()


@pytest.mark.parametrize(("family", "kind"), RECORDS)
def test_each_required_field_is_missed_by_name(family: str, kind: str) -> None:
    record = FAMILIES[family][kind]
    required = [f.name for f in fields(record) if f.default is MISSING]

    if required:
        with pytest.raises(WireError, match=rf"{kind}\.{required[0]}: missing"):
            decode(f'{{"kind": "{kind}"}}', FAMILIES[family])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100)))
def test_any_bytes_are_a_record_or_a_wire_error(data: bytes | str) -> None:
    for family in FAMILIES.values():
        with pytest.raises(WireError):
            decode(data, family)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RECORDS), st.data())
def test_any_json_fields_are_a_record_or_a_wire_error(which, data) -> None:
    import json

    family, kind = which
    record = FAMILIES[family][kind]
    names = [f.name for f in fields(record)]
    content = {"kind": kind} | {name: data.draw(JSON, label=name) for name in names}

    try:
        decoded = decode(json.dumps(content), FAMILIES[family])
    except WireError:
        return
    assert isinstance(decoded, record)


def sessions() -> tuple[Session, Session]:
    """The controller's and the agent's end of one connection."""
    controller, agent = ControllerHandshake(secret="s"), AgentHandshake(secret="s")
    answer = agent.respond(controller.challenge().rstrip(b"\n"))
    accepted, session = controller.accept(answer.rstrip(b"\n"))
    return session, agent.confirm(accepted.rstrip(b"\n"))


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=5))
def test_bodies_cross_the_channel_unchanged_and_in_order(bodies: list[str]) -> None:
    controller, agent = sessions()

    crossed = [controller.open(agent.seal(body).rstrip(b"\n")) for body in bodies]

    assert crossed == bodies


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_line_that_was_touched_anywhere_is_refused(data) -> None:
    controller, agent = sessions()
    line = bytearray(agent.seal('{"kind":"leave"}').rstrip(b"\n"))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(ChannelError):
        controller.open(bytes(line))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_of_a_stranger_are_a_channel_error(data: bytes) -> None:
    controller, _ = sessions()

    with pytest.raises(ChannelError):
        controller.open(data)
    with pytest.raises(ChannelError):
        ControllerHandshake(secret="s").accept(data)
    with pytest.raises(ChannelError):
        AgentHandshake(secret="s").respond(data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), st.data())
def test_lines_do_not_depend_on_how_the_bytes_are_cut(lines: list[bytes], data) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))) | {0, len(stream)})
    splitter = LineSplitter(limit_bytes=64)

    chunks = [stream[start:end] for start, end in pairwise(cuts)]
    found = [line for chunk in chunks for line in splitter.feed(chunk)]

    assert found == lines
