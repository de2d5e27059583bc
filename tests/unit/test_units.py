"""Quantities as people read them."""

import pytest

from orchestrator.units import (
    bytes_per_s_from_gbit_per_s,
    gib,
    text_of_bytes,
    text_of_count,
    text_of_seconds,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.85, "850 ms"),
        (6.22, "6.22 s"),
        (130, "2 min 10 s"),
        (11_100, "3 h 5 min"),
        (5_780_160, "66.9 days"),
    ],
)
def test_seconds_are_told_in_the_unit_a_person_would_choose(seconds, text):
    assert text_of_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1536, "1,536"),
        (405_853_388_800, "405.9 B"),
        (15.6e12, "15.6 T"),
        (300e9, "300 B"),
        (655_360, "655,360"),
    ],
)
def test_counts_are_told_with_four_figures(count, text):
    assert text_of_count(count) == text


def test_gib_is_a_power_of_two_and_network_rates_are_decimal():
    assert gib(2**31) == 2
    assert text_of_bytes(3 * 2**29) == "1.5 GiB"
    assert text_of_bytes(100) == "100 B"
    assert bytes_per_s_from_gbit_per_s(400) == 50e9
