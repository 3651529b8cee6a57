import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.pyswarms_bridge import Ring, Star, quiet_pyswarms
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


def test_a_star_looks_at_the_whole_swarm():
    np.testing.assert_array_equal(Star().leaders(np.array([3.0, 1.0, 2.0])), [1, 1, 1])


@pytest.mark.parametrize("topology", [Ring(), Star()], ids=["ring", "star"])
def test_neighbourhood_bests_come_from_the_folded_state(topology):
    state = state_of([3.0, 1.0, 2.0, None, 4.0])
    expected = state.attractors()[topology.leaders(state.ranks())]
    np.testing.assert_array_equal(topology.neighbourhood_bests(state), expected)


@pytest.mark.parametrize("topology", [Ring(), Star()], ids=["ring", "star"])
def test_nobody_is_pulled_where_nobody_has_a_best(topology):
    state = state_of([None] * 5)
    np.testing.assert_array_equal(topology.neighbourhood_bests(state), state.position)


@pytest.mark.parametrize("topology", [Ring(), Ring(2), Star()], ids=["ring", "ring2", "star"])
def test_topologies_run_inside_pyswarms_own_optimiser(topology, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with quiet_pyswarms():
        from pyswarms.single import GeneralOptimizerPSO

        np.random.seed(7)  # noqa: NPY002  # pyswarms draws from the global generator
        optimizer = GeneralOptimizerPSO(
            n_particles=20,
            dimensions=3,
            options={"c1": 1.496, "c2": 1.496, "w": 0.7298},
            topology=topology,
            bounds=(np.full(3, -5.0), np.full(3, 5.0)),
        )
    cost, position = optimizer.optimize(lambda x: np.sum(x**2, axis=1), iters=150, verbose=False)
    assert cost < 1e-6
    np.testing.assert_allclose(position, 0.0, atol=1e-3)
    assert list(tmp_path.iterdir()) == []


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
        "for topology in ('ring', 'star'):\n"
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


def state_of(losses):
    state = unborn(len(losses), 2)
    history = History((Objective("loss", "minimize"),))
    trials = tuple(finished(0, i, i, np.full(2, i / 10), loss) for i, loss in enumerate(losses))
    nobody = np.zeros(len(losses), dtype=bool)
    return advance(state, trials, history, nobody, np.zeros(2, dtype=bool), 0)
