"""A measured step with everything that a prediction of it needs."""

from dataclasses import dataclass, replace

from orchestrator.cost.basis import kind_of
from orchestrator.cost.rows.layouts import layout_of
from orchestrator.cost.rows.machines import machine_of
from orchestrator.cost.rows.models import model_of
from orchestrator.cost.rows.room import fitting
from orchestrator.cost.rows.row import Row, refuse
from orchestrator.cost.rows.software import format_of, software_of
from orchestrator.cost.software import MEGATRON, MatmulFormat, Software
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.errors import LlmorchError
from orchestrator.records.calibration import Calibration
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import Precision
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.numerics import NumericsSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

PRECISIONS = {
    MatmulFormat.FP32: Precision.FP32,
    MatmulFormat.BF16: Precision.BF16,
    MatmulFormat.FP8: Precision.FP8,
    MatmulFormat.MXFP8: Precision.FP8,
    MatmulFormat.NVFP4: Precision.FP8,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """A row that can be predicted; `measured_s` is None where it has no time.

    `group` holds what belongs together (repeats, near-duplicates), `kind` the class in which it
    is scored, `assumed` what the row leaves out and was guessed.
    """

    id: str
    group: str
    kind: str
    completeness: str
    workload: Workload
    layout: Layout
    measured_s: float | None
    peak_memory_gib: float | None
    assumed: tuple[str, ...]
    row: Row


def observation_of(row: Row, *, calibration: Calibration | None = None) -> Observation:
    """Return what a row says; without a calibration its workload has the built-in one.

    Raises:
        Unreadable: it cannot be predicted; the text says why.
    """
    try:
        return _observation(row, calibration)
    except (ValueError, LlmorchError) as error:
        # What the schemas of cards and run files say of a row's figures.
        refuse(" ".join(str(error).split()))


def _observation(row: Row, calibration: Calibration | None) -> Observation:
    machine, model, software = machine_of(row), model_of(row), software_of(row)
    form = format_of(row)
    layout = layout_of(row, model, software)
    training = TrainingSpec(
        sequence_length=row.needed("seq_len"),
        global_batch_size=row.needed("global_batch"),
        steps=1,
        precision=PRECISIONS[form],
        numerics=_numerics(row, software.family, form),
    )
    spec = RunSpec(
        schema=1,
        name="row",
        model=model,
        cluster=ClusterSpec(card=machine.cluster, gpus=machine.world_size),
        training=training,
    )
    run = ResolvedRun(
        spec=spec, model=model, machine=machine, training=training, steps=1, layout=layout
    )
    workload = replace(
        workload_of(run, calibration=calibration),
        software=_hiding(row, software, layout, domain=machine.cluster.scale_up_domain_gpus),
        matmul_format=form,
        offloaded_share=_offloaded(row, model.num_layers),
    )
    workload, layout = fitting(row, workload, layout)
    return Observation(
        id=row.id,
        group=row.text("split_group") or row.id,
        kind=kind_of(workload),
        completeness=row.text("completeness"),
        workload=workload,
        layout=layout,
        measured_s=_measured_s(row, workload),
        peak_memory_gib=row.number("measured_peak_mem_gib"),
        assumed=tuple(row.assumed),
        row=row,
    )


def _hiding(row: Row, software: Software, layout: Layout, *, domain: int) -> Software:
    """Return the software with the expert overlap that recipes turn on across hosts."""
    stated = row.text("moe_a2a_overlap")
    leaves = layout.ep * layout.etp > domain
    if stated or not leaves or "Megatron-Bridge" not in row.text("framework"):
        return software
    row.assume("expert exchange overlaps, as it leaves the host")
    return replace(software, hides_experts=True)


def _offloaded(row: Row, layers: int) -> float:
    """Return the share of layers whose activations the row keeps in host memory."""
    stated = row.whole("cpu_offload_layers")
    return min(1.0, (stated or 0) / layers)


def _numerics(row: Row, family: str, form: MatmulFormat) -> NumericsSpec:
    """Return the formats of gradients and states that a framework's recipes have."""
    framework = row.text("framework")
    if family == "llm-foundry":
        # Mixed precision DEFAULT reduces in FP32, PURE in BF16.
        return NumericsSpec(gradients="fp32" if "DEFAULT" in framework else "bf16")
    if family == MEGATRON and ("NeMo" in framework or "Bridge" in framework):
        row.assume("gradients in bf16, as NeMo's recipes have them")
        narrow = form.is_narrow
        if narrow:
            row.assume("weights kept in fp8")
        elif "NeMo 24" in framework:
            # Apex' distributed Adam keeps, of BF16 weights' masters, the 16 bits that they lack
            # (`store_param_remainders` in NeMo's megatron_base_model.py).
            row.assume("remainders of master weights in 16 bits, as NeMo 24 keeps them")
            return NumericsSpec(gradients="bf16", optimizer_gradients="bf16")
        return NumericsSpec(gradients="bf16", narrow_parameters=narrow)
    return NumericsSpec()


def _measured_s(row: Row, workload: Workload) -> float | None:
    """Return the seconds of a step, from the step time or from tokens a second of a GPU."""
    step_s = row.number("measured_step_time_s")
    if step_s is not None:
        return step_s
    rate = row.number("measured_tokens_per_s_per_gpu")
    if rate is not None:
        return workload.tokens_per_step / (rate * workload.world_size)
    return row.number("derived_step_time_s")
