"""A search without a model: a sampler, a space and a function, through the real records."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pso_attn.space import Space
from pso_attn.types import (
    Array,
    Candidate,
    History,
    Objective,
    Outcome,
    Params,
    Sampler,
    State,
    Trial,
)

Function = Callable[[Params], float]

MINIMISED = (Objective("loss", "minimize"),)


def drive(
    sampler: Sampler,
    space: Space,
    function: Function,
    generations: int,
    history: History | None = None,
    seed: int = 0,
) -> History:
    """Return the history extended to that many generations, with `function` as the evaluation.

    function: flat params of a candidate to its loss. Infeasible candidates fail unevaluated, and
    so does one for which it raises ArithmeticError; NaN and infinity are stored as they come.
    seed: that of the constraint repair.
    """
    history = History(MINIMISED) if history is None else history
    while len(history) < generations:
        proposal = sampler.propose(space, history)
        number = len(history)
        trials = []
        for slot, (particle, position) in enumerate(
            zip(proposal.particles, proposal.positions, strict=True)
        ):
            repaired = space.repair(position, seed, number, particle)
            candidate = Candidate(
                trial=number * len(proposal.particles) + slot,
                particle=particle,
                position=repaired.position,
                params=repaired.params,
                settings=space.settings(repaired.params),
                seeds=(0,),
                violations=repaired.violations,
            )
            trials.append(Trial(number, candidate, _evaluated(candidate, function)))
        history = History(history.objectives, (*history.generations, tuple(trials)))
    return history


def finished(
    generation: int,
    trial: int,
    particle: int,
    position: Array,
    loss: float | None,
    fidelity: float = 1.0,
    params: Mapping[str, Any] | None = None,
) -> Trial:
    """Return a trial that ended at this position with this loss; None is a failure.

    A fidelity below 1 makes it a pruned one.
    """
    candidate = Candidate(trial, particle, position, dict(params or {}), {}, seeds=(0,))
    return Trial(generation, candidate, _outcome(trial, loss, fidelity))


def best_loss(history: History) -> float:
    """Return the smallest finite loss of the full trials; infinity if there is none."""
    full = (trial for trial in history.trials if trial.is_full)
    return min((history.loss(trial) for trial in full), default=math.inf)


def _evaluated(candidate: Candidate, function: Function) -> Outcome:
    if candidate.violations:
        error = f"infeasible: {next(iter(candidate.violations))}"
        return _outcome(candidate.trial, None, error=error)
    try:
        return _outcome(candidate.trial, function(candidate.params))
    except ArithmeticError as failure:
        return _outcome(candidate.trial, None, error=repr(failure))


def _outcome(
    trial: int, loss: float | None, fidelity: float = 1.0, error: str | None = None
) -> Outcome:
    """Return the outcome of a loss, or of a failure where it is None."""
    if loss is None:
        return Outcome(trial, State.FAIL, None, {}, {}, 0.0, 0.0, error or "failed")
    state = State.COMPLETE if fidelity == 1.0 else State.PRUNED
    return Outcome(trial, state, (loss,), {1: loss}, {"loss": loss}, 0.0, fidelity)
