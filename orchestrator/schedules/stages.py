"""Which stage of the pipeline holds which layers, and whether engines take it.

Stage s is chunk s // pp of rank s % pp. `stage_grammar` explains the text form.
"""

import re
from dataclasses import dataclass, replace

from orchestrator.errors import UsageError
from orchestrator.schedules import stage_grammar
from orchestrator.schedules.refusal import Refusal

_STAGE = re.compile(r"(E?)(t*)(m*)(L?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The layers of one virtual pipeline stage; those it has run in this order."""

    has_embedding: bool = False
    decoder_layers: int = 0
    mtp_layers: int = 0
    has_loss: bool = False

    @property
    def letters(self) -> str:
        """The stage in Megatron's letters: `Ettt`, `tt`, `ttmL`."""
        letters = "t" * self.decoder_layers + "m" * self.mtp_layers
        return "E" * self.has_embedding + letters + "L" * self.has_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLayout:
    """The stages of a pipeline, first to last."""

    stages: tuple[Stage, ...]

    @property
    def num_stages(self) -> int:
        """Virtual pipeline stages."""
        return len(self.stages)

    @property
    def num_layers(self) -> int:
        """Decoder layers of all stages together."""
        return sum(stage.decoder_layers for stage in self.stages)


def even(num_layers: int, *, num_stages: int, mtp_num_layers: int = 0) -> StageLayout:
    """Return the layout with equally many decoder layers on every stage.

    The embedding comes on top on the first stage, prediction and loss on the last.

    Raises:
        UsageError: the stages do not divide the layers.
    """
    if num_layers < 1 or num_stages < 1 or num_layers % num_stages:
        raise UsageError(
            problem=f"{num_layers} layers do not divide into {num_stages} stages",
            instead="a stage_layout says how many layers each stage holds",
        )
    each = num_layers // num_stages
    return _filled(
        num_stages=num_stages, first=each, each=each, last=each, mtp_num_layers=mtp_num_layers
    )


def accounted(num_layers: int, *, num_stages: int, mtp_num_layers: int = 0) -> StageLayout | None:
    """Return the layout in which embedding and loss each take the place of a decoder layer.

    Where layers + 2 do not divide by the stages but layers + 1 do, the loss alone counts; where
    neither does there is none. Megatron's `account_for_embedding_in_pipeline_split` and
    `account_for_loss_in_pipeline_split`.
    """
    if num_layers < 1 or num_stages < 1:
        return None
    for less_on_first in (1, 0):
        each, rest = divmod(num_layers + less_on_first + 1, num_stages)
        if rest == 0:
            return _filled(
                num_stages=num_stages,
                first=each - less_on_first,
                each=each,
                last=each - 1,
                mtp_num_layers=mtp_num_layers,
            )
    return None


def parse(text: str) -> StageLayout:
    """Return the layout that a text in Megatron's grammar spells.

    Raises:
        UsageError: not of the grammar, or a stage's letters are out of order.
    """
    return StageLayout(
        stages=tuple(
            _stage_of(letters, number=number)
            for number, letters in enumerate(stage_grammar.unrolled(text))
        )
    )


def text_of(layout: StageLayout) -> str:
    """Return a layout in Megatron's grammar; it parses back to an equal one."""
    return stage_grammar.rolled_up([stage.letters for stage in layout.stages])


def layout_of(
    text: str | None, *, num_layers: int, num_stages: int, mtp_num_layers: int = 0
) -> StageLayout:
    """Return the layout that a `stage_layout` spells, or the even one where it is None.

    Raises:
        UsageError: the text is not a layout, or the layers do not divide evenly.
    """
    if text is None:
        return even(num_layers, num_stages=num_stages, mtp_num_layers=mtp_num_layers)
    return parse(text)


def layers_on_rank(layout: StageLayout, pp: int, rank: int) -> int:
    """Return the decoder layers that a pipeline rank holds in all its chunks."""
    return sum(stage.decoder_layers for stage in layout.stages[rank::pp])


def text_refusal(
    text: str, *, pp: int, vpp: int, num_layers: int, mtp_num_layers: int = 0
) -> Refusal | None:
    """Return why the engines refuse a `stage_layout`, None when they take it.

    Stricter than Megatron's `validate_layer_layout` in one point: embedding and loss are on the
    first and the last stage. Megatron builds them there whatever the text says.
    """
    try:
        layout = parse(text)
    except UsageError as error:
        return Refusal(reason=error.problem, possible=error.instead)
    return (
        _count_refusal(layout, pp=pp, vpp=vpp)
        or _ends_refusal(layout)
        or _layers_refusal(layout, num_layers=num_layers)
        or _mtp_refusal(layout, pp=pp, mtp_num_layers=mtp_num_layers)
    )


def _filled(
    *, num_stages: int, first: int, each: int, last: int, mtp_num_layers: int
) -> StageLayout:
    """Return a layout by the decoder layers of its first, last and all other stages."""
    end = Stage(decoder_layers=last, mtp_layers=mtp_num_layers, has_loss=True)
    if num_stages == 1:
        # One stage is both ends: what either end has less than the others is missing here.
        return StageLayout(
            stages=(replace(end, has_embedding=True, decoder_layers=first + last - each),)
        )
    middle = (Stage(decoder_layers=each),) * (num_stages - 2)
    return StageLayout(stages=(Stage(has_embedding=True, decoder_layers=first), *middle, end))


def _stage_of(letters: str, *, number: int) -> Stage:
    match = _STAGE.fullmatch(letters)
    if match is None:
        raise UsageError(
            problem=f"stage {number} of the layout is '{letters}'",
            instead="a stage holds at most one E, then t, then m, then at most one L",
        )
    embedding, decoder, mtp, loss = match.groups()
    return Stage(
        has_embedding=bool(embedding),
        decoder_layers=len(decoder),
        mtp_layers=len(mtp),
        has_loss=bool(loss),
    )


def _count_refusal(layout: StageLayout, *, pp: int, vpp: int) -> Refusal | None:
    if layout.num_stages == pp * vpp:
        return None
    chunks, rest = divmod(layout.num_stages, pp)
    return Refusal(
        reason=f"the layout has {layout.num_stages} stages, not pp {pp} x vpp {vpp} = {pp * vpp}",
        possible=f"{pp * vpp} stages" + (f", or vpp {chunks}" if rest == 0 else ""),
    )


def _ends_refusal(layout: StageLayout) -> Refusal | None:
    embeddings = [s for s, stage in enumerate(layout.stages) if stage.has_embedding]
    losses = [s for s, stage in enumerate(layout.stages) if stage.has_loss]
    if embeddings != [0]:
        return Refusal(
            reason=f"the embedding E stands on stages {embeddings}", possible="on stage 0 alone"
        )
    last = layout.num_stages - 1
    if losses != [last]:
        return Refusal(
            reason=f"the loss L stands on stages {losses}",
            possible=f"on the last stage, {last}, alone",
        )
    return None


def _layers_refusal(layout: StageLayout, *, num_layers: int) -> Refusal | None:
    if layout.num_layers == num_layers:
        return None
    return Refusal(
        reason=f"the layout has {layout.num_layers} decoder layers t, the model {num_layers}",
        possible=f"{num_layers} t",
    )


def _mtp_refusal(layout: StageLayout, *, pp: int, mtp_num_layers: int) -> Refusal | None:
    holders = [s for s, stage in enumerate(layout.stages) if stage.mtp_layers]
    held = sum(stage.mtp_layers for stage in layout.stages)
    if held != mtp_num_layers:
        return Refusal(
            reason=f"the layout has {held} prediction layers m, the model {mtp_num_layers}",
            possible=f"{mtp_num_layers} m",
        )
    if len(holders) > 1:
        return Refusal(
            reason=f"the prediction layers m stand on stages {holders}", possible="on one stage"
        )
    for stage in holders:
        if any(later.decoder_layers for later in layout.stages[stage + 1 :]):
            return Refusal(
                reason=f"decoder layers t follow the prediction layers m of stage {stage}",
                possible="m after every t",
            )
        if stage < layout.num_stages - pp:
            return Refusal(
                reason=f"the prediction layers m on stage {stage} are not in the last chunk of "
                "their rank",
                possible=f"on stage {layout.num_stages - pp} or later",
            )
    return None
