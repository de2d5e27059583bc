"""Which FP8 recipe a GPU trains with, and which widths it asks for.

Decided and tested here; no GPU has run it yet, so FP8 is unproven.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from launch.workers.megatron_core.arguments import ENGINE, Arguments, Fp8Recipe, Precision
from launch.workers.megatron_core.device import Device
from orchestrator.errors import EngineRefused, Problem

_ADA: Final = (8, 9)
_HOPPER: Final = (9, 0)
_BLACKWELL: Final = (10, 0)
_CONSUMER_BLACKWELL: Final = (12, 0)
_AMAX_HISTORY: Final = 1024  # steps; Transformer Engine's default, where Megatron's is 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What Transformer Engine asks for a recipe; `multiple` of the last dim of each operand."""

    capability: tuple[int, int]
    below: tuple[int, int] | None
    cuda: tuple[int, int]
    number_format: str
    multiple: int


# transformer_engine/pytorch/quantization.py and common/recipe/__init__.py, 2.9 to 2.11.
_NEEDS: Final[Mapping[Fp8Recipe, _Needs]] = MappingProxyType(
    {
        Fp8Recipe.DELAYED: _Needs(
            capability=_ADA, below=None, cuda=(12, 1), number_format="hybrid", multiple=16
        ),
        Fp8Recipe.TENSORWISE: _Needs(
            capability=_ADA, below=None, cuda=(12, 1), number_format="hybrid", multiple=16
        ),
        Fp8Recipe.BLOCKWISE: _Needs(
            capability=_HOPPER, below=None, cuda=(12, 9), number_format="e4m3", multiple=128
        ),
        Fp8Recipe.MXFP8: _Needs(
            capability=_BLACKWELL,
            below=_CONSUMER_BLACKWELL,
            cuda=(12, 8),
            number_format="e4m3",
            multiple=32,
        ),
    }
)


def settings(arguments: Arguments, device: Device) -> dict[str, Any]:
    """What Megatron's configuration says of FP8 on that device; nothing in another precision.

    Raises:
        EngineRefused: the device, its software or the model's widths do not allow it.
    """
    if arguments.training.precision is not Precision.FP8:
        return {}
    recipe = chosen(arguments.training.fp8_recipe, device)
    problems = [str(problem) for problem in _misaligned(arguments, _NEEDS[recipe].multiple)]
    if problems:
        raise EngineRefused(engine=ENGINE, reason="\n".join(problems))
    delayed = recipe is Fp8Recipe.DELAYED
    history = {"fp8_amax_history_len": _AMAX_HISTORY, "fp8_amax_compute_algo": "max"}
    return {
        "fp8": _NEEDS[recipe].number_format,
        "fp8_recipe": recipe.value,
        **(history if delayed else {}),
    }


def chosen(asked: Fp8Recipe | None, device: Device) -> Fp8Recipe:
    """The recipe asked for, or else the one that suits the GPU best.

    That is MXFP8 where there is hardware for its scales, and one current scale a tensor elsewhere:
    on Hopper blockwise products are emulated, and delayed scaling has the longest list of
    divergences.

    Raises:
        EngineRefused: no FP8 here, or not by that recipe.
    """
    possible = [recipe for recipe in Fp8Recipe if _lacking(recipe, device) is None]
    if asked is None:
        for recipe in (Fp8Recipe.MXFP8, Fp8Recipe.TENSORWISE):
            if recipe in possible:
                return recipe
    wanted = asked or Fp8Recipe.TENSORWISE
    lacking = _lacking(wanted, device)
    if lacking is None:
        return wanted
    instead = f"fp8_recipe: {', '.join(possible)}" if possible else "training.precision: bf16"
    raise EngineRefused(
        engine=ENGINE, reason=f"training.fp8_recipe: {wanted} needs {lacking}", instead=instead
    )


def _lacking(recipe: Fp8Recipe, device: Device) -> str | None:
    """What the device has not and the recipe needs."""
    needs = _NEEDS[recipe]
    if not device.transformer_engine or device.capability is None or device.cuda is None:
        return "a GPU with Transformer Engine"
    has = _version(device.capability)
    if device.capability < needs.capability:
        return f"compute capability {_version(needs.capability)} or more, and this GPU has {has}"
    if needs.below is not None and device.capability >= needs.below:
        return f"compute capability below {_version(needs.below)}, and this GPU has {has}"
    if device.cuda < needs.cuda:
        return f"CUDA {_version(needs.cuda)} or more, and torch has {_version(device.cuda)}"
    return None


def _version(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"


def _misaligned(arguments: Arguments, multiple: int) -> Iterator[Problem]:
    """Name each operand of a rank's matrix products that Transformer Engine would refuse."""
    model, parallel, training = arguments.model, arguments.parallel, arguments.training
    cut = parallel.cp * (parallel.tp if parallel.sequence_parallel else 1)
    tokens = training.micro_batch_size * training.sequence_length // cut
    heads = model.num_attention_heads * model.head_dim
    widths = [
        ("model.hidden_size", "hidden size", model.hidden_size),
        ("model.ffn_hidden_size", "FFN width / tp", model.ffn_hidden_size // parallel.tp),
        ("model.head_dim", "heads x head_dim / tp", heads // parallel.tp),
        ("training.micro_batch_size", "tokens of a microbatch on a rank", tokens),
    ]
    if model.moe is not None:
        expert = model.moe.ffn_hidden_size // parallel.etp
        widths.append(("model.moe.ffn_hidden_size", "expert width / etp", expert))
    for key, name, width in widths:
        if width % multiple:
            message = f"{name} is {width}, not a multiple of {multiple} as this FP8 recipe needs"
            yield Problem(key=key, message=message, possible="or use training.precision: bf16")
