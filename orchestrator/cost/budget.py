"""What a whole training takes: busy hours, hours on the wall, money, energy, carbon.

Three rates are easily taken for one another, and this file keeps them apart: what an accelerator
does while it steps (*busy*), what it did averaged over everything a run was charged for
(*charged*), and the share of charged time that was stepping (*goodput*).
"""

from orchestrator.units import SECONDS_PER_HOUR

WATTS_PER_KILOWATT = 1000.0
GRAMS_PER_TONNE = 1e6


def busy_gpu_hours(*, flop: float, flop_per_s: float) -> float:
    """Return the accelerator hours of `flop` at the rate reached while stepping.

    FLOP / rate; with 6 N T for the FLOPs no recomputation is counted, with 8 N T all of it.
    Source: Narayanan et al. 2021, section 5.1. Ignored: restarts, evaluation, warm-up.
    """
    return flop / flop_per_s / SECONDS_PER_HOUR


def charged_flop_per_s(*, flop: float, gpu_hours: float) -> float:
    """Return the rate averaged over all hours a run was charged for."""
    return flop / (gpu_hours * SECONDS_PER_HOUR)


def goodput(*, busy_gpu_hours: float, gpu_hours: float) -> float:
    """Return the share of charged hours in which steps were made."""
    return busy_gpu_hours / gpu_hours


def wall_days(*, gpu_hours: float, accelerators: int) -> float:
    """Return the days on the wall of charged hours on so many accelerators."""
    return gpu_hours / accelerators / 24


def rent_usd(*, gpu_hours: float, usd_per_hour: float) -> float:
    """Return the rent of charged hours."""
    return gpu_hours * usd_per_hour


def capital_usd(*, accelerators: int, usd_each: float) -> float:
    """Return the price of buying the accelerators: another question than rent."""
    return accelerators * usd_each


def energy_kwh(*, gpu_hours: float, watts: float, overhead: float = 1.0) -> float:
    """Return the energy of charged hours: power of one accelerator x hours x overhead.

    `watts` may be the accelerator's alone or its share of a host; `overhead` is the building's
    (power usage effectiveness). Ignored: that accelerators rarely draw their limit.
    """
    return gpu_hours * watts * overhead / WATTS_PER_KILOWATT


def carbon_t(*, energy_kwh: float, grams_per_kwh: float) -> float:
    """Return tonnes of CO2 of an energy, at the intensity of where it is drawn."""
    return energy_kwh * grams_per_kwh / GRAMS_PER_TONNE
