"""A fake world brought to the middle of training, where most of what can happen begins."""

from launch.supervisor.run_state import Phase
from tests.fakes.world import FakeWorld, terms_of


def running(**changes) -> FakeWorld:
    """Two hosts of one rank each, in the middle of training."""
    world = FakeWorld(terms_of(**({"hosts": 2, "slots": 1, "last_step": 5} | changes)))
    world.let_peace(until=Phase.STARTING)
    hear_everything(world)
    world.let("go on 0", "go on 1")
    hear_everything(world)
    world.let("commit")
    return world


def hear_everything(world: FakeWorld) -> None:
    for i, agent in world.agents.items():
        while agent.says and not world.is_over:
            world.let(f"hear {i}")
