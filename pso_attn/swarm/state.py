"""What the swarm remembers, folded from history one generation at a time.

Stored positions are the truth: a particle's velocity is the difference of its last two, which in
the interior is the velocity that moved it, and at a face the one "adjusted" to where it went
(Helwig 2010).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.swarm.ranking import merit
from pso_attn.types import Array, History, Trial

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SwarmState:
    """The swarm after some generations; P particles, D dimensions.

    position, velocity, best_position: (P, D); the velocity of a label is 0. best_loss: (P,),
    infinity where there is no personal best. best_fidelity: (P,), the fraction of the steps that
    the best was trained for. idle: (P,), moves since the personal best improved. evaluated: (P,).
    """

    position: Array
    velocity: Array
    best_position: Array
    best_loss: Array
    best_fidelity: Array
    idle: Counts
    evaluated: Flags

    @property
    def has_best(self) -> Flags:
        """(P,): whether the particle has a personal best."""
        return np.isfinite(self.best_loss)

    def ranks(self) -> Array:
        """Return the personal bests' ranks, (P,): 0 is best, equals share one, none is infinity.

        Fidelity first, then loss, so that a pruned loss never beats a full one.
        """
        order = np.lexsort((self.best_loss, -self.best_fidelity))
        loss, fidelity = self.best_loss[order], self.best_fidelity[order]
        rises = (loss[1:] != loss[:-1]) | (fidelity[1:] != fidelity[:-1])
        ranks = np.empty(len(order))
        ranks[order] = np.concatenate(([0.0], np.cumsum(rises)))
        return np.where(self.has_best, ranks, np.inf)

    def attractors(self) -> Array:
        """Return the personal bests, (P, D), with the position where there is none: no pull."""
        return np.where(self.has_best[:, None], self.best_position, self.position)


def unborn(particles: int, dimension: int) -> SwarmState:
    """Return the state of a swarm of which nothing was evaluated yet."""
    matrix = np.zeros((particles, dimension))
    return SwarmState(
        position=matrix,
        velocity=matrix,
        best_position=matrix,
        best_loss=np.full(particles, np.inf),
        best_fidelity=np.zeros(particles),
        idle=np.zeros(particles, dtype=np.int64),
        evaluated=np.zeros(particles, dtype=bool),
    )


def advance(
    state: SwarmState,
    trials: tuple[Trial, ...],
    history: History,
    redrawn: Flags,
    categorical: Flags,
    seed: int,
    begun: Callable[[Array], Array] = np.asarray,
) -> SwarmState:
    """Return the state after one more generation's trials.

    redrawn: (P,), the particles that this generation placed afresh instead of moving them; they
    go on without velocity and without a personal best. seed: of the velocities with which
    particles begin. begun: where particles begin, of uniform deviates (D,). A failed or
    infeasible trial moves its particle and never becomes a best.
    Raises ConfigurationError for trials of another swarm.
    """
    after = SwarmState(*(getattr(state, field.name).copy() for field in fields(state)))
    for trial in trials:
        i, position = trial.candidate.particle, trial.position
        _check_fits(trial, state)
        if redrawn[i]:
            after.best_loss[i], after.best_fidelity[i], after.idle[i] = np.inf, 0.0, 0
        if not state.evaluated[i]:
            velocity = _first_velocity(trial, seed, begun)
        elif redrawn[i]:
            velocity = np.zeros_like(position)
        else:
            velocity = position - state.position[i]
        after.velocity[i] = np.where(categorical, 0.0, velocity)
        after.position[i] = position
        after.evaluated[i] = True
        own = merit(history, trial)
        if own < (-after.best_fidelity[i], after.best_loss[i]):
            after.best_position[i] = position
            after.best_fidelity[i], after.best_loss[i], after.idle[i] = -own[0], own[1], 0
        else:
            after.idle[i] += 1
    return after


def _first_velocity(trial: Trial, seed: int, begun: Callable[[Array], Array]) -> Array:
    """Return half the way to where it may have begun: SPSO 2007 (Clerc 2012), "half-difference".

    From rest, whoever leads its neighbourhood at first, a third of a ring, would be evaluated at
    the same place again.
    """
    candidate = trial.candidate
    rng = generator(seed, trial.generation, candidate.particle, "first velocity")
    return 0.5 * (begun(rng.random(candidate.position.size)) - candidate.position)


def _check_fits(trial: Trial, state: SwarmState) -> None:
    particles, dimension = state.position.shape
    candidate = trial.candidate
    if candidate.particle >= particles or candidate.position.shape != (dimension,):
        raise ConfigurationError(
            f"trial {trial.number} belongs to particle {candidate.particle} in "
            f"{candidate.position.size} dimensions, and this swarm has {particles} particles in "
            f"{dimension}; continue with the swarm and the space that the search began with"
        )
