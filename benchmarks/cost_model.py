"""The tables of docs/cost-model.md: errors by class and group, held out, and by effect.

    python benchmarks/cost_model.py > /tmp/tables.md        # about a minute of one core
    python benchmarks/cost_model.py --update                # writes them into docs/cost-model.md
    python benchmarks/cost_model.py --exact                 # fits anew for each group: 15 minutes

Needs nothing but the package and tests/published/throughput.csv. Deterministic.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from orchestrator.catalog.calibration import built_in
from orchestrator.cost.compose import Array
from orchestrator.cost.fitting.errors import (
    GOALS,
    KINDS,
    errors_of,
    group_of,
    interval_of,
    quantile,
    weights_of,
)
from orchestrator.cost.fitting.fit import Fit, fit_of, held_out_s, values_at, with_defaults
from orchestrator.cost.fitting.parameters import PARAMETERS
from orchestrator.cost.fitting.problem import Problem, problem_of
from orchestrator.cost.fitting.refit import observations_of
from orchestrator.cost.quantity import Quantity
from orchestrator.cost.rows.observation import Observation
from orchestrator.cost.rows.row import rows_of
from orchestrator.cost.software import MEGATRON

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "tests" / "published" / "throughput.csv"
PAGE = ROOT / "docs" / "cost-model.md"

Q = Quantity
EFFECTS: dict[str, tuple[Quantity, ...]] = {
    "attention": (Q.ATTENTION_FLOP, Q.ATTENTION_EDGE_FLOP, Q.ATTENTION_NARROW_FLOP, Q.SCORE_BYTES),
    "element-wise bytes": (Q.ELEMENT_BYTES,),
    "logits and loss": (Q.LOGIT_FLOP, Q.LOGIT_BYTES, Q.LOSS_BYTES),
    "traffic of products": (Q.GEMM_BYTES, Q.GROUPED_BYTES, Q.WIDE_BYTES),
    "adding up gradients": (Q.ACCUMULATED_BYTES,),
    "FP8 casts": (Q.CAST_BYTES,),
    "tp collectives": (
        *(Q.TP_NEAR_BYTES, Q.TP_FAR_BYTES, Q.TP_CALLS),
        *(Q.HIDDEN_TP_NEAR_BYTES, Q.HIDDEN_TP_FAR_BYTES, Q.HIDDEN_TP_CALLS),
    ),
    "cp ring": (Q.CP_NEAR_BYTES, Q.CP_FAR_BYTES, Q.CP_CALLS),
    "ep exchange": (Q.EP_NEAR_BYTES, Q.EP_FAR_BYTES, Q.EP_CALLS),
    "pp sends": (
        *(Q.PP_NEAR_BYTES, Q.PP_FAR_BYTES, Q.PP_CALLS),
        *(Q.HIDDEN_PP_NEAR_BYTES, Q.HIDDEN_PP_FAR_BYTES),
    ),
    "gathers of FSDP": (Q.GATHER_NEAR_BYTES, Q.GATHER_FAR_BYTES, Q.GATHER_CALLS),
    "gradients and parameters": (
        *(Q.GRADIENT_NEAR_BYTES, Q.GRADIENT_FAR_BYTES),
        *(Q.PARAMETER_NEAR_BYTES, Q.PARAMETER_FAR_BYTES),
    ),
    "optimizer": (Q.OPTIMIZER_BYTES,),
    "host": (Q.LAYERS, Q.MOE_LAYERS, Q.EXPERTS),
}
"""Effects that are switched off by taking their quantities away."""


TITLES = (
    "| class | rows | groups | in-sample mean / p90 | held out mean / median / p90 | bias "
    "| within 5 / 10 / 15 % | noise floor | goal | met |"
)
SAME = 24
"""Characters by which a sentence of the page is known again."""

SEEN = 0.002
"""Share of a step from which an effect counts as being there."""


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    observations = observations_of(rows_of(ROWS.read_text(encoding="utf-8")))
    problem = problem_of(observations)
    start = {one.name: built_in().value(one.name) for one in PARAMETERS}
    fit = fit_of(problem, start=start)
    inside, outside = fit.predicted_s(), held_out_s(fit)
    if "--exact" in arguments:
        outside = exactly_held_out_s(fit)
    tables = [
        classes(observations, inside, outside, fit),
        complete(observations, outside),
        one_scalar(observations, fit, outside),
        groups(observations, inside, outside),
        coverage(observations, outside),
        ablation(problem, fit),
        numbers(fit),
    ]
    if "--update" in arguments:
        PAGE.write_text(updated(PAGE.read_text("utf-8"), tables), encoding="utf-8")
    else:
        print("\n".join(tables))


def updated(page: str, tables: Sequence[str]) -> str:
    """Return the page with each table, told by its first line, and each sentence replaced."""
    known = {block.splitlines()[0]: block for one in tables for block in one.strip().split("\n\n")}
    sentences = {key[:SAME]: block for key, block in known.items() if not key.startswith("|")}
    blocks = []
    for block in page.split("\n\n"):
        first = block.strip("\n").split("\n", 1)[0]
        fresh = known.get(first) or sentences.get(first[:SAME])
        end = "\n" if block.endswith("\n") else ""
        blocks.append(block if fresh is None else fresh + end)
    return "\n\n".join(blocks)


def exactly_held_out_s(fit: Fit) -> Array:
    """Return held-out predictions by a fit anew for each group."""
    names = np.array([group_of(one) for one in fit.problem.observations])
    predicted = np.zeros(len(names))
    for name in sorted(set(names.tolist())):
        rest = [o for o, n in zip(fit.problem.observations, names, strict=True) if n != name]
        again = fit_of(problem_of(rest), start=fit.values)
        out = names == name
        predicted[out] = fit.problem.predicted_s(with_defaults(again.values))[out]
    return predicted


def classes(observations: Sequence[Observation], inside: Array, outside: Array, fit: Fit) -> str:
    """Return the errors of each class."""
    number = len({group_of(one) for one in observations})
    told = f"{fit.num_moved} of {len(fit.parameters)} numbers moved by rows"
    lines = [
        f"\nHow many rows were scored: {len(observations)}, {number} groups; {told}.\n",
        TITLES,
        "|---" * 10 + "|",
    ]
    for kind in KINDS:
        mask = np.array([one.kind == kind for one in observations])
        rows = [one for one in observations if one.kind == kind]
        a, b = errors_of(rows, inside[mask]), errors_of(rows, outside[mask])
        mean, p90 = GOALS[kind]
        within = " / ".join(f"{100 * one:.0f}" for one in b.within)
        met = f"{'mean' if b.mean <= mean else '-'} {'p90' if b.p90 <= p90 else '-'}"
        lines.append(
            f"| {kind} | {b.rows} | {b.groups} | {a.mean:.1f} / {a.p90:.1f} "
            f"| {b.mean:.1f} / {b.median:.1f} / {b.p90:.1f} | {b.bias:+.1f} | {within} "
            f"| {noise(rows)} | {mean} / {p90} | {met.replace('- -', 'no')} |"
        )
    return "\n".join(lines)


def noise(rows: Sequence[Observation]) -> str:
    """Return how far repeats of a layout lie from their median: mean / p90, percent.

    Repeats have the same model, chip, layout, batch, precision and family, whatever the release.
    """
    sets: dict[tuple[object, ...], list[float]] = {}
    for one in rows:
        work = one.workload
        key = (
            *(one.row.text("model"), one.row.text("gpu"), work.global_batch_size, work.sequence),
            *(one.layout, work.matmul_format, work.software.family, one.row.text("framework")[:4]),
        )
        sets.setdefault(key, []).append(one.measured_s or 0.0)
    off = [
        abs(value / float(np.median(values)) - 1)
        for values in sets.values()
        if len(values) > 1
        for value in values
    ]
    if not off:
        return "-"
    values = np.array(off)
    return f"{100 * values.mean():.1f} / {100 * quantile(values, np.ones(len(values)), 0.9):.1f}"


def complete(observations: Sequence[Observation], outside: Array) -> str:
    """Return the errors of Megatron-Core's complete H100 rows."""
    mask = np.array(
        [
            one.kind == "dense H100"
            and one.completeness == "A"
            and one.workload.software.family == MEGATRON
            for one in observations
        ]
    )
    rows = [one for one, chosen in zip(observations, mask, strict=True) if chosen]
    errors = errors_of(rows, outside[mask])
    return (
        f"\nMegatron-Core rows of completeness A on H100: {errors.rows} rows in {errors.groups} "
        f"groups, held out {errors.mean:.1f} / {errors.p90:.1f} (goal 4 / 8), "
        f"{100 * errors.within[2]:.0f} % within 15 % (goal 95 %)."
    )


