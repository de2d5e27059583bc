"""The engine, imported by a fork server: it may be forked, and nothing of a rank is in it yet."""

import json
import os
import subprocess
import sys

from launch.agent.environment import RANKS_OWN

WARM = """
import json, os
asked = set()
find, has = os._Environ.__getitem__, os._Environ.__contains__
os._Environ.__getitem__ = lambda self, name: (asked.add(name), find(self, name))[1]
os._Environ.__contains__ = lambda self, name: (asked.add(name), has(self, name))[1]

from launch.workers.megatron_core.warm import warm_up
from launch.workers.forkserver.proof import obstacle

warm_up()
print(json.dumps({"asked": sorted(asked), "obstacle": obstacle()}))
"""


def warmed(**env: str) -> dict:
    own = {name: value for name, value in os.environ.items() if name not in RANKS_OWN}
    ended = subprocess.run(
        [sys.executable, "-c", WARM], env=own | env, capture_output=True, text=True, check=True
    )
    return json.loads(ended.stdout.splitlines()[-1])


def test_megatron_is_imported_without_threads_and_without_a_look_at_what_is_a_ranks_own() -> None:
    found = warmed(OMP_NUM_THREADS="1")

    assert found["obstacle"] is None
    assert "OMP_NUM_THREADS" in found["asked"]  # so asking is noticed
    assert set(found["asked"]) & RANKS_OWN == set()
