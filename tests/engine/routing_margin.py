"""How close a router came to a tie: what decides whether rounding may choose another expert.

Runs inside a rank that `warm_ranks` forked (its folder is on that process's path).
"""

import math
from pathlib import Path
from typing import Any


def record(path: str) -> None:
    """Keep in that file the smallest margin of all routing decisions of this process."""
    from megatron.core.transformer.moe import router

    route = router.topk_routing_with_score_function
    smallest = [math.inf]

    def observed(logits: Any, topk: int, **options: Any) -> Any:
        margin = _margin(logits.detach(), topk, **options)
        if margin < smallest[0]:
            smallest[0] = margin
            Path(path).write_text(repr(margin))
        return route(logits, topk, **options)

    router.topk_routing_with_score_function = observed


def _margin(
    logits: Any,
    topk: int,
    *,
    score_function: str,
    expert_bias: Any = None,
    num_groups: int | None = None,
    group_topk: int | None = None,
    **_: Any,
) -> float:
    """The least distance between the last score chosen and the first that is not."""
    scores = logits.sigmoid() if score_function == "sigmoid" else logits
    if expert_bias is not None:
        scores = scores + expert_bias
    if not group_topk:
        return _gap(scores, topk)
    assert num_groups is not None
    groups = scores.view(len(scores), num_groups, -1)
    of_groups = groups.topk(topk // group_topk, dim=-1).values.sum(dim=-1)
    chosen = of_groups.topk(group_topk, dim=-1).indices
    inside = groups.gather(1, chosen[..., None].expand(-1, -1, groups.shape[-1])).flatten(1)
    return min(_gap(of_groups, group_topk), _gap(inside, topk))


def _gap(scores: Any, topk: int) -> float:
    if scores.shape[-1] == topk:
        return math.inf  # all are taken: nothing is decided
    best = scores.topk(topk + 1, dim=-1).values
    return float((best[:, topk - 1] - best[:, topk]).min())


RECORD = "import routing_margin; routing_margin.record({!r})".format
