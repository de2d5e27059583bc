"""An action's text form, as torch writes it."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Action, ActionKind, Overlap, parse, parse_step


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action(kind=ActionKind.FORWARD, stage=4, microbatch=0), "4F0"),
        (Action(kind=ActionKind.BACKWARD, stage=3, microbatch=12), "3B12"),
        (Action(kind=ActionKind.INPUT_GRAD, stage=0, microbatch=1), "0I1"),
        (Action(kind=ActionKind.WEIGHT_GRAD, stage=0, microbatch=1), "0W1"),
    ],
    ids=["forward", "backward", "input gradient", "weight gradient"],
)
def test_text_names_stage_kind_and_microbatch_and_parses_back(action, text):
    assert str(action) == text
    assert parse(text) == action


@pytest.mark.parametrize("text", ["", "F0", "4F", "4X0", "-1F0", "4F0 ", "4f0", "4F0B1"])
def test_other_texts_are_refused_by_name(text):
    with pytest.raises(UsageError, match="is not a schedule action"):
        parse(text)


def test_an_overlapped_pair_is_spelled_as_torch_does_and_parses_back():
    pair = Overlap(forward=parse("0F3"), backward=parse("3B1"))

    assert str(pair) == "(0F3;3B1)OVERLAP_F_B"
    assert parse_step(str(pair)) == pair
    assert parse_step("3W1") == parse("3W1")


@pytest.mark.parametrize("text", ["(0F3)OVERLAP_F_B", "(0F3;3B1)", "(0F3;3X1)OVERLAP_F_B"])
def test_half_a_pair_is_refused_by_name(text):
    with pytest.raises(UsageError, match="is not a schedule action"):
        parse_step(text)
