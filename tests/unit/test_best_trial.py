"""Which trial of a run is its best: of those that trained in full, the earliest of the lowest."""

import numpy as np

from pso_attn.runs import best_trial
from pso_attn.types import Candidate, History, Objective, Outcome, State, Trial

LOSS = Objective("loss", "minimize")


def history_of(*endings: tuple[State, float]) -> History:
    """Return one generation whose trials ended so."""
    trials = tuple(
        Trial(
            generation=0,
            candidate=Candidate(k, k, np.zeros(1), params={}, settings={}, seeds=(0,)),
            outcome=Outcome(k, state, (loss,), {}, {}, seconds=0.0, fidelity=0.5),
        )
        for k, (state, loss) in enumerate(endings)
    )
    return History((LOSS,), (trials,))


def test_a_lower_loss_of_a_pruned_or_diverged_trial_is_not_the_best() -> None:
    history = history_of(
        (State.PRUNED, 0.1),
        (State.COMPLETE, float("nan")),
        (State.COMPLETE, 0.6),
        (State.COMPLETE, 0.5),
        (State.COMPLETE, 0.5),
    )
    best = best_trial(history)
    assert best is not None
    assert best.number == 3


def test_a_run_without_a_full_training_has_no_best() -> None:
    assert best_trial(history_of((State.PRUNED, 0.1))) is None
