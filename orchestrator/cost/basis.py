"""What a prediction rests on: fitted rates or guesses, and how far off it may be."""

from dataclasses import dataclass

from orchestrator.cost.prices import architecture_of
from orchestrator.cost.workload import Workload
from orchestrator.records.calibration import ErrorFigures, Origin

KINDS = {"hopper": "H100", "ampere": "A100", "blackwell": "Blackwell"}
"""How classes of rows name the architectures that have measured rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Where the rates of a prediction come from, and the errors of its class, if it has one."""

    kind: str
    origin: Origin
    errors: ErrorFigures | None

    def interval(self, step_s: float) -> tuple[float, float] | None:
        """Return the seconds between which four of five measured steps would lie."""
        if self.errors is None or self.origin is not Origin.FITTED:
            return None
        return step_s * self.errors.low, step_s * self.errors.high


def kind_of(workload: Workload) -> str:
    """Return the class in which a workload is scored: `dense H100`, `MoE`."""
    if workload.shape.experts:
        return "MoE"
    name = architecture_of(workload)
    return f"dense {KINDS.get(name, name)}"


def basis_of(workload: Workload) -> Basis:
    """Return what a prediction of a workload rests on.

    `fitted` where the rates of its products and of its attention are; else what they are.
    """
    calibration, architecture = workload.calibration, architecture_of(workload)
    origins = {
        calibration.figure(name, architecture).origin
        for name in (f"gemm.{workload.matmul_format}", "attention")
    }
    kind = kind_of(workload)
    return Basis(
        kind=kind,
        origin=Origin.FITTED if origins == {Origin.FITTED} else Origin.DEFAULT,
        errors=calibration.errors.get(kind),
    )
