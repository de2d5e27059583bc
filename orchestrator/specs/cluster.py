"""Accelerators, clusters of them, environments for their networks, and how a run names one."""

import math
from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from orchestrator.specs.card import CARD_TAG, NAME_TAG, Card, tag_of
from orchestrator.specs.choices import Precision
from orchestrator.specs.closed import Closed

FurtherRate = Literal["fp64", "fp64_tensor", "fp32_vector", "fp16", "int8", "fp6", "fp4"]

SPARSE_FACTOR = 2
"""2:4 sparsity doubles a rate; halving the width of the numbers doubles it as well."""

_ROUNDING = 1.02


class Price(Closed):
    """What an hour of one accelerator cost somewhere, as a range; never an input of a plan."""

    market: str = Field(min_length=1, description="who sold it, and how")
    low_usd: PositiveFloat = Field(description="US dollars for one accelerator for one hour")
    high_usd: PositiveFloat
    as_of: str = Field(pattern=r"^\d{4}(-\d{2}){0,2}$", description="year, month or day")
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low_usd > self.high_usd:
            msg = f"low_usd {self.low_usd:g} is above high_usd {self.high_usd:g}"
            raise ValueError(msg)
        return self


class AcceleratorCard(Card):
    """One kind of device; rates are dense (no 2:4 sparsity), per device, one direction."""

    vendor: str
    architecture: str = Field(
        pattern=r"^[a-z0-9-]+$", description="which row of measured efficiencies is its own"
    )
    compute_capability: str | None = None
    form_factor: str | None = None
    memory_gib: PositiveFloat = Field(description="what a program can use, GiB (2^30)")
    memory_gb: PositiveFloat | None = Field(
        default=None, description="what the vendor prints; NVIDIA's GB of memory are GiB"
    )
    memory_type: str | None = None
    memory_bandwidth_tb_per_s: PositiveFloat = Field(description="TB/s (10^12 bytes)")
    dense_tflops: dict[Precision, PositiveFloat] = Field(
        description="TFLOP/s (10^12) by precision of a run, without sparsity; fp32 as TF32"
    )
    further_dense_tflops: dict[FurtherRate, PositiveFloat] = Field(
        default_factory=dict, description="TFLOP/s of what no run uses yet"
    )
    scale_up_gb_per_s: PositiveFloat = Field(
        description="GB/s (10^9 bytes), one direction: half of what vendors print"
    )
    scale_up_kind: str | None = None
    host_link: str | None = Field(default=None, description="what joins it to the CPU")
    power_w: NonNegativeFloat = Field(description="W, the limit of the board")
    prices: tuple[Price, ...] = ()

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        rates = {str(kind): rate for kind, rate in self.further_dense_tflops.items()}
        rates |= {str(precision): rate for precision, rate in self.dense_tflops.items()}
        for narrow, wide in (("fp8", "bf16"), ("int8", "fp16")):
            if rates.get(narrow, 0) > SPARSE_FACTOR * _ROUNDING * rates.get(wide, math.inf):
                msg = (
                    f"{narrow} {rates[narrow]:g} is more than twice {wide} {rates[wide]:g}: "
                    "a rate with 2:4 sparsity; halve it"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> Self:
        if self.memory_gb is not None and self.memory_gib > self.memory_gb:
            msg = f"memory_gib {self.memory_gib:g} is more than memory_gb {self.memory_gb:g}"
            raise ValueError(msg)
        return self


class NicSpec(Closed):
    """The network adapters of a host that carry training; storage has its own."""

    model: str
    count: PositiveInt
    gbit_per_s: PositiveFloat = Field(description="Gbit/s (10^9 bits) of one, one way")


class ClusterCard(Card):
    """Equal hosts of one accelerator, joined by a network."""

    provider: str | None = Field(default=None, description="whose host type it is")
    accelerator: Annotated[
        Annotated[str, Tag(NAME_TAG)] | Annotated[AcceleratorCard, Tag(CARD_TAG)],
        Discriminator(tag_of),
    ] = Field(description="a card's name, or a card's fields")
    gpus_per_host: PositiveInt
    scale_up_domain_gpus: PositiveInt = Field(description="devices joined by the fast links")
    network_gbit_per_s_per_gpu: PositiveFloat = Field(description="Gbit/s (10^9 bits), one way")
    network_latency_us: PositiveFloat = Field(description="one hop between hosts, microseconds")
    fabric: str = Field(description="the network between hosts")
    nics: NicSpec | None = Field(default=None, description="adapters of a host, and their rate")
    rails: PositiveInt | None = Field(
        default=None, description="separate planes; GPU i of every host meets on plane i"
    )
    cpu_cores: PositiveInt | None = Field(default=None, description="of a host")
    vcpus: PositiveInt | None = Field(default=None, description="of a host, as clouds count")
    host_memory_gib: PositiveFloat | None = None
    local_nvme_tb: PositiveFloat | None = Field(default=None, description="TB (10^12) of a host")
    max_power_kw: PositiveFloat | None = Field(default=None, description="of a host")
    environment: str | None = Field(default=None, description="environment card of its network")
    env: dict[str, str] = Field(
        default_factory=dict, description="variables of this host type, over the environment's"
    )
    prices: tuple[Price, ...] = ()

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.nics is None:
            return self
        rate = self.nics.count * self.nics.gbit_per_s / self.gpus_per_host
        if not math.isclose(rate, self.network_gbit_per_s_per_gpu, rel_tol=0.01):
            msg = (
                f"network_gbit_per_s_per_gpu {self.network_gbit_per_s_per_gpu:g}, but "
                f"{self.nics.count} x {self.nics.gbit_per_s:g} Gbit/s for {self.gpus_per_host} "
                f"GPUs is {rate:g}{_bits_hint(rate, self.network_gbit_per_s_per_gpu)}"
            )
            raise ValueError(msg)
        return self


class EnvironmentCard(Card):
    """What a kind of network needs: variables of NCCL and its plug-ins, mounts, daemons."""

    env: dict[str, str] = Field(default_factory=dict, description="the same on every site")
    site: dict[str, str] = Field(
        default_factory=dict, description="variables a site must give, and what they hold"
    )
    init_script: str | None = Field(default=None, description="sourced before ranks start")
    needs: tuple[str, ...] = Field(default=(), description="what must be there")
    avoid: tuple[str, ...] = Field(default=(), description="variables that do harm here, and why")

    @model_validator(mode="after")
    def _check(self) -> Self:
        both = sorted(set(self.env) & set(self.site))
        if both:
            msg = f"{both[0]} is both in env and in site"
            raise ValueError(msg)
        return self


MAX_RANKS = 1_000_000
"""More hosts or GPUs than that are a slip of the hand."""


class ClusterSpec(Closed):
    """A cluster in a run file: a card and how much of it."""

    card: Annotated[
        Annotated[str, Tag(NAME_TAG)] | Annotated[ClusterCard, Tag(CARD_TAG)],
        Discriminator(tag_of),
    ] = Field(description="a card's name, or a card's fields")
    hosts: PositiveInt | None = Field(default=None, le=MAX_RANKS)
    gpus: PositiveInt | None = Field(default=None, le=MAX_RANKS, description="instead of hosts")
    spares: int = Field(default=0, ge=0, description="hosts kept aside for replacement")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.hosts is None) == (self.gpus is None):
            msg = "give either hosts or gpus"
            raise ValueError(msg)
        return self


def _bits_hint(rate: float, given: float) -> str:
    return "; bits, not bytes, a second" if math.isclose(rate, 8 * given, rel_tol=0.01) else ""
