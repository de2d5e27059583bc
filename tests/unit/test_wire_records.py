"""The records of docs/protocols.md as the code has them."""

import dataclasses
import math
import re

import pytest

from launch import rank_lines, wire
from launch.codec import LINE_LIMIT_BYTES
from launch.fork_lines import FROM_FORK_SERVER, TO_FORK_SERVER
from launch.rank_lines import RANK_LINES, RefusedLine, StepLine
from launch.wire import (
    FROM_VISITOR,
    HANDSHAKE,
    TO_AGENT,
    TO_CONTROLLER,
    TO_VISITOR,
    Exited,
    Hello,
    RankLine,
    RankSlot,
    StartRanks,
    UnknownKindError,
    Welcome,
    WireError,
    decode,
    encode,
)

FAMILIES = {
    "## 2. Rank to agent": RANK_LINES,
    "### Agent to controller": TO_CONTROLLER,
    "### Controller to agent": TO_AGENT,
    "### Visitor to controller": FROM_VISITOR,
    "### Controller to visitor": TO_VISITOR,
    "### Agent to fork server": TO_FORK_SERVER,
    "### Fork server to agent": FROM_FORK_SERVER,
}
STEP = StepLine(step=3, loss=2.5, grad_norm=None, learning_rate=1e-3, tokens=64, duration_s=0.25)


def test_a_record_is_one_json_line_with_its_kind_first() -> None:
    assert encode(STEP) == (
        b'{"kind":"step","step":3,"loss":2.5,"grad_norm":null,"learning_rate":0.001,'
        b'"tokens":64,"duration_s":0.25}\n'
    )


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=str)
def test_a_loss_that_is_not_finite_is_null_with_a_note(number: float) -> None:
    line = dataclasses.replace(STEP, loss=number)

    assert line.loss is None
    assert line.note == "non-finite loss"


def test_every_number_that_is_not_finite_is_noted() -> None:
    line = dataclasses.replace(STEP, loss=math.nan, grad_norm=math.inf)

    assert (line.loss, line.grad_norm) == (None, None)
    assert line.note == "non-finite loss, non-finite grad norm"


