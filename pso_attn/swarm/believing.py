"""What trials that still run are believed to give: what the surrogate expects, as a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pso_attn.space import Space
from pso_attn.swarm.ledger import Ledger, modelled
from pso_attn.swarm.one_thread import one_thread
from pso_attn.swarm.screening import Forecast
from pso_attn.swarm.standing import Standing, standing_of
from pso_attn.types import History, Trial


@dataclass(frozen=True, eq=False)
class Belief:
    """Where a swarm of so many particles stands after the trials of a ledger."""

    ledger: Ledger
    standing: Standing

    @classmethod
    @one_thread()
    def of(cls, ledger: Ledger, space: Space, particles: int) -> "Belief":
        """Return what the surrogate makes of a ledger that is not empty."""
        return cls(ledger, standing_of(ledger, space.categorical, particles))

    @one_thread()
    def told(self, space: Space, history: History, running: Sequence[int]) -> History:
        """Return the history with believed losses at the trials that run, COMPLETE in it.

        "Kriging believer", Ginsbourger et al. (2010), a standard deviation above the mean, for
        the mean alone drew whole batches into one basin. Within what was seen: none is believed
        to better the best.
        """
        full = np.isfinite(self.ledger.losses) & (self.ledger.fidelities == 1.0)
        if not full.any() or not len(running):
            return history
        targets = self.standing.targets
        order = np.argsort(targets[full], kind="stable")
        rising, losses = targets[full][order], self.ledger.losses[full][order]
        generations = list(history.generations)
        positions = np.stack([generations[i][0].position for i in running])
        forecast = Forecast.of(self.standing.surrogate, modelled(space, positions))
        expected = np.interp(forecast.mean + np.sqrt(forecast.variance), rising, losses)
        for index, loss in zip(running, expected, strict=True):
            generations[index] = (_with_loss(generations[index][0], history, float(loss)),)
        return History(history.objectives, tuple(generations))


def _with_loss(trial: Trial, history: History, loss: float) -> Trial:
    value = history.objectives[0].loss(loss)  # the sign of a maximised loss, turned back
    return replace(trial, outcome=replace(trial.outcome, values=(value,)))
