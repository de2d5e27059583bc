"""Rules on variables of the environment: what the cluster sets must suit the layout."""

from functools import lru_cache

from orchestrator.catalog.cards import environment_card
from orchestrator.errors import UnknownName
from orchestrator.rules.change import change, changes
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Subject,
    megatron_arguments,
)

_NAME = "CUDA_DEVICE_MAX_CONNECTIONS"
_KEY = f"cluster.card.env.{_NAME}"
_BLACKWELL = 10
_SHARDED_GRADIENTS = 2


def _one_connection(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.tp == 1 and layout.cp == 1:
        return PASS
    value = _connections(subject)
    if value in {None, "1"} or layout.zero_stage >= _SHARDED_GRADIENTS:
        return PASS
    said = {"value": value, "tp": layout.tp, "cp": layout.cp}
    return (Breach(key=_KEY, said=said, passing=changes(_KEY, ("1", None))),)


def _many_connections(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.zero_stage < _SHARDED_GRADIENTS or _connections(subject) != "1":
        return PASS
    passing = (*changes(_KEY, ("32", None)), change("layout.zero_stage", 1))
    return (Breach(key=_KEY, said={"stage": layout.zero_stage}, passing=passing),)


def _fsdp_with_tp(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.zero_stage < _SHARDED_GRADIENTS or not _is_before_blackwell(subject):
        return PASS
    if layout.tp == 1 and layout.cp == 1:
        return PASS
    said = {"stage": layout.zero_stage, "tp": layout.tp, "cp": layout.cp}
    return (Breach(key="layout.zero_stage", said=said, passing=changes("layout.zero_stage", (1,))),)


def _connections(subject: Subject) -> str | None:
    """Return what the cluster sets the variable to, None where it does not or where it is free."""
    cluster = subject.run.machine.cluster
    if not _is_before_blackwell(subject):
        return None
    return cluster.env.get(_NAME) or _of_environment(cluster.environment)


@lru_cache(maxsize=64)
def _of_environment(name: str | None) -> str | None:
    """Return what a card of the catalog sets the variable to; a search asks it often."""
    try:
        return None if name is None else environment_card(name).env.get(_NAME)
    except UnknownName:
        return None  # the catalog says so


def _is_before_blackwell(subject: Subject) -> bool:
    capability = subject.run.machine.accelerator.compute_capability or ""
    major = capability.split(".", maxsplit=1)[0]
    return major.isdigit() and int(major) < _BLACKWELL


RULES = (
    Rule(
        id="one-connection",
        condition="with tp or cp above 1, before Blackwell, CUDA_DEVICE_MAX_CONNECTIONS is 1",
        message="{value}, but with tp {tp} and cp {cp} Megatron asks for 1: communication must "
        "reach the GPU before the products that hide it",
        source=megatron_arguments(951, "os.environ.get('CUDA_DEVICE_MAX_CONNECTIONS') == \"1\""),
        since="0.9",
        families=MEGATRON,
        check=_one_connection,
    ),
    Rule(
        id="many-connections",
        condition="with zero_stage 2 or 3, CUDA_DEVICE_MAX_CONNECTIONS is not 1",
        message="1, but with zero_stage {stage} Megatron-FSDP refuses it: its gathers need a queue "
        "of their own",
        source=megatron_arguments(687, "os.environ.get('CUDA_DEVICE_MAX_CONNECTIONS') != \"1\""),
        since="0.9",
        families=MEGATRON,
        check=_many_connections,
    ),
    Rule(
        id="fsdp-with-tp",
        condition="before Blackwell, zero_stage 2 and 3 go without tp and cp",
        message="{stage} with tp {tp} and cp {cp}: the two ask for different "
        "CUDA_DEVICE_MAX_CONNECTIONS, and one of them runs slower",
        source=megatron_arguments(933, "Using tensor model parallelism or context parallelism wi"),
        since="0.13",
        severity=Severity.WARNING,
        families=MEGATRON,
        check=_fsdp_with_tp,
    ),
)
