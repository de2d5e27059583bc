"""Attention over a sequence that is cut among ranks, for where Transformer Engine is not.

Megatron leaves context parallelism to Transformer Engine's attention, which needs a GPU. This is
ours: every rank gathers all keys and values and runs Megatron's own attention over its queries.
What it proves on a CPU is everything around it (process groups, the order of chunks, rotary
positions, gradients, their reduction); it says nothing about Transformer Engine's ring.

Shapes in brackets: s tokens of the whole sequence, b sequences, g query groups, d width of a head,
n ranks that share the sequence. Rank r holds the chunks r and 2n-1-r of 2n equal ones, in that
order, so that causal work is shared evenly (`get_batch_on_this_cp_rank` cuts the same way).
"""

import copy
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.transformer.dot_product_attention import DotProductAttention
from typing_extensions import override


class GatheringAttention(DotProductAttention):  # type: ignore[misc]  # untyped engine
    """Causal attention of this rank's queries over the keys and values of all."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        whole = copy.copy(config)
        whole.context_parallel_size = 1  # or it would refuse: it does see the whole sequence
        super().__init__(whole, *args, **kwargs)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,  # noqa: ARG002 - the engine's signature
        **_: object,
    ) -> torch.Tensor:
        """What the queries [s/n, b, heads, d] see of keys and values [s/n, b, g, d]."""
        group = parallel_state.get_context_parallel_group()
        both = _Gathered.apply(torch.stack((key, value), dim=1), group)  # type: ignore[no-untyped-call]  # torch
        hidden = _hidden(query.size(0), both.size(0), group).to(query.device)
        return super().forward(query, both[:, 0].contiguous(), both[:, 1].contiguous(), hidden)  # type: ignore[no-any-return]  # untyped engine


class _Gathered(torch.autograd.Function):
    """All ranks' chunks in the order of the sequence; backward sums what each rank saw of them."""

    @staticmethod
    @override
    def forward(ctx: Any, own: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        parts = [torch.empty_like(own) for _ in range(group.size())]
        dist.all_gather(parts, own.contiguous(), group=group)
        halves = [part.chunk(2) for part in parts]
        first = [half[0] for half in halves]
        return torch.cat([*first, *(half[1] for half in reversed(halves))])

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = gradients
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        chunks = total.chunk(2 * ctx.group.size())
        rank = ctx.group.rank()
        return torch.cat((chunks[rank], chunks[-1 - rank])), None


def _hidden(num_queries: int, num_keys: int, group: dist.ProcessGroup) -> torch.Tensor:
    """Which keys come after each of this rank's queries: [1, 1, s/n, s], true where they do."""
    half = num_queries // 2
    last = 2 * group.size() - 1 - group.rank()
    positions = torch.cat([torch.arange(half) + half * chunk for chunk in (group.rank(), last)])
    return (torch.arange(num_keys)[None, :] > positions[:, None])[None, None]
