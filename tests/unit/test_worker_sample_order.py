"""The order of samples: whole epochs, and the same whoever asks."""

import pytest

from launch.workers.sample_order import SampleOrder


@pytest.mark.parametrize("num_samples", [1, 2, 12, 97])
def test_every_epoch_visits_each_sample_once(num_samples) -> None:
    order = SampleOrder(num_samples=num_samples, seed=3)

    for epoch in range(4):
        first = epoch * num_samples
        visited = [order[position] for position in range(first, first + num_samples)]

        assert sorted(visited) == list(range(num_samples))


def test_the_first_epoch_keeps_the_corpus_order() -> None:
    order = SampleOrder(num_samples=50, seed=3)

    assert [order[position] for position in range(50)] == list(range(50))


def test_later_epochs_differ_from_one_another() -> None:
    order = SampleOrder(num_samples=97, seed=3)

    epochs = [tuple(order[97 * epoch + offset] for offset in range(97)) for epoch in range(4)]

    assert len(set(epochs)) == 4


def test_the_order_depends_on_the_seed() -> None:
    one, other = SampleOrder(num_samples=97, seed=3), SampleOrder(num_samples=97, seed=4)

    assert [one[p] for p in range(97, 194)] != [other[p] for p in range(97, 194)]
