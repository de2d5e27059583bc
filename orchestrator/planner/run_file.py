"""A plan as a run file that people read: what was asked, the layout, and why it is so."""

from collections.abc import Mapping, Sequence

from orchestrator.catalog.layouts import layout_spec_of
from orchestrator.planner.reasons import reasons_of
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.document import yaml_with_comments
from orchestrator.specs.layout import LayoutSpec
from orchestrator.specs.run import CheckpointSpec, CorpusSpec, DataSpec, EngineSpec

INTERVAL_STEPS = 250
"""Steps between checkpoints where nobody says; at most a third of the run."""

PREFIX = "data/corpus"
CPU = "cpu"

_ALWAYS = ("tp", "pp", "micro_batch_size", "zero_stage")
"""Keys of a layout that are written even where they have their default."""


def run_file_of(plan: Plan, *, written_by: str = "") -> str:
    """Return a run file that `launch` takes, with a comment at what was decided.

    `written_by` is the command that wrote it. Where the run says no data or checkpoints, both are
    added with places to fill in.
    """
    run, layout = plan.run, plan.layout
    comments: dict[str, Sequence[str]] = {"": _header(plan, written_by), **reasons_of(plan)}
    update = {"layout": _spec_of(run, layout), **_added(run)}
    spec = run.spec.model_copy(update=update)
    if run.spec.data is None:
        comments["data"] = _data_reason(run)
    return yaml_with_comments(spec, comments)


def _header(plan: Plan, written_by: str) -> Sequence[str]:
    have, need = plan.run.machine.memory_bytes / 2**30, plan.memory.total_bytes / 2**30
    lines = [f"Written by: {written_by}"] if written_by else []
    lines.append(
        f"Modelled: {plan.step_time_s:.2g} s a step, MFU {plan.mfu:.0%}, "
        f"{need:.0f} of {have:.0f} GiB on the fullest rank."
    )
    if need > have:
        lines.append("By this model it does not fit; validate will say so.")
    return lines


def _spec_of(run: ResolvedRun, layout: Layout) -> LayoutSpec:
    """Return the layout's section with the keys that say something."""
    whole = layout_spec_of(layout)
    plain = LayoutSpec()
    kept = {
        name: getattr(whole, name)
        for name in LayoutSpec.model_fields
        if name in _ALWAYS or getattr(whole, name) != getattr(plain, name)
    }
    if run.model.moe is None:
        kept.pop("etp", None)
    return LayoutSpec(**kept)


def _added(run: ResolvedRun) -> Mapping[str, object]:
    added: dict[str, object] = {}
    if run.spec.data is None:
        is_local = run.machine.accelerator.architecture == CPU
        made = DataSpec(prefix=PREFIX, corpus=CorpusSpec(source="python-stdlib"))
        added["data"] = made if is_local else DataSpec(prefix=PREFIX)
    if run.spec.checkpoint is None:
        steps = min(INTERVAL_STEPS, -(-run.steps // 3))
        added["checkpoint"] = CheckpointSpec(interval_steps=steps)
    if not run.spec.engine.model_fields_set:
        added["engine"] = EngineSpec(name=run.spec.engine.name)
    return added


def _data_reason(run: ResolvedRun) -> Sequence[str]:
    if run.machine.accelerator.architecture == CPU:
        return ("a small corpus that launch makes itself: Python's own sources, byte by byte",)
    return ("put your tokens here: PREFIX.bin and PREFIX.idx, as Megatron writes them",)
