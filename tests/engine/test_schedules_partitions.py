"""Our partition lists against DeepSpeed's own functions."""

import random

import pytest

from orchestrator.schedules import partitions

engine = pytest.importorskip("deepspeed.runtime.utils")


def test_uniform_parts_are_deepspeeds():
    for num_items in range(40):
        for num_parts in range(1, 12):
            ours = partitions.uniform(num_items, num_parts=num_parts)
            assert list(ours) == engine.partition_uniform(num_items, num_parts)


def test_parts_by_weight_are_deepspeeds():
    chance = random.Random(4)
    for _ in range(300):
        weights = [
            chance.randint(0, chance.choice([1, 3, 1000])) for _ in range(chance.randint(1, 14))
        ]
        num_parts = chance.randint(1, 6)

        ours = partitions.by_weight(weights, num_parts=num_parts)

        assert list(ours) == list(engine.partition_balanced(weights, num_parts)), weights
