"""A set of ranks or agents as the bits of one whole number.

A frozen set is copied whole for each event that adds a member: 16,384 ranks that stage a checkpoint
cost 16,384 copies of up to 16,384 members. Here a copy is two kilobytes, whoever is in it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NumberSet:
    """Whole numbers from 0; bit `n` of `bits` says whether `n` is in."""

    bits: int = 0

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "NumberSet":
        """The set of these numbers."""
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return cls(bits)

    @classmethod
    def below(cls, count: int) -> "NumberSet":
        """The numbers 0 to `count` - 1."""
        return cls((1 << count) - 1)

    def plus(self, number: int) -> "NumberSet":
        """The set with one more."""
        return NumberSet(self.bits | 1 << number)

    def minus(self, number: int) -> "NumberSet":
        """The set without one; the same when it was not in."""
        return NumberSet(self.bits & ~(1 << number))

    def union(self, others: "NumberSet") -> "NumberSet":
        """The numbers of both."""
        return NumberSet(self.bits | others.bits)

    def without(self, others: "NumberSet") -> "NumberSet":
        """The set without all of these."""
        return NumberSet(self.bits & ~others.bits)

    def __contains__(self, number: int) -> bool:
        return bool(self.bits >> number & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __iter__(self) -> Iterator[int]:
        """The numbers, ascending."""
        return (number for number in range(self.bits.bit_length()) if number in self)


EMPTY = NumberSet()
