"""Bare bones: no velocity, a Gaussian between the personal and the neighbourhood best.

Kennedy (2003), "Bare bones particle swarms", IEEE Swarm Intelligence Symposium.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.family import Mover, NeighbourlySwarm, Sight, Turn, one_by_one
from pso_attn.swarm.moves import Weights, copied_labels
from pso_attn.swarm.options import TopologyName, TopologyOptions, read_known
from pso_attn.types import Array


@dataclass(frozen=True)
class BareBonesOptions(TopologyOptions):
    """Options of `pso-bare-bones`; its paper uses the grid of von Neumann throughout.

    exploit: chance that a coordinate stays at the personal best; .5 is the paper's second form.
    """

    topology: TopologyName = "von_neumann"
    exploit: float = 0.0


class BareBonesSwarm(NeighbourlySwarm):
    """Bare bones swarm: Gaussian draws between two bests, no velocity, no weights.

    Each number is drawn from N((p + l) / 2, |p - l|) and mirrored at the ends of its range; each
    label is copied from p or l, like chances, or drawn anew at `jump_rate`. A particle that is
    itself the best that it sees would stay where it is, trained again for nothing: its l is the
    best of the others that it sees.

    options: see `BareBonesOptions`; ConfigurationError as for `ClassicSwarm`. The budget of
    generations does not matter.
    """

    def __init__(
        self,
        seed: int,
        particles: int,
        batch: int,
        generations: int,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Check the options and join the particles by their topology."""
        self.options = read_known("pso-bare-bones", BareBonesOptions, options)
        super().__init__(seed, particles, batch, generations, self.options)

    def _mover(self, turn: Turn[Sight]) -> Mover:
        space, state, options = turn.space, turn.state, self.options
        personal, levels = state.attractors(), np.maximum(space.levels, 1)
        ranks, links = state.ranks(), self._links(turn)

        def moved(i: int, rng: np.random.Generator) -> Array:
            best, seen = personal[i], state.position[i]
            others = links[i][links[i] != i]
            if others.size and np.isfinite(ranks[others]).any():
                seen = personal[others[np.argmin(ranks[others])]]
            drawn = reflect(between(best, seen, rng))
            stays = rng.random(best.size) < options.exploit
            numbers = np.where(stays, best, drawn)
            chances = Weights(0.0, 1.0, 1.0)
            draws = rng.random((3, best.size))
            labels = copied_labels(best, best, seen, levels, chances, options.jump_rate, draws)
            return np.where(space.categorical, labels, numbers)

        return one_by_one(moved)


def between(personal: Array, social: Array, rng: np.random.Generator) -> Array:
    """Return a draw from N((p + l) / 2, |p - l|), each coordinate for itself."""
    drawn = rng.standard_normal(personal.size)
    return np.asarray((personal + social) / 2.0 + np.abs(personal - social) * drawn)
