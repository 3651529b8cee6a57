import numpy as np
import pytest

from pso_attn.baselines import RandomSearch
from pso_attn.swarm import BareBonesSwarm, ClassicSwarm, ClpsoSwarm, Spso2011Swarm
from pso_attn.testing import best_loss, drive
from pso_attn.testing.spaces import cube

CENTRE = np.array([0.3, 0.62, 0.41, 0.75])

FAMILY = {
    "von Neumann": lambda seed: ClassicSwarm(seed, 16, 16, 50, {"topology": "von_neumann"}),
    "random": lambda seed: ClassicSwarm(seed, 16, 16, 50, {"topology": "random"}),
    "pyramid": lambda seed: ClassicSwarm(seed, 16, 16, 50, {"topology": "pyramid"}),
    "spso2011": lambda seed: Spso2011Swarm(seed, 16, 16, 50),
    "spso2011, eight at a time": lambda seed: Spso2011Swarm(seed, 16, 8, 100),
    "bare bones": lambda seed: BareBonesSwarm(seed, 16, 16, 50),
    "bare bones, exploiting": lambda seed: BareBonesSwarm(seed, 16, 16, 50, {"exploit": 0.5}),
    "clpso": lambda seed: ClpsoSwarm(seed, 16, 16, 50),
}


def sphere(params):
    return float(np.sum((np.array(list(params.values())) - CENTRE) ** 2))


@pytest.fixture(scope="module")
def chance():
    """Return what random search finds with 800 evaluations, by seed."""
    return [
        best_loss(drive(RandomSearch(seed, 16, 16, 50), cube(4), sphere, 50)) for seed in range(5)
    ]


@pytest.mark.parametrize("name", FAMILY)
def test_every_swarm_converges_on_the_sphere(name, chance):
    gains = []
    for seed in range(5):
        swarm = FAMILY[name](seed)
        found = best_loss(drive(swarm, cube(4), sphere, 800 // swarm.batch))
        gains.append(np.log10(chance[seed] / found))
    assert min(gains) > 0, gains  # five of five: one-sided sign test, p = 1/32
    assert np.median(gains) > (0.5 if name == "clpso" else 2.0), gains
