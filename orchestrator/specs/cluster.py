"""Accelerators, clusters of them, and how a run file names one."""

import datetime as dt
from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from orchestrator.specs.choices import Precision
from orchestrator.specs.closed import Closed


class AcceleratorCard(Closed):
    """One kind of device; rates are dense (no 2:4 sparsity), per device, one direction."""

    name: str = Field(min_length=1)
    vendor: str
    architecture: str
    memory_gib: PositiveFloat = Field(description="what a program can use, GiB (2^30)")
    memory_bandwidth_tb_per_s: PositiveFloat
    dense_tflops: dict[Precision, PositiveFloat] = Field(description="TFLOP/s (10^12) by precision")
    scale_up_gb_per_s: PositiveFloat = Field(description="GB/s (10^9 bytes), one direction")
    power_w: NonNegativeFloat
    source: tuple[str, ...] = ()
    retrieved: dt.date | None = None
    notes: str = ""


class ClusterCard(Closed):
    """Equal hosts of one accelerator, joined by a network."""

    name: str = Field(min_length=1)
    accelerator: str
    gpus_per_host: PositiveInt
    scale_up_domain_gpus: PositiveInt = Field(description="devices joined by the fast links")
    network_gbit_per_s_per_gpu: PositiveFloat = Field(description="Gbit/s (10^9 bits), one way")
    network_latency_us: PositiveFloat = Field(description="one hop between hosts, microseconds")
    fabric: str
    source: tuple[str, ...] = ()
    retrieved: dt.date | None = None
    notes: str = ""


class ClusterSpec(Closed):
    """A cluster in a run file: a card and how much of it."""

    card: str
    hosts: PositiveInt | None = None
    gpus: PositiveInt | None = Field(default=None, description="instead of hosts")
    spares: int = Field(default=0, ge=0, description="hosts kept aside for replacement")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.hosts is None) == (self.gpus is None):
            msg = "give either hosts or gpus"
            raise ValueError(msg)
        return self