def one_scalar(observations: Sequence[Observation], fit: Fit, outside: Array) -> str:
    """Return A100's errors with a scalar for families of one group, taken from left-out rows."""
    families = {
        family: {group_of(o) for o in observations if o.workload.software.family == family}
        for family in {o.workload.software.family for o in observations}
    }
    predicted = outside.copy()
    for family, of in families.items():
        if len(of) > 1 or family == MEGATRON:
            continue
        mask = np.array([o.workload.software.family == family for o in observations])
        ratio = fit.problem.measured_s[mask] / predicted[mask]
        predicted[mask] *= float(np.median(ratio))
    rows = [one for one in observations if one.kind == "dense A100"]
    errors = errors_of(rows, predicted[np.array([o.kind == "dense A100" for o in observations])])
    return (
        f"\nDense A100 with one scalar from the left-out rows for each framework of a single "
        f"group (not leave-one-group-out): {errors.mean:.1f} / {errors.p90:.1f} (goal 6 / 12)."
    )


def groups(observations: Sequence[Observation], inside: Array, outside: Array) -> str:
    """Return the errors of each group."""
    lines = [
        "\n| class | group | rows | in-sample mean | held out mean | held out bias | worst |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(o.kind, group_of(o)) for o in observations})
    for kind, name in keys:
        mask = np.array([o.kind == kind and group_of(o) == name for o in observations])
        rows = [one for one, chosen in zip(observations, mask, strict=True) if chosen]
        a, b = errors_of(rows, inside[mask]), errors_of(rows, outside[mask])
        lines.append(
            f"| {kind} | {name} | {b.rows} | {a.mean:.1f} | {b.mean:.1f} | {b.bias:+.1f} "
            f"| {b.worst:+.0f} |"
        )
    return "\n".join(lines)


def coverage(observations: Sequence[Observation], outside: Array) -> str:
    """Return the share of steps in an interval made without their own group."""
    lines = ["\n| class | interval of measured / modelled | covers, other groups' interval |"]
    lines.append("|---|---|---|")
    for kind in KINDS:
        mask = np.array([o.kind == kind for o in observations])
        rows = [o for o in observations if o.kind == kind]
        measured = np.array([o.measured_s for o in rows])
        modelled, names = outside[mask], np.array([group_of(o) for o in rows])
        ratio, weights = measured / modelled, weights_of(rows)
        low, high = interval_of(rows, modelled)
        inside = np.zeros(len(rows))
        for name in sorted(set(names.tolist())):
            others = [o for o in rows if group_of(o) != name]
            lower, upper = interval_of(others, modelled[names != name])
            out = names == name
            inside[out] = (ratio[out] >= lower) & (ratio[out] <= upper)
        share = float((inside * weights).sum() / weights.sum())
        lines.append(f"| {kind} | {low:.2f} to {high:.2f} | {100 * share:.0f} % |")
    return "\n".join(lines)


def ablation(problem: Problem, fit: Fit) -> str:
    """Return the errors with each effect switched off, nothing else refitted."""
    lines = [
        "\n| effect | share of the step where it is | " + " | ".join(KINDS) + " |",
        "|---|---|" + "---|" * len(KINDS),
    ]
    whole = fit.predicted_s()
    lines.append("| (nothing switched off) | | " + _by_class(problem, whole) + " |")
    for name, without in _ablated(problem, fit):
        size = 1 - without / whole
        there = size > SEEN
        mean = 100 * float(size[there].mean()) if there.any() else 0.0
        lines.append(f"| {name} | {mean:.1f} % | {_by_class(problem, without)} |")
    return "\n".join(lines)


def _ablated(problem: Problem, fit: Fit) -> list[tuple[str, Array]]:
    known = with_defaults(fit.values)
    found = []
    for name, quantities in EFFECTS.items():
        bills = problem.bills
        work, again, replica = (one.copy() for one in (bills.work, bills.again, bills.replica))
        for table in (work, again, replica):
            table[..., list(quantities)] = 0
        less = replace(problem, bills=replace(bills, work=work, again=again, replica=replica))
        found.append((name, less.predicted_s(known)))
    bills = problem.bills
    variants = {
        "recomputation": replace(bills, again=np.zeros_like(bills.again)),
        "bubble": replace(bills, bubble=np.zeros_like(bills.bubble)),
        "chunks (vpp as 1)": replace(bills, vpp=np.ones_like(bills.vpp)),
        "overlap of gradients": replace(bills, overlaps=np.zeros_like(bills.overlaps)),
    }
    for name, changed in variants.items():
        found.append((name, replace(problem, bills=changed).predicted_s(known)))
    neutral = {
        "framework families": {p: 1.0 for p in fit.values if p.startswith("family.")},
        "trend of releases": {"trend.dense": 0.0, "trend.moe": 0.0},
        "stragglers": {"straggler": 1e-9},
        "overlap of tp collectives": {"exposed.tp": 1.0},
        "seconds of a step": {"host.step": 1e-9},
    }
    for name, values in neutral.items():
        found.append((name, problem.predicted_s(with_defaults({**fit.values, **values}))))
    return found


def _by_class(problem: Problem, predicted: Array) -> str:
    cells = []
    for kind in KINDS:
        mask = np.array([o.kind == kind for o in problem.observations])
        rows = [o for o in problem.observations if o.kind == kind]
        errors = errors_of(rows, predicted[mask])
        cells.append(f"{errors.mean:.1f} / {errors.p90:.1f}")
    return " | ".join(cells)


def numbers(fit: Fit) -> str:
    """Return every number: guess, value, and how far rows shrink its spread."""
    values = values_at(fit.parameters, fit.solution.free)
    lines = ["\n| number | guess | spread | value | left of the spread | meaning |"]
    lines.append("|---|---|---|---|---|---|")
    for one, shrunk in zip(fit.parameters, fit.shrunk, strict=True):
        lines.append(
            f"| `{one.name}` | {one.prior:.3g} | {one.spread:.2g} | {values[one.name]:.4g} "
            f"| {100 * shrunk:.0f} % | {one.meaning} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
