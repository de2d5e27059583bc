"""What the layers are built of: Transformer Engine's where it is, Megatron's own elsewhere."""

from collections.abc import Iterator

from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from launch.workers.megatron_core.arguments import Arguments, Precision
from launch.workers.megatron_core.attention import GatheringAttention
from launch.workers.megatron_core.device import Device


def block_spec(
    config: TransformerConfig, device: Device, *, vp_stage: int | None
) -> TransformerBlockSubmodules:
    """The layers of one model chunk, dense ones and ones with experts where each belongs."""
    spec = get_gpt_decoder_block_spec(
        config,
        use_transformer_engine=device.transformer_engine,
        normalization=config.normalization,
        vp_stage=vp_stage,
    )
    if config.context_parallel_size > 1 and not device.transformer_engine:
        for layer in spec.layer_specs:
            layer.submodules.self_attention.submodules.core_attention = GatheringAttention
    return spec


def remarks(arguments: Arguments, device: Device) -> Iterator[str]:
    """What a reader of the log should know of how this run computes."""
    parallel = arguments.parallel
    if parallel.cp > 1 and not device.transformer_engine:
        yield (
            f"cp {parallel.cp} runs llmorch's own attention (all keys and values gathered), "
            "not Transformer Engine's"
        )
    if device.is_gpu and not device.transformer_engine:
        yield "Transformer Engine is not installed: the layers are Megatron's own, unfused"
    if arguments.training.precision is Precision.FP8:
        yield "FP8 is unproven: no run of this worker has shown its curve beside BF16's"
