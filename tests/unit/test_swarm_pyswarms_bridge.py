import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.pyswarms_bridge import (
    Pyramid,
    Random,
    Ring,
    Star,
    VonNeumann,
    make_topology,
    quiet_pyswarms,
)
from pso_attn.swarm.state import advance, unborn
from pso_attn.testing import finished
from pso_attn.types import History, Objective

ROOT = Path(__file__).parents[2]


def test_a_ring_looks_at_its_neighbours_by_index_and_wraps_around():
    costs = np.array([5.0, 9.0, 7.0, 8.0, 1.0])
    np.testing.assert_array_equal(Ring().leaders(costs), [4, 0, 2, 4, 4])
    np.testing.assert_array_equal(Ring(2).leaders(costs), [4, 4, 4, 4, 4])


def test_a_ring_prefers_the_particle_itself_among_equals():
    np.testing.assert_array_equal(Ring().leaders(np.ones(4)), np.arange(4))
    np.testing.assert_array_equal(Ring().leaders(np.full(4, np.inf)), np.arange(4))


@pytest.mark.parametrize("neighbours", [2, 3, 100])
def test_a_ring_that_reaches_around_is_a_star(neighbours):
    costs = np.array([3.0, 2.0, 4.0, 1.0, 5.0])
    np.testing.assert_array_equal(Ring(neighbours).leaders(costs), Star().leaders(costs))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "a", True])
def test_a_topology_of_no_number_of_neighbours_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"neighbours is .*; give a whole number of at"):
        Ring(wrong)
    with pytest.raises(ConfigurationError, match=r"informed is .*; give a whole number of at"):
        Random(wrong)
    if wrong not in (0, True):
        with pytest.raises(ConfigurationError, match=r"seed is .*; give a whole number of at"):
            Random(3, seed=wrong)


def test_a_star_looks_at_the_whole_swarm():
    np.testing.assert_array_equal(Star().leaders(np.array([3.0, 1.0, 2.0])), [1, 1, 1])


TOPOLOGIES = {
    "ring": Ring,
    "wide ring": lambda: Ring(2),
    "star": Star,
    "von Neumann": VonNeumann,
    "random": Random,
    "few informants": lambda: Random(informed=1, seed=3),
    "pyramid": Pyramid,
}


@pytest.fixture(params=TOPOLOGIES)
def topology(request):
    return TOPOLOGIES[request.param]()


def test_a_neighbourhood_best_is_the_smallest_cost_in_sight(topology):
    costs = np.random.default_rng(0).permutation(13).astype(float)
    best = [min(costs[row]) for row in topology.links(13)]
    np.testing.assert_array_equal(costs[topology.leaders(costs)], best)


def test_neighbourhood_bests_come_from_the_folded_state(topology):
    state = state_of([3.0, 1.0, 2.0, None, 4.0])
    expected = state.attractors()[topology.leaders(state.ranks())]
    np.testing.assert_array_equal(topology.neighbourhood_bests(state), expected)


def test_nobody_is_pulled_where_nobody_has_a_best(topology):
    state = state_of([None] * 5)
    np.testing.assert_array_equal(topology.neighbourhood_bests(state), state.position)


def test_only_a_random_topology_looks_at_the_draw(topology):
    one, two = topology.links(9, drawn=0).copy(), topology.links(9, drawn=1)
    assert np.array_equal(one, two) != isinstance(topology, Random)
    np.testing.assert_array_equal(topology.links(9, drawn=0), one)


def test_random_links_differ_by_seed():
    assert not np.array_equal(Random(seed=0).links(9), Random(seed=1).links(9))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ring", Ring),
        ("star", Star),
        ("von_neumann", VonNeumann),
        ("random", Random),
        ("pyramid", Pyramid),
    ],
)
def test_topologies_are_made_by_name(name, kind):
    made = make_topology(name, neighbours=2, informed=4, seed=5)
    assert type(made) is kind
    assert getattr(made, "neighbours", 2) == 2
    assert getattr(made, "informed", 4) == 4
    assert getattr(made, "seed", 5) == 5


def optimised(topology, particles, dimensions, iterations, **options):
    """Run pyswarms' own optimiser on the sphere, quietly."""
    with quiet_pyswarms():
        from pyswarms.single import GeneralOptimizerPSO

        np.random.seed(7)  # noqa: NPY002  # pyswarms draws from the global generator
        optimizer = GeneralOptimizerPSO(
            n_particles=particles,
            dimensions=dimensions,
            options={"c1": 1.496, "c2": 1.496, "w": 0.7298, **options},
            topology=topology,
            bounds=(np.full(dimensions, -5.0), np.full(dimensions, 5.0)),
        )
    return optimizer.optimize(lambda x: np.sum(x**2, axis=1), iters=iterations, verbose=False)


