"""The one place that imports pyswarms: who looks at whom in the swarm, in pyswarms' own terms.

These are pyswarms topologies: they run inside its optimisers, and ours asks them through a
pyswarms `Swarm` that holds the folded state. What else pyswarms offers is left aside, with
reasons: its velocity operator draws from numpy's global generator, and its boundary handlers
overwrite their argument. Of its own topologies, `Ring` and `VonNeumann` join particles that are
near each other in the cube (and the latter fails where its neighbourhood exceeds the swarm),
`Random` and `Pyramid` make ragged arrays, which numpy 2 refuses, and `Star` remembers a best of
its own, which would be state outside history.
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

from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.swarm import topologies
from pso_attn.swarm.options import TopologyName
from pso_attn.swarm.state import SwarmState
from pso_attn.swarm.topologies import Links
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


class Neighbourhoods(Topology):  # type: ignore[misc]  # pyswarms has no types
    """A topology over the particles' indices, in pyswarms' terms."""

    def __init__(self, static: bool = True) -> None:
        """Make a topology; one that is not static is drawn anew now and then."""
        with quiet_pyswarms():
            super().__init__(static=static)
            self.neighbor_idx: Links | None = None
            self._made_for = (0, 0)
            self._unmodified = VelocityHandler(strategy="unmodified")
            self._periodic = BoundaryHandler(strategy="periodic")

    @abstractmethod
    def drawn_links(self, particles: int, drawn: int) -> Links:
        """Return who sees whom, (P, K), as `pso_attn.swarm.topologies` has it.

        drawn: the key of the draw; only a random topology looks at it.
        """

    def links(self, particles: int, drawn: int = 0) -> Links:
        """Return who sees whom, (P, K), remembered until it changes."""
        if self.neighbor_idx is None or self._made_for != (particles, drawn):
            self.neighbor_idx = self.drawn_links(particles, drawn)
            self._made_for = (particles, drawn)
        return self.neighbor_idx

    def leaders(self, costs: Array, drawn: int = 0) -> NDArray[np.intp]:
        """Return the index of each particle's neighbourhood best, (P,), by its costs (P,).

        Itself is preferred among equals.
        """
        links = self.links(len(costs), drawn)
        leaders: NDArray[np.intp] = links[np.arange(len(costs)), np.argmin(costs[links], axis=1)]
        return leaders

    def neighbourhood_bests(self, state: SwarmState, drawn: int = 0) -> Array:
        """Return what each particle is socially drawn to, (P, D), as this topology sees it.

        Costs are ranks, so that fidelity comes before loss; a particle without a personal best
        costs infinity. Where nobody has one, it is the particle's own position: no pull.
        """
        swarm = Swarm(position=state.position, velocity=state.velocity)
        swarm.pbest_pos = state.attractors()
        swarm.pbest_cost = state.ranks()
        best, cost = self._bests(swarm, drawn)
        if not np.isfinite(cost):
            return state.position
        return np.broadcast_to(best, state.position.shape)

    def compute_gbest(self, swarm: Any, **_: Any) -> tuple[Array, np.float64]:
        """Return the neighbourhood bests, (P, D), and the cost of the best of them all."""
        return self._bests(swarm, 0)

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

    def _bests(self, swarm: Any, drawn: int) -> tuple[Array, np.float64]:
        costs = np.asarray(swarm.pbest_cost)
        return swarm.pbest_pos[self.leaders(costs, drawn)], costs.min()


class Ring(Neighbourhoods):
    """Each particle sees `neighbours` particles on each side of it (`topologies.ring`)."""

    def __init__(self, neighbours: int = 1) -> None:
        """Make a ring; one that reaches around the whole swarm is a star."""
        _check_whole("neighbours", neighbours, 1)
        super().__init__()
        self.neighbours = neighbours

    def drawn_links(self, particles: int, drawn: int) -> Links:
        """Return who sees whom, (P, K)."""
        return topologies.ring(particles, self.neighbours)


class Star(Neighbourhoods):
    """Each particle sees the whole swarm (`topologies.star`)."""

    def drawn_links(self, particles: int, drawn: int) -> Links:
        """Return who sees whom, (P, P)."""
        return topologies.star(particles)

    def leaders(self, costs: Array, drawn: int = 0) -> NDArray[np.intp]:
        """Return the swarm's best for every particle; the lowest index among equals."""
        return np.full(len(costs), np.argmin(costs), dtype=np.intp)

    def _bests(self, swarm: Any, drawn: int) -> tuple[Array, np.float64]:
        """Return the swarm's best position, (D,), and its cost, as pyswarms' own star does."""
        costs = np.asarray(swarm.pbest_cost)
        return swarm.pbest_pos[np.argmin(costs)], costs.min()


class VonNeumann(Neighbourhoods):
    """Each particle sees four on a grid whose edges meet (`topologies.von_neumann`)."""

    def drawn_links(self, particles: int, drawn: int) -> Links:
        """Return who sees whom, (P, K)."""
        return topologies.von_neumann(particles)


class Pyramid(Neighbourhoods):
    """Each particle sees those one edge away on a tetrahedron (`topologies.pyramid`)."""

    def drawn_links(self, particles: int, drawn: int) -> Links:
        """Return who sees whom, (P, K)."""
        return topologies.pyramid(particles)


class Random(Neighbourhoods):
    """Each particle informs some others at random (`topologies.informants`, SPSO-2011).

    In our swarms, the key of a draw comes from history. Inside pyswarms' optimisers this draws
    anew after each iteration that did not better the swarm's best, from `seed` and never from
    numpy's global generator.
    """

    def __init__(self, informed: int = 3, seed: int = 0) -> None:
        """Make a random topology in which each particle informs about `informed` others."""
        _check_whole("informed", informed, 1)
        _check_whole("seed", seed, 0)
        super().__init__(static=False)
        self.informed, self.seed = informed, seed
        self._draws, self._least = 0, np.inf

    def drawn_links(self, particles: int, drawn: int) -> Links:
        """Return who sees whom, (P, K), in this draw."""
        rng = generator(self.seed, drawn, "links")
        return topologies.informants(particles, self.informed, rng)

    def compute_gbest(self, swarm: Any, **_: Any) -> tuple[Array, np.float64]:
        """Return the neighbourhood bests, (P, D), and the cost of the best of them all."""
        least = np.min(swarm.pbest_cost)
        if not least < self._least:
            self._draws += 1
        self._least = least
        return self._bests(swarm, self._draws)


def make_topology(name: TopologyName, neighbours: int, informed: int, seed: int) -> Neighbourhoods:
    """Return the topology of that name.

    neighbours: on each side, of a ring. informed: by each particle, and seed, of a random one.
    """
    if name == "ring":
        return Ring(neighbours)
    if name == "random":
        return Random(informed, seed)
    return {"star": Star, "von_neumann": VonNeumann, "pyramid": Pyramid}[name]()


def _check_whole(name: str, value: Any, least: int) -> None:
    """Raise ConfigurationError for what is no whole number of at least `least`."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ConfigurationError(f"{name} is {value!r}; give a whole number of at least {least}")
