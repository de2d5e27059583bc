"""An action's text form, as torch writes it."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Action, ActionKind, parse


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action(kind=ActionKind.FORWARD, stage=4, microbatch=0), "4F0"),
        (Action(kind=ActionKind.BACKWARD, stage=3, microbatch=12), "3B12"),
    ],
    ids=["forward", "backward"],
)
def test_text_names_stage_kind_and_microbatch_and_parses_back(action, text):
    assert str(action) == text
    assert parse(text) == action


@pytest.mark.parametrize("text", ["", "F0", "4F", "4W0", "-1F0", "4F0 ", "4f0", "4F0B1"])
def test_other_texts_are_refused_by_name(text):
    with pytest.raises(UsageError, match="is not a schedule action"):
        parse(text)
