"""The variables that ranks of a cluster run with: its network's, and its host type's over them."""

from orchestrator.catalog.cards import environment_card
from orchestrator.specs.cluster import ClusterCard, EnvironmentCard


def environment_of(cluster: ClusterCard) -> EnvironmentCard | None:
    """Return the environment of a cluster's network, with the host type's own variables in it.

    What the host type gives is no longer asked of the site. None: the cluster names no
    environment and has no variables.

    Raises:
        UnknownName: the cluster names an environment that does not exist.
    """
    if cluster.environment is None:
        if not cluster.env:
            return None
        return EnvironmentCard(name=cluster.name, env=cluster.env)
    card = environment_card(cluster.environment)
    site = {name: what for name, what in card.site.items() if name not in cluster.env}
    return card.model_copy(update={"env": {**card.env, **cluster.env}, "site": site})
