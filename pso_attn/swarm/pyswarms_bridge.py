"""The one place that imports pyswarms: who looks at whom in the swarm, in pyswarms' own terms.

`Ring` and `Star` are pyswarms topologies: they run inside its optimisers, and ours asks them
through a pyswarms `Swarm` that holds the folded state. What else pyswarms offers is left aside,
with reasons: its velocity operator draws from numpy's global generator, its boundary handlers
overwrite their argument, its own `Ring` joins particles that are near each other in the cube
rather than in the ring, and its own `Star` remembers a best of its own, which would be state
outside history.
"""

import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.swarm.state import SwarmState
from pso_attn.types import Array

_LOGGING_VARIABLE = "LOG_CFG"


@contextmanager
def quiet_pyswarms() -> Iterator[None]:
    """Keep pyswarms from touching the process' logging while it is imported or makes objects.

    Each of its `Reporter`s configures the root logger and opens `report.log` in the working
    directory, unless LOG_CFG names a configuration; an empty incremental one changes nothing.
    """
    before = os.environ.get(_LOGGING_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="pso-attn-") as folder:
        path = Path(folder, "logging.yaml")
        path.write_text("version: 1\nincremental: true\n", encoding="utf-8")
        os.environ[_LOGGING_VARIABLE] = str(path)
        try:
            yield
        finally:
            if before is None:
                del os.environ[_LOGGING_VARIABLE]
            else:
                os.environ[_LOGGING_VARIABLE] = before


with quiet_pyswarms():
    from pyswarms.backend import operators
    from pyswarms.backend.handlers import BoundaryHandler, VelocityHandler
    from pyswarms.backend.swarms import Swarm
    from pyswarms.backend.topology import Topology


class _IndexTopology(Topology):  # type: ignore[misc]  # pyswarms has no types
    """A topology over the particles' indices, which nothing changes during a run."""

    def __init__(self) -> None:
        with quiet_pyswarms():
            super().__init__(static=True)
            self.neighbor_idx: NDArray[np.intp] | None = None
            self._unmodified = VelocityHandler(strategy="unmodified")
            self._periodic = BoundaryHandler(strategy="periodic")

    @abstractmethod
    def leaders(self, costs: Array) -> NDArray[np.intp]:
        """Return the index of each particle's neighbourhood best, (P,), by its costs (P,)."""

    def neighbourhood_bests(self, state: SwarmState) -> Array:
        """Return what each particle is socially drawn to, (P, D), as this topology sees it.

        Costs are ranks, so that fidelity comes before loss; a particle without a personal best
        costs infinity. Where nobody has one, it is the particle's own position: no pull.
        """
        swarm = Swarm(position=state.position, velocity=state.velocity)
        swarm.pbest_pos = state.attractors()
        swarm.pbest_cost = state.ranks()
        best, cost = self.compute_gbest(swarm)
        if not np.isfinite(cost):
            return state.position
        return np.broadcast_to(best, state.position.shape)

    def compute_velocity(
        self, swarm: Any, clamp: Any = None, vh: Any = None, bounds: Any = None
    ) -> Array:
        """Return the next velocities, for pyswarms' own optimisers: its global draws are used."""
        velocity: Array = operators.compute_velocity(
            swarm, clamp, self._unmodified if vh is None else vh, bounds
        )
        return velocity

    def compute_position(self, swarm: Any, bounds: Any = None, bh: Any = None) -> Array:
        """Return the next positions, for pyswarms' own optimisers."""
        position: Array = operators.compute_position(
            swarm, bounds, self._periodic if bh is None else bh
        )
        return position


class Ring(_IndexTopology):
    """Each particle sees `neighbours` particles on each side of it (lbest, Kennedy 1999)."""

    def __init__(self, neighbours: int = 1) -> None:
        """Make a ring; one that reaches around the whole swarm is a star."""
        super().__init__()
        self.neighbours = neighbours

    def leaders(self, costs: Array) -> NDArray[np.intp]:
        """Return each particle's best neighbour, itself included and preferred among equals."""
        particles = len(costs)
        if self.neighbor_idx is None or len(self.neighbor_idx) != particles:
            reach = min(self.neighbours, particles // 2)
            steps = sorted(range(-reach, reach + 1), key=abs)  # 0, -1, 1, ...: itself first
            self.neighbor_idx = (np.arange(particles)[:, None] + steps) % particles
        chosen = np.argmin(costs[self.neighbor_idx], axis=1)
        leaders: NDArray[np.intp] = self.neighbor_idx[np.arange(particles), chosen]
        return leaders

    def compute_gbest(self, swarm: Any, **_: Any) -> tuple[Array, np.float64]:
        """Return the neighbourhood bests, (P, D), and the cost of the best of them all."""
        costs = np.asarray(swarm.pbest_cost)
        return swarm.pbest_pos[self.leaders(costs)], costs.min()


class Star(_IndexTopology):
    """Each particle sees the whole swarm (gbest, Kennedy & Eberhart 1995)."""

    def leaders(self, costs: Array) -> NDArray[np.intp]:
        """Return the swarm's best for every particle; the lowest index among equals."""
        return np.full(len(costs), np.argmin(costs), dtype=np.intp)

    def compute_gbest(self, swarm: Any, **_: Any) -> tuple[Array, np.float64]:
        """Return the swarm's best position, (D,), and its cost."""
        costs = np.asarray(swarm.pbest_cost)
        return swarm.pbest_pos[np.argmin(costs)], costs.min()
