"""What `llmorch plan` is asked: a run made of flags, on an engine, in a layout if one is said."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator import api
from orchestrator.catalog.layouts import layout_of
from orchestrator.cli.models import model_field
from orchestrator.errors import InvalidFile, Problem
from orchestrator.records.engine import MEGATRON_FAMILY, EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import Precision
from orchestrator.specs.document import examined
from orchestrator.specs.layout import LayoutSpec
from orchestrator.specs.layout_words import DP, values_in
from orchestrator.specs.run import EngineSpec

LAYOUT_FLAG = "--layout"
CHECKOUT = "/opt/megatron-lm"
"""Where the images put Megatron-LM; written into run files for engines that have a checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags that make up a question; None where one was not given."""

    gpus: int
    model: str
    cluster: str
    precision: Precision
    sequence: int | None = None
    batch: int | None = None
    tokens: int | None = None
    engine: str | None = None
    layout: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A run to plan, and what its engine can do; where a layout was said, the run has it."""

    run: ResolvedRun
    capabilities: EngineCapabilities


def question_of(flags: Flags) -> Question:
    """Return the question that flags ask.

    Raises:
        InvalidFile: a card, a size or the layout is wrong; all problems of a layout are reported.
        UnknownName: no such card or engine.
    """
    capabilities = MEGATRON_FAMILY
    if flags.engine is not None:
        capabilities = api.engine_named(flags.engine).capabilities()
    run = api.default_run(
        model=model_field(flags.model),
        cluster=flags.cluster,
        gpus=flags.gpus,
        precision=flags.precision,
        changes=_training(flags),
    )
    run = _named(run, flags, capabilities)
    if flags.layout is not None:
        run = replace(run, layout=layout_in(flags.layout, run))
        _expect_legal(run, capabilities)
    return Question(run=run, capabilities=capabilities)


def command_of(flags: Flags, *, out: str) -> str:
    """Return the command that asks the same again."""
    words = ["llmorch", "plan"]
    for name in Flags.__dataclass_fields__:
        value = getattr(flags, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join([*words, "--out", out])


def layout_in(text: str, run: ResolvedRun) -> Layout:
    """Return the layout that a text says; what it leaves out is as in a run file.

    Raises:
        InvalidFile: the text is not a layout's, or its dp is not what follows.
    """
    values, problems = values_in(text)
    dp = values.pop(DP, None)
    spec, wrong = examined(values, model=LayoutSpec)
    if problems or wrong or spec is None:
        raise InvalidFile(file=LAYOUT_FLAG, problems=(*problems, *wrong))
    layout = layout_of(spec, model=run.model, world_size=run.machine.world_size)
    if dp is not None and dp != layout.dp:
        message = f"{dp}, but {layout.dp} follows: {run.machine.world_size} ranks / (tp x cp x pp)"
        raise InvalidFile(file=LAYOUT_FLAG, problems=(Problem(key=DP, message=message),))
    return layout


def _training(flags: Flags) -> Mapping[str, object]:
    said = {
        "sequence_length": flags.sequence,
        "global_batch_size": flags.batch,
        "tokens": flags.tokens,
    }
    return {key: value for key, value in said.items() if value is not None}


def _named(run: ResolvedRun, flags: Flags, capabilities: EngineCapabilities) -> ResolvedRun:
    """Return the run with the name and the engine that flags say."""
    update: dict[str, object] = {}
    if flags.name is not None:
        update["name"] = flags.name
    if flags.engine is not None:
        has_checkout = "checkout" in capabilities.fields
        named = EngineSpec(name=flags.engine, checkout=CHECKOUT)
        update["engine"] = named if has_checkout else EngineSpec(name=flags.engine)
    return replace(run, spec=run.spec.model_copy(update=update))


def _expect_legal(run: ResolvedRun, capabilities: EngineCapabilities) -> None:
    problems = api.problems(run, capabilities=capabilities)
    if problems:
        raise InvalidFile(
            file=LAYOUT_FLAG,
            problems=[replace(one, key=one.key.removeprefix("layout.")) for one in problems],
        )
