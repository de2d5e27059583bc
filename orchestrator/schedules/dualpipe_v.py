"""DualPipeV (DeepSeek's DualPipe, arXiv 2412.19437, folded to a V), as torch executes it.

Two chunks a rank, there and back. In the main part each slot runs the forward of one chunk and
the backward of the other at once, to hide communication; at both ends backwards are split, so
that weight gradients fill what would be idle.
"""

from collections import Counter, deque
from collections.abc import Iterator

from orchestrator.schedules.codes import (
    BACKWARD,
    FORWARD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    Codes,
    Numbering,
    array_of,
    overlapped,
)


def order(numbering: Numbering, *, pp: int, rank: int) -> Codes:
    """Return the codes of a pipeline rank; it needs at least 2 pp microbatches."""
    return array_of(_Writer(numbering, pp=pp, rank=rank).steps())


class _Writer:
    """Counts the microbatches of each chunk and the weight gradients that are owed."""

    def __init__(self, numbering: Numbering, *, pp: int, rank: int) -> None:
        self.numbering, self.pp, self.rank = numbering, pp, rank
        self.stages = (rank, 2 * pp - 1 - rank)
        self.forwards: Counter[int] = Counter()
        self.backwards: Counter[int] = Counter()
        self.owed: deque[int] = deque()

    def steps(self) -> Iterator[int]:
        later = self.pp - self.rank - 1
        yield from (self.forward(0) for _ in range(2 * later))
        for _ in range(self.rank + 1):
            yield self.forward(0)
            yield self.forward(1)
        for _ in range(later):
            yield self.input_grad(1)
            yield from self.weight_grad()
            yield self.forward(1)
        yield from self.main_part()
        for _ in range(later):
            yield self.backward(1)
            yield self.both(1, 0)
        yield from self.drain(later)

    def main_part(self) -> Iterator[int]:
        num_rounds = self.numbering.num_microbatches - 2 * self.pp + self.rank + 1
        for number in range(num_rounds):
            if number == 0 and self.rank == self.pp - 1:
                # The last rank's first pair would wait for itself around the V.
                yield self.forward(0)
                yield self.backward(1)
            else:
                yield self.both(0, 1)
            yield self.both(1, 0)

    def drain(self, later: int) -> Iterator[int]:
        """Whole backwards first; split ones from the middle on, their weights last."""
        num_rounds = self.rank + 1
        split_from = 2 * (num_rounds // 2) + (self.rank % 2 == 0)
        for number in range(2 * num_rounds):
            chunk = 1 - number % 2
            yield self.input_grad(chunk) if number >= split_from else self.backward(chunk)
        for _ in range(later):
            yield from self.weight_grad()
            yield self.input_grad(0)
        for _ in range(num_rounds):
            yield from self.weight_grad()

    def forward(self, chunk: int) -> int:
        self.forwards[chunk] += 1
        return self.numbering.code(FORWARD, self.stages[chunk], self.forwards[chunk] - 1)

    def backward(self, chunk: int) -> int:
        self.backwards[chunk] += 1
        return self.numbering.code(BACKWARD, self.stages[chunk], self.backwards[chunk] - 1)

    def both(self, forward: int, backward: int) -> int:
        return overlapped(self.forward(forward), self.backward(backward))

    def input_grad(self, chunk: int) -> int:
        code = self.backward(chunk) - BACKWARD
        self.owed.append(code + WEIGHT_GRAD)
        return code + INPUT_GRAD

    def weight_grad(self) -> Iterator[int]:
        if self.owed:
            yield self.owed.popleft()
