"""The learning rate as a function of the step: Megatron's OptimizerParamScheduler."""

from types import MappingProxyType
from typing import Any, Final

from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from launch.workers.megatron_core.programme import (
    DecayStyle,
    OptimizerArguments,
    WsdDecayStyle,
)

_STYLES: Final = MappingProxyType({DecayStyle.WSD: "WSD"})  # the others are Megatron's words
_WSD_STYLES: Final = MappingProxyType({WsdDecayStyle.MINUS_SQRT: "minus_sqrt"})


def build_schedule(settings: OptimizerArguments, optimizer: Any) -> OptimizerParamScheduler:  # noqa: ANN401 - untyped engine
    """The rate after each step, counted in steps whatever their batch; weight decay is constant.

    The rate of a step is that of the steps done before it, as in Megatron's own loop: after a
    warm-up from 0 begins, the first step changes nothing.
    """
    wsd_style = settings.wsd_decay_style or WsdDecayStyle.EXPONENTIAL
    is_wsd = settings.decay_style is DecayStyle.WSD
    return OptimizerParamScheduler(
        optimizer,
        init_lr=settings.initial_learning_rate,
        max_lr=settings.learning_rate,
        min_lr=settings.min_learning_rate,
        lr_warmup_steps=settings.warmup_steps,
        lr_decay_steps=settings.decay_steps,
        lr_decay_style=_STYLES.get(settings.decay_style, settings.decay_style.value),
        start_wd=settings.weight_decay,
        end_wd=settings.weight_decay,
        wd_incr_steps=settings.decay_steps,
        wd_incr_style="constant",
        wsd_decay_steps=settings.wsd_decay_steps if is_wsd else None,
        lr_wsd_decay_style=_WSD_STYLES.get(wsd_style, wsd_style.value) if is_wsd else None,
    )
