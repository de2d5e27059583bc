"""Layouts of layers on stages, Megatron's text for them, and what is refused."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.stages import (
    Stage,
    accounted,
    even,
    layers_on_rank,
    layout_of,
    parse,
    text_of,
    text_refusal,
)

LLAMA_405B = "E|(t|)*126,L"


def test_llama_405b_has_a_stage_for_each_layer_and_for_both_ends():
    layout = accounted(126, num_stages=128)

    assert layout is not None
    assert text_of(layout) == LLAMA_405B
    assert [layers_on_rank(layout, 16, rank) for rank in range(16)] == [7, *[8] * 14, 7]


@pytest.mark.parametrize(
    ("num_layers", "num_stages", "text"),
    [
        (30, 4, "Et*7|t*8|t*8|t*7L"),
        (31, 4, "Et*8|t*8|t*8|t*7L"),
        (3, 1, "EtttL"),
        (2, 4, "E|t|t|L"),
    ],
    ids=["both ends", "loss alone", "one stage", "empty ends"],
)
def test_ends_count_as_layers_where_the_sum_divides(num_layers, num_stages, text):
    layout = accounted(num_layers, num_stages=num_stages)

    assert layout == parse(text)
    assert layout.num_layers == num_layers


def test_there_is_no_accounted_layout_where_neither_sum_divides():
    assert accounted(32, num_stages=4) is None


def test_even_stages_hold_the_same_and_the_ends_on_top():
    layout = even(32, num_stages=8, mtp_num_layers=1)

    assert text_of(layout) == "Et*4|(t*4|)*6,t*4mL"
    assert layout.stages[-1] == Stage(decoder_layers=4, mtp_layers=1, has_loss=True)


@pytest.mark.parametrize(("num_layers", "num_stages"), [(30, 4), (4, 8), (0, 1), (4, 0)])
def test_uneven_division_is_refused_with_both_numbers(num_layers, num_stages):
    with pytest.raises(
        UsageError, match=f"{num_layers} layers do not divide into {num_stages} stages"
    ):
        even(num_layers, num_stages=num_stages)


def test_an_absent_text_means_the_even_layout():
    assert layout_of(None, num_layers=6, num_stages=3) == even(6, num_stages=3)
    assert layout_of("Et|t|ttL", num_layers=6, num_stages=3) == parse("Et|t|ttL")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Ettt|(tt|)*3,m|L", "Ettt|tt|tt|tt|m|L"),
        ("E,t*2,|,t,t,L", "Ett|ttL"),
        ("E|*3,tL", "E|||tL"),
        ("E(t*2|)*2tL", "Ett|tt|tL"),
        ("Et(m|)*0|L", "Et|L"),
    ],
    ids=["group", "commas", "empty stages", "number in a group", "none of it"],
)
def test_multiplications_are_unrolled(text, same):
    assert parse(text) == parse(same)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("E|((t|)*2t|)*3L", "a part in parentheses"),
        ("E|(t|L", "a part in parentheses"),
        ("E|(t|)L", "a part in parentheses"),
        ("Et*2*3|L", r"'\*' cannot stand after 'Et\*2'"),
        ("Et x|L", "' ' cannot stand after 'Et'"),
        ("Et*|L", r"'\*' cannot stand after 'Et'"),
        ("tE|L", "stage 0 of the layout is 'tE'"),
        ("Et|mtL", "stage 1 of the layout is 'mtL'"),
        ("E(t*999999|)*999999L", "unrolls to more than 100,000 letters"),
    ],
)
def test_texts_outside_the_grammar_are_refused_with_their_place(text, problem):
    with pytest.raises(UsageError, match=problem):
        parse(text)


def test_the_published_layout_of_llama_405b_is_not_refused():
    assert text_refusal(LLAMA_405B, pp=16, vpp=8, num_layers=126) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Et|t|tL", "has 3 stages, not pp 2 x vpp 2 = 4"),
        ("Et|tt|ttL", "has 3 stages"),
        ("|Et|t|ttL", r"the embedding E stands on stages [1]"),
        ("Et|Et|t|tL", r"the embedding E stands on stages [0, 1]"),
        ("Et|t|t|t", r"the loss L stands on stages []"),
        ("Et|t|ttL|", r"the loss L stands on stages [2]"),
        ("Et|t|t|tmL", "has 1 prediction layers m, the model 0"),
        ("Et|t|t|L", "has 3 decoder layers t, the model 4"),
        ("E(|*2", "a part in parentheses"),
    ],
)
def test_layouts_that_engines_cannot_build_are_refused(text, reason):
    refused = text_refusal(text, pp=2, vpp=2, num_layers=4)

    assert refused is not None
    assert reason in refused.reason
    assert refused.possible


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Et|t|tt|mmL", None),
        ("Et|t|ttmm|L", None),
        ("Ett|ttmm||L", "not in the last chunk"),
        ("Et|t|ttm|mL", "stand on stages [2, 3]"),
        ("Et|t|tmm|tL", "follow the prediction layers m of stage 2"),
    ],
)
def test_prediction_layers_stand_together_after_all_others(text, reason):
    refused = text_refusal(text, pp=2, vpp=2, num_layers=4, mtp_num_layers=2)

    assert (refused and reason and reason in refused.reason) or refused == reason
