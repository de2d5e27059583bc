"""A cluster's ranks get its network's variables, with the host type's own over them."""

import pytest

from orchestrator.catalog.cards import (
    cluster_card,
    cluster_names,
    environment_card,
    environment_names,
)
from orchestrator.catalog.environment import environment_of


@pytest.mark.parametrize("name", cluster_names())
def test_every_cluster_but_the_local_one_has_an_environment(name):
    found = environment_of(cluster_card(name))

    assert (found is None) == (name == "local-cpu")


def test_a_host_type_adds_to_its_network_and_answers_for_the_site():
    found = environment_of(cluster_card("bm.gpu.h100.8"))

    assert found is not None
    assert found.env["NCCL_IB_GID_INDEX"] == "3"
    assert found.env["NCCL_IB_HCA"].startswith("=mlx5_0,")
    assert "NCCL_IB_HCA" not in found.site
    assert "NCCL_IB_HCA" in environment_card("oci-roce").site


def test_an_older_host_type_leaves_alone_what_harms_it():
    assert environment_of(cluster_card("bm.gpu4.8")).env["NCCL_IB_QPS_PER_CONNECTION"] == "4"
    assert "NCCL_CUMEM_ENABLE" not in environment_of(cluster_card("bm.gpu4.8")).env
    assert environment_of(cluster_card("bm.gpu.h200.8")).env["NCCL_CUMEM_ENABLE"] == "0"


@pytest.mark.parametrize("name", environment_names())
def test_a_variable_to_leave_out_is_not_set(name):
    card = environment_card(name)

    avoided = {text.split(":")[0].split("=")[0] for text in card.avoid}

    assert not avoided & set(card.env)


def test_a_cluster_without_an_environment_may_have_variables():
    card = cluster_card("local-cpu").model_copy(update={"env": {"GLOO_SOCKET_IFNAME": "lo"}})

    assert environment_of(card).env == {"GLOO_SOCKET_IFNAME": "lo"}
