"""The trials of a history as arrays, folded one generation at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pso_attn.space import Space
from pso_attn.swarm.ranking import fidelity, merit
from pso_attn.types import Array, History, Trial

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

FEW = 0.25  # share of failures up to which those before anything worked had another cause
NEUTRAL = 0.5  # where the surrogate sees a coordinate that does not act


@dataclass(frozen=True, eq=False)
class Ledger:
    """What n trials were and gave, in their order.

    particles: (n,). positions: (n, D), as stored. points: (n, D), as the surrogate sees them.
    losses: (n,), infinity for a failure. fidelities: (n,), 1 for a full training. again: (n,),
    whether the settings had been evaluated before, which moves no particle. violations: (n,), by
    how much constraints are broken, added up. names: of all points. barren: how many trials the
    generations had before the first in which one told anything, by its loss or by a violated
    constraint; 0 while none did.
    """

    particles: Counts
    positions: Array
    points: Array
    losses: Array
    fidelities: Array
    again: Flags
    violations: Array
    names: frozenset[bytes]
    barren: int = 0

    @classmethod
    def empty(cls, dimension: int) -> "Ledger":
        """Return the ledger of no trials."""
        none = np.empty(0)
        rows = np.empty((0, dimension))
        return cls(
            none.astype(np.int64), rows, rows, none, none, none.astype(np.bool_), none, frozenset()
        )

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.losses)

    def extended(self, space: Space, trials: tuple[Trial, ...], history: History) -> "Ledger":
        """Return the ledger with one more generation's trials."""
        positions = np.array([trial.position for trial in trials])
        points = modelled(space, positions)
        known, again = set(self.names), []
        for key in keys(points):
            again.append(key in known)
            known.add(key)
        losses = [merit(history, trial)[1] for trial in trials]
        violations = [_violation(trial) for trial in trials]
        begins = _tells(losses, violations) and not _tells(self.losses, self.violations)
        return Ledger(
            np.append(self.particles, [trial.candidate.particle for trial in trials]),
            np.vstack((self.positions, positions)),
            np.vstack((self.points, points)),
            np.append(self.losses, losses),
            np.append(self.fidelities, [fidelity(trial) for trial in trials]),
            np.append(self.again, again),
            np.append(self.violations, violations),
            frozenset(known),
            len(self) if begins else self.barren,
        )

    @property
    def silent(self) -> int:
        """How many trials to begin with say nothing of where to look.

        Those before anything worked, if little failed since: something that is mended made them
        fail, wherever they were. In a space most of which cannot work failures go on, and those
        count like the others.
        """
        if not self.barren:
            return 0
        failures = ~np.isfinite(self.losses[self.barren :])
        return 0 if failures.mean() > FEW else self.barren

    def path(self, particle: int) -> Array:
        """Return where a particle went, (moves, D); looking again is no move."""
        return np.asarray(self.positions[(self.particles == particle) & ~self.again])


def modelled(space: Space, positions: Array) -> Array:
    """Return positions (n, D) as the surrogate and the search for duplicates see them.

    Discrete coordinates stand at the centres of their bins, what does not act in the middle.
    """
    points = space.snap(positions)
    return np.where(space.all_active(points), points, NEUTRAL)


def keys(points: Array) -> list[bytes]:
    """Return what is equal for points (n, D) that decode to the same settings."""
    return [row.tobytes() for row in np.round(points, 10)]


def _tells(losses: ArrayLike, violations: ArrayLike) -> bool:
    """Tell whether any of some trials had a loss, or violated a constraint."""
    return bool(np.isfinite(losses).any() or np.greater(violations, 0.0).any())


def _violation(trial: Trial) -> float:
    """Return by how much the trial breaks constraints, in all; 0 where it breaks none."""
    return float(sum(max(0.0, amount) for amount in trial.candidate.violations.values()))
