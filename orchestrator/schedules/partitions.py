"""DeepSpeed's partition lists: where each pipeline stage begins in a list of layers.

`PipelineModule` holds the layers of a model as one list (embedding, decoder layers, prediction
layers, loss) and `parts` says which stage holds which: stage s from `parts[s]` to
`parts[s + 1]`. Its own methods are `uniform` and, by parameters or by type, `by_weight`.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from orchestrator.errors import UsageError
from orchestrator.schedules.stages import Stage, StageLayout, parse


def uniform(num_items: int, *, num_parts: int) -> tuple[int, ...]:
    """Return DeepSpeed's `partition_uniform`: equal parts, the first ones larger by one."""
    if num_items <= num_parts:
        return tuple(min(part, num_items) for part in range(num_parts + 1))
    each, more = divmod(num_items, num_parts)
    return tuple(part * each + min(part, more) for part in range(num_parts + 1))


def by_weight(weights: Sequence[int], *, num_parts: int) -> tuple[int, ...]:
    """Return DeepSpeed's `partition_balanced`: the least difference of heaviest and lightest part.

    That is not the least heaviest part: for the shortest step use `balance`. Of equal ones the
    later cut is taken, greedily, as DeepSpeed's table does.
    """
    num = len(weights)
    if num <= num_parts:
        return uniform(num, num_parts=num_parts)
    before = [0, *accumulate(weights)]
    # By (items, parts): the heaviest part, the lightest, and where the last one begins.
    rows: list[dict[int, tuple[float, float, int]]] = [{0: (0, float("inf"), 0)}]
    for parts in range(1, num_parts + 1):
        row: dict[int, tuple[float, float, int]] = {}
        for items in range(parts, num + 1):
            row[items] = _last_cut(rows[-1], before, items=items)
        rows.append(row)
    cuts = [num]
    for parts in range(num_parts, 0, -1):
        cuts.append(rows[parts][cuts[-1]][2])
    return tuple(reversed(cuts))


def parts_of(layout: StageLayout) -> tuple[int, ...]:
    """Return the partition list of a layout."""
    return (0, *accumulate(len(stage.letters) for stage in layout.stages))


def layout_of(parts: Sequence[int], *, letters: str) -> StageLayout:
    """Return the layout that a partition list makes of layers in Megatron's letters (`EtttmL`).

    Raises:
        UsageError: the list does not cut those layers into ascending parts.
    """
    ends = (parts[0], parts[-1]) if parts else None
    if ends != (0, len(letters)) or list(parts) != sorted(parts):
        raise UsageError(
            problem=f"partition {list(parts)} does not cut {len(letters)} layers",
            instead=f"ascending numbers from 0 to {len(letters)}",
        )
    stages = (parse(letters[start:end]).stages[0] for start, end in pairwise(parts))
    return StageLayout(stages=tuple(stages) or (Stage(),))


def _last_cut(
    row: dict[int, tuple[float, float, int]], before: Sequence[int], *, items: int
) -> tuple[float, float, int]:
    """Return the best last part that ends after `items`, on top of one part fewer."""
    best: tuple[float, float, int] | None = None
    for start, (most, least, _) in row.items():
        if start >= items:
            continue
        weight = before[items] - before[start]
        found = (max(most, weight), min(least, weight), start)
        if best is None or found[0] - found[1] <= best[0] - best[1]:
            best = found
    assert best is not None  # noqa: S101  there are as many items as parts
    return best
