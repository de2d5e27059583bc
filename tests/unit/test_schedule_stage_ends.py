"""Layouts whose ends hold layers of their own."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.stage_ends import with_own_ends
from orchestrator.schedules.stages import text_of


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"num_layers": 14, "pp": 4, "last": 2}, "Et*4|t*4|t*4|ttL"),
        ({"num_layers": 13, "pp": 4, "first": 3, "last": 2}, "Ettt|t*4|t*4|ttL"),
        ({"num_layers": 12, "pp": 2, "vpp": 2, "first": 4}, "Ett|t*4|tt|t*4L"),
        ({"num_layers": 5, "pp": 2, "first": 2, "last": 3, "mtp_num_layers": 1}, "Ett|tttmL"),
    ],
    ids=["last", "both", "chunks", "no middle"],
)
def test_the_ends_hold_what_they_say_and_the_others_share_the_rest(words, text):
    num_layers = words.pop("num_layers")

    assert text_of(with_own_ends(num_layers, **words)) == text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"pp": 4, "last": 3}, "11 layers are left for 3 ranks"),
        ({"pp": 1, "first": 1, "last": 1}, "1 ranks cannot hold"),
        ({"pp": 2, "first": 15}, "-1 layers are left"),
        ({"pp": 2, "first": 0}, "cannot hold"),
        ({"pp": 2, "vpp": 2, "first": 7}, "7 layers of rank 0 do not divide into its 2 chunks"),
    ],
    ids=["uneven", "one rank", "too many", "none", "chunks"],
)
def test_ends_that_do_not_work_out_are_refused_with_their_numbers(words, match):
    with pytest.raises(UsageError, match=match):
        with_own_ends(14, **words)