def test_nan_never_gets_onto_the_wire() -> None:
    with pytest.raises(WireError, match="step: "):
        encode(dataclasses.replace(STEP, duration_s=math.nan))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"kind":"finished"}', "finished.step: missing"),
        (b'{"kind":"finished","step":"3"}', "finished.step: expected a whole number, found '3'"),
        (b'{"kind":"finished","step":true}', "finished.step: expected a whole number, found True"),
        (b'{"kind":"finished","step":3.5}', "finished.step: expected a whole number, found 3.5"),
        (b'{"kind":"finished","step":null}', "finished.step: expected a whole number, found null"),
        (b'{"kind":"refused","reason":["a"]}', "refused.reason: expected text, found a list"),
        (b'{"kind":"phase","phase":"nap"}', "phase.phase: expected one of start, load, "),
        (b'{"step":3}', "kind: expected text, found null"),
        (b"[1]", "expected an object, found a list"),
        (b'{"kind":"finished","step":NaN}', "not JSON (NaN)"),
        (b'{"kind":"finished","step":', "not JSON ("),
        (b"\xff\xfe\x00", "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_refused_with_its_field(line: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=re.escape(problem)):
        decode(line, RANK_LINES)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    text = encode(STEP).replace(b'"loss":2.5', b'"loss":1e999')

    with pytest.raises(WireError, match=r"step\.loss: expected a finite number"):
        decode(text, RANK_LINES)


def test_a_bad_field_inside_is_named_with_its_whole_path() -> None:
    line = encode(RankLine(generation=1, rank=0, record=STEP)).replace(b'"step":3', b'"step":"x"')

    with pytest.raises(WireError, match=r"line\.record\.step\.step: expected a whole number"):
        decode(line, TO_CONTROLLER)


def test_a_bad_item_of_a_list_is_named_by_its_index() -> None:
    line = encode(start_ranks()).replace(b'"local_rank":1', b'"local_rank":null')

    with pytest.raises(WireError, match=r"start\.ranks\[1\]\.local_rank: expected a whole number"):
        decode(line, TO_AGENT)


def test_fields_nobody_knows_are_ignored() -> None:
    line = b'{"kind":"left","step":3,"mood":"fine"}'

    assert decode(line, RANK_LINES) == rank_lines.LeftLine(step=3)


def test_an_unknown_kind_is_told_from_a_bad_line() -> None:
    with pytest.raises(UnknownKindError, match="unknown kind 'dance'"):
        decode(b'{"kind":"dance"}', RANK_LINES)


def test_a_record_of_another_family_is_not_taken() -> None:
    with pytest.raises(UnknownKindError):
        decode(encode(Welcome(epoch=1, beat_interval_s=0.5, lease_s=5.0)), TO_CONTROLLER)


def test_a_whole_number_is_a_number() -> None:
    line = b'{"kind":"welcome","epoch":1,"beat_interval_s":1,"lease_s":5}'

    assert decode(line, TO_AGENT) == Welcome(epoch=1, beat_interval_s=1.0, lease_s=5.0)


def test_a_field_that_came_later_may_be_absent() -> None:
    assert "note" not in encode(STEP).decode()
    assert decode(encode(STEP), RANK_LINES) == STEP


def test_a_long_refusal_is_cut_so_that_its_write_stays_atomic() -> None:
    line = encode(RefusedLine(reason="\x01é\n" * 9_000))

    assert len(line) <= 4096
    assert decode(line, RANK_LINES).reason.startswith("\x01é\n")


def test_a_rank_line_past_the_atomic_size_is_refused() -> None:
    with pytest.raises(WireError, match="the limit is 4096"):
        encode(rank_lines.CheckpointLine(step=1, path="p" * 5000, duration_s=0.1))


def test_a_line_past_one_mebibyte_is_refused() -> None:
    with pytest.raises(WireError, match=f"the limit is {LINE_LIMIT_BYTES}"):
        encode(wire.InstructionFailed(generation=1, reason="x" * LINE_LIMIT_BYTES))


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(WireError):
        encode(wire.InstructionFailed(generation=1, reason="\ud800"))


@pytest.mark.parametrize("heading", list(FAMILIES))
def test_the_page_and_the_code_name_the_same_records_and_fields(heading: str, root) -> None:
    page = (root / "docs" / "protocols.md").read_text()
    section = page.split(heading)[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\| ", section, re.MULTILINE)
    documented = {kind: top_level_names(cell) for kind, cell in rows}

    assert documented == {
        kind: {f.name for f in dataclasses.fields(record)}
        for kind, record in FAMILIES[heading].items()
    }


def test_the_page_shows_the_handshake_of_the_code(root) -> None:
    page = (root / "docs" / "protocols.md").read_text()

    for kind, record in HANDSHAKE.items():
        names = [f'"{f.name}"' for f in dataclasses.fields(record)]
        shown = re.search(rf'{{"kind": "{kind}".*?}}', page)
        assert shown is not None
        assert all(name in shown.group() for name in names)


def top_level_names(cell: str) -> set[str]:
    """The fields a table cell names: those outside braces, without a field's choices."""
    outside = re.sub(r"list of `\{.*?\}`", "", cell)
    return set(re.findall(r"(?:^|, )`(\w+)`", outside.strip()))


def start_ranks() -> StartRanks:
    return StartRanks(
        generation=1,
        ranks=(RankSlot(rank=4, local_rank=0), RankSlot(rank=5, local_rank=1)),
        argv=("python", "-m", "x"),
        env={"A": "b"},
        world_size=8,
        local_world_size=2,
        group_rank=2,
        master_addr="10.0.0.1",
        master_port=29_500,
        resume_from=None,
        log_dir="/runs/x/logs",
    )


def test_nested_records_and_mappings_come_back_as_they_were() -> None:
    assert decode(encode(start_ranks()), TO_AGENT) == start_ranks()


def test_absent_values_are_null_and_come_back_as_none() -> None:
    exited = Exited(
        generation=1, rank=0, pid=7, exit_code=None, signal=9, tail=("last words", "böse")
    )

    assert b'"exit_code":null' in encode(exited)
    assert decode(encode(exited), TO_CONTROLLER) == exited


def test_a_hello_names_what_still_runs() -> None:
    hello = Hello(
        host="h1",
        agent_id=0,
        pid=3,
        slots=8,
        version="0.1.0",
        epoch=2,
        generation=4,
        ranks=(0, 1),
    )

    assert decode(encode(hello), TO_CONTROLLER).ranks == (0, 1)
