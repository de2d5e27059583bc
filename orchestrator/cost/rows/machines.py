"""Which machine a row was measured on."""

import re
from functools import cache

from orchestrator.catalog.cards import accelerator_card, accelerator_names
from orchestrator.cost.rows.row import Row, refuse
from orchestrator.records.run import Machine
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard

_WATTS = re.compile(r"(\d{3,4})\s*W\b", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+)\s*GB", re.IGNORECASE)
_MODEL = re.compile(r"(GB300|GB200|B300|B200|H800|H200|H100|H20|A100|A800|MI300X)", re.IGNORECASE)
_PER_HOST = re.compile(r"([\d.]+)\s*Gb/s\s*per\s*node", re.IGNORECASE)
_PER_GPU = re.compile(r"([\d.]+)\s*Gb/s\s*per\s*GPU", re.IGNORECASE)
_LINKS = re.compile(r"(\d+)\s*x\s*([\d.]+)\s*G", re.IGNORECASE)
_LINKS_PER_HOST = re.compile(r"(\d+)\s*links/node", re.IGNORECASE)
_NVLINK_LIMIT = re.compile(r"NVLink limited to (\d+)\s*GB/s", re.IGNORECASE)

OMNI_PATH_GBIT_PER_S = 100.0

USUAL_GBIT_PER_S = {"A100-40": 200.0, "A100": 200.0, "GB300": 800.0, "B300": 800.0}
"""Network of a GPU where a row does not say: of the vendor's own system; 400 for others."""

DEFAULT_GBIT_PER_S = 400.0
A800_GB_PER_S = 200.0
"""One direction; NVIDIA A800 data sheet (recalled): an A100 with NVLink cut to 400 GB/s."""

SAME_SILICON = {"A800": "A100"}
LATENCY_US = 5.0
USABLE_SHARE = 0.995
"""Usable memory of what the vendor prints, as on the H100's card."""

RACK_DOMAIN = 72

HBM2E_H100_TB_PER_S = 2.4
"""The 96 GB H100 with HBM2e and 500 W: torchtitan's machines (its docs/performance.md)."""


def machine_of(row: Row) -> Machine:
    """Return the hosts of a row.

    Raises:
        Unreadable: the accelerator is not known, or the GPUs are not whole hosts.
    """
    name = row.text("gpu")
    found = _MODEL.search(name)
    if found is None:
        refuse(f"gpu '{name}' is not one of the catalog's accelerators")
    model = found[1].upper()
    gpus = row.needed("gpus")
    rack = model.startswith("GB") and (
        "NVL" in name.upper() or "NVL" in row.text("interconnect").upper()
    )
    per_host = row.whole("gpus_per_node") or _assumed_per_host(row, model)
    per_host = min(per_host, gpus)
    if gpus % per_host:
        refuse(f"gpus {gpus} are not whole hosts of {per_host}")
    card = ClusterCard(
        name=f"{model.lower()}-row",
        accelerator=_accelerator(row, model),
        gpus_per_host=per_host,
        scale_up_domain_gpus=RACK_DOMAIN if rack or model.startswith("GB") else per_host,
        network_gbit_per_s_per_gpu=_network(row, model, per_host=per_host),
        network_latency_us=LATENCY_US,
        fabric=row.text("interconnect") or "not stated",
    )
    accelerator = card.accelerator
    assert isinstance(accelerator, AcceleratorCard)  # noqa: S101  built as one just above
    return Machine(
        cluster=card, accelerator=accelerator, hosts=gpus // per_host, gpus_per_host=per_host
    )


def _assumed_per_host(row: Row, model: str) -> int:
    per_host = 4 if model.startswith("GB") else 8
    row.assume(f"gpus_per_node {per_host}")
    return per_host


def _accelerator(row: Row, model: str) -> AcceleratorCard:
    name = row.text("gpu")
    same = SAME_SILICON.get(model, model)
    known = [one for one in accelerator_names() if one.startswith(f"{same.lower()}-")]
    size, form = _MEMORY.search(name), name.lower()
    ranked = sorted(
        known,
        key=lambda one: (
            ("pcie" in one) != ("pcie" in form),
            ("nvl" in one.split("-")) != ("nvl" in re.split(r"[-_ ]", form)),
            not (size and f"{size[1]}gb" in one),
            "40gb" in one,
            one,
        ),
    )
    card = _known(ranked[0])
    changes: dict[str, float] = {}
    if size and f"{size[1]}gb" not in card.name and not model.startswith(("GB", "B")):
        changes["memory_gib"] = USABLE_SHARE * float(size[1])
        changes["memory_gb"] = float(size[1])
    watts = _WATTS.search(name)
    if watts:
        changes["power_w"] = float(watts[1])
    if "hbm2e" in form and model == "H100":
        changes["memory_bandwidth_tb_per_s"] = HBM2E_H100_TB_PER_S
    if model == "A800":
        changes["scale_up_gb_per_s"] = A800_GB_PER_S
    limit = _NVLINK_LIMIT.search(row.text("interconnect"))
    if limit:
        changes["scale_up_gb_per_s"] = float(limit[1]) / 2
    return card.model_copy(update=changes) if changes else card


@cache
def _known(name: str) -> AcceleratorCard:
    return accelerator_card(name)


def _network(row: Row, model: str, *, per_host: int) -> float:
    """Return Gbit/s of one GPU, one way."""
    text = row.text("interconnect")
    per_gpu, whole = _PER_GPU.search(text), _PER_HOST.search(text)
    links, count = _LINKS.search(text), _LINKS_PER_HOST.search(text)
    if per_gpu:
        return float(per_gpu[1])
    if links:
        return float(links[1]) * float(links[2]) / max(per_host, 8 if model == "A100" else per_host)
    if whole:
        return float(whole[1]) / max(per_host, 8)
    if count and "omni" in text.lower():
        return float(count[1]) * OMNI_PATH_GBIT_PER_S / per_host
    key = "A100-40" if model == "A100" and "40GB" in row.text("gpu") else model
    rate = USUAL_GBIT_PER_S.get(key, DEFAULT_GBIT_PER_S)
    if row.needed("gpus") > per_host:
        row.assume(f"network {rate:g} Gbit/s per GPU")
    return rate