def test_topologies_run_inside_pyswarms_own_optimiser(topology, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cost, position = optimised(topology, 20, 3, 150)
    assert cost < 1e-6
    np.testing.assert_allclose(position, 0.0, atol=1e-3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("particles", [2, 3, 7])
def test_small_swarms_and_many_dimensions_run_inside_it_too(topology, particles):
    cost, position = optimised(topology, particles, 40, 5)
    assert np.isfinite(cost)
    assert position.shape == (40,)


@pytest.mark.parametrize(
    ("name", "options"),
    [("Random", {"k": 3}), ("Pyramid", {}), ("VonNeumann", {"p": 2, "r": 3})],
)
def test_pyswarms_own_topologies_fail_where_ours_run(name, options):
    with quiet_pyswarms():
        from pyswarms.backend import topology as theirs

        made = getattr(theirs, name)() if name == "VonNeumann" else getattr(theirs, name)(False)
    with pytest.raises((ValueError, IndexError)):
        optimised(made, 20, 3, 5, **options)


def test_random_links_are_redrawn_after_an_iteration_without_improvement():
    topology, swarm = Random(), swarm_of([5.0, 9.0, 7.0, 8.0, 6.0, 3.0, 4.0])
    seen = []
    for least in (3.0, 2.0, 2.0, 2.0, 1.0):
        swarm.pbest_cost[5] = least
        topology.compute_gbest(swarm)
        seen.append(topology.neighbor_idx)
    same = [one is two for one, two in pairwise(seen)]
    assert same == [True, False, False, True]


def test_reflection_agrees_with_the_handler_of_pyswarms():
    with quiet_pyswarms():
        from pyswarms.backend.handlers import BoundaryHandler

        handler = BoundaryHandler(strategy="reflective")
    positions = np.random.default_rng(0).normal(0.5, 2.0, size=(200, 5))
    theirs = handler(positions.copy(), (np.zeros(5), np.ones(5)))
    np.testing.assert_allclose(reflect(positions), theirs, atol=1e-14)


def run_python(code: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_making_a_swarm_neither_writes_a_log_nor_configures_logging(tmp_path):
    code = (
        "import logging, os\n"
        "before = (logging.root.level, list(logging.root.handlers))\n"
        "from pso_attn.swarm import ClassicSwarm\n"
        "for topology in ('ring', 'star', 'von_neumann', 'random', 'pyramid'):\n"
        "    ClassicSwarm(0, 4, 4, 10, {'topology': topology})\n"
        "assert before == (logging.root.level, list(logging.root.handlers)), logging.root\n"
        "print(os.environ.get('LOG_CFG'))"
    )
    assert run_python(code, tmp_path, LOG_CFG="mine.yaml") == "mine.yaml"
    assert list(tmp_path.iterdir()) == []


def test_pyswarms_is_loaded_only_once_a_swarm_is_made(tmp_path):
    code = (
        "import sys\n"
        "from pso_attn.swarm import ClassicSwarm\n"
        "assert 'pyswarms' not in sys.modules\n"
        "ClassicSwarm(0, 4, 4, 10)\n"
        "assert 'pyswarms' in sys.modules and 'tests' not in sys.modules"
    )
    run_python(code, tmp_path)


def test_one_file_of_the_package_imports_pyswarms():
    importers = [
        path.name
        for path in (ROOT / "pso_attn").rglob("*.py")
        if "import pyswarms" in (text := path.read_text()) or "from pyswarms" in text
    ]
    assert importers == ["pyswarms_bridge.py"]


def swarm_of(costs):
    with quiet_pyswarms():
        from pyswarms.backend.swarms import Swarm

    positions = np.random.default_rng(0).random((len(costs), 2))
    swarm = Swarm(position=positions, velocity=np.zeros_like(positions))
    swarm.pbest_cost = np.array(costs)
    return swarm


def state_of(losses):
    state = unborn(len(losses), 2)
    history = History((Objective("loss", "minimize"),))
    trials = tuple(finished(0, i, i, np.full(2, i / 10), loss) for i, loss in enumerate(losses))
    nobody = np.zeros(len(losses), dtype=bool)
    return advance(state, trials, history, nobody, np.zeros(2, dtype=bool), 0)
