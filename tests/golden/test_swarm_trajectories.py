"""The samplers go where they went when this was recorded.

Run as a script, this file records anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pso_attn.baselines import QuasiMonteCarlo, RandomSearch
from pso_attn.swarm import ClassicSwarm
from pso_attn.testing import drive
from pso_attn.testing.samplers import roughness, stored_positions
from pso_attn.testing.spaces import mixed

RECORDED = Path(__file__).with_name("swarm_trajectories.json")
RERECORD = f"PYTHONPATH=. python tests/golden/{Path(__file__).name}"

SAMPLERS = {
    "ring constriction": lambda: ClassicSwarm(7, 4, 3, 6),
    "star inertia": lambda: ClassicSwarm(
        7, 4, 3, 6, {"rule": "inertia", "topology": "star", "stagnation": 2}
    ),
    "random": lambda: RandomSearch(7, 4, 3, 6),
    "qmc": lambda: QuasiMonteCarlo(7, 4, 3, 6),
}


def trajectory(name):
    return stored_positions(drive(SAMPLERS[name](), mixed(), roughness, 6))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_trajectory_is_the_recorded_one(name):
    np.testing.assert_allclose(
        trajectory(name),
        json.loads(RECORDED.read_text())[name],
        atol=1e-9,
        err_msg=f"{name} goes elsewhere; if that is meant, record it anew: {RERECORD}",
    )


if __name__ == "__main__":
    rows = {name: trajectory(name).round(12).tolist() for name in SAMPLERS}
    RECORDED.write_text(json.dumps(rows).replace("], [", "],\n[").replace("]], ", "]],\n") + "\n")
