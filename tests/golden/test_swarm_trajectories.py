"""The samplers go where they went when this was recorded.

Run as a script, this file records anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pso_attn.baselines import (
    OpenStrategy,
    QuasiMonteCarlo,
    RandomSearch,
    SeparableCovarianceAdaptation,
)
from pso_attn.swarm import (
    BareBonesSwarm,
    ClassicSwarm,
    ClpsoSwarm,
    CompetitiveSwarm,
    ScreenedSwarm,
    SeparableSwarm,
    SocialSwarm,
    Spso2011Swarm,
)
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
    "von Neumann": lambda: ClassicSwarm(7, 4, 3, 6, {"topology": "von_neumann"}),
    "random informants": lambda: ClassicSwarm(7, 4, 3, 6, {"topology": "random", "informed": 2}),
    "pyramid": lambda: ClassicSwarm(7, 5, 3, 6, {"topology": "pyramid"}),
    "spso2011": lambda: Spso2011Swarm(7, 4, 3, 6),
    "spso2011 restarting": lambda: Spso2011Swarm(7, 4, 3, 6, {"stagnation": 1}),
    "bare bones": lambda: BareBonesSwarm(7, 4, 3, 6),
    "bare bones exploiting": lambda: BareBonesSwarm(7, 4, 3, 6, {"exploit": 0.5}),
    "clpso": lambda: ClpsoSwarm(7, 4, 3, 6),
    "clpso refreshing": lambda: ClpsoSwarm(7, 4, 3, 6, {"refreshing_gap": 1}),
    "screened": lambda: ScreenedSwarm(7, 4, 3, 6),
    "screened star": lambda: ScreenedSwarm(7, 4, 3, 6, {"topology": "star", "draws": 9}),
    "screened covariance": lambda: ScreenedSwarm(7, 4, 3, 6, {"moves": "covariance"}),
    "screened both": lambda: ScreenedSwarm(7, 4, 3, 6, {"moves": "both", "draws": 9}),
    "competitive": lambda: CompetitiveSwarm(7, 4, 3, 6, {"phi": 0.1}),
    "social": lambda: SocialSwarm(7, 4, 3, 6),
    "separable": lambda: SeparableSwarm(7, 4, 3, 6),
    "open evolution": lambda: OpenStrategy(7, 4, 3, 6),
    "separable CMA": lambda: SeparableCovarianceAdaptation(7, 4, 3, 6),
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
