"""The order in which samples are trained on.

A sample's position counts all samples since the first step. Which sample stands there depends on
the seed and the corpus alone, not on the layout, the world or the number of steps: whoever resumes
at a position sees what an undisturbed run would have seen.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOrder:
    """Which sample of a corpus of `num_samples` stands at a position.

    The first epoch keeps the corpus's own shuffled order. Each later one steps through it with a
    stride that shares no factor with its length, so every epoch visits each sample once, in another
    order, and no permutation has to be kept.
    """

    num_samples: int
    seed: int

    def __getitem__(self, position: int) -> int:
        epoch, offset = divmod(position, self.num_samples)
        if epoch == 0:
            return offset
        stride, start = self._epoch(epoch)
        return (offset * stride + start) % self.num_samples

    def _epoch(self, epoch: int) -> tuple[int, int]:
        generator = np.random.default_rng([self.seed, epoch])
        start = int(generator.integers(self.num_samples))
        stride = int(generator.integers(1, self.num_samples + 1))
        while math.gcd(stride, self.num_samples) != 1:
            stride = int(generator.integers(1, self.num_samples + 1))
        return stride, start
