"""A run to report on: real records from a real sampler and space, and a made-up training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from pso_attn.report import ReportInput
from pso_attn.seeding import generator
from pso_attn.space import Knob, Space
from pso_attn.store.records import distributions
from pso_attn.swarm import ClassicSwarm
from pso_attn.testing.spaces import space_of
from pso_attn.types import (
    Candidate,
    History,
    Objective,
    Outcome,
    Params,
    Sampler,
    State,
    Trial,
)

STEPS = 300
RUNGS = (0.25, 0.5, 1.0)
LOSS = Objective("loss", "minimize")

_KNOBS = (
    Knob("mechanism", "categorical", "", choices=("softmax", "linear", "low_rank")),
    Knob("heads", "ordered", "", choices=(1, 2, 4, 8), default=2),
    Knob("window_tokens", "int", "", low=2, high=64, log=True, when={"mechanism": ("softmax",)}),
    Knob("temperature", "float", "", low=0.25, high=4.0, log=True, default=1.0),
    Knob("dropout", "float", "", low=0.0, high=0.5, default=0.1),
    Knob("lr", "float", "", low=1e-4, high=1e-1, log=True, default=1e-3),
)
_KINDS = {"softmax": 0.0, "linear": 0.08, "low_rank": 0.15}


def sample_run(
    generations: int = 10,
    particles: int = 16,
    name: str = "sample",
    objective: Objective = LOSS,
    knobs: Sequence[Knob] = _KNOBS,
    batch: int | None = None,
) -> ReportInput:
    """Return a run of that size, with pruned, failed and infeasible trials among the complete."""
    batch = particles if batch is None else batch
    space = space_of(knobs, constraints=["heads <= 4 or lr < 0.05"] if knobs is _KNOBS else ())
    sampler = ClassicSwarm(3, particles, batch, generations)
    history = _searched(space, sampler, History((objective,)), generations)
    budget = {
        "particles": particles,
        "batch": batch,
        "generations": generations,
        "steps": STEPS,
        "rungs": list(RUNGS),
        "seeds": 1,
    }
    run = {"source": "digits", "sampler": "pso", "seed": 3, "device": "cpu", "fingerprint": "5e1f"}
    return ReportInput(
        name=name,
        history=history,
        space=space,
        configuration={"task": "digits", "budget": budget, "run": run},
        environment={"python": "3.11.2", "threads": 1, "versions": {"torch": "2.13.0"}},
        study=study_of(space, history),
    )


def sample_confirmation(run: ReportInput, top: int = 3, gain: float = 0.1) -> dict[str, Any]:
    """Return a `confirm.json` of a run, whose best is better than the defaults by `gain`."""
    full = sorted((trial for trial in run.history.trials if trial.is_full), key=run.history.loss)
    seeds = list(range(5))
    drawn = generator(7, "confirmation").normal(0.0, 0.02, (top + 1, len(seeds)))
    ahead = [0.0, *(gain * (1 - 0.3 * rank) for rank in range(top))]
    scores = 1.3 + drawn - np.array(ahead)[:, None]
    if run.objective.direction == "maximize":
        scores = 2.0 - scores
    rows = [
        _row(rank, trial, row, run.objective)
        for rank, (trial, row) in enumerate(
            zip((run.history.trials[0], *full), scores, strict=False)
        )
    ]
    sign = run.objective.loss(1.0)
    paired = [sign * (a - b) for a, b in zip(*scores[:2], strict=True)]
    return {
        "schema": 1,
        "run": run.name,
        "split": "test",
        "seeds": seeds,
        "objective": run.objective.name,
        "direction": run.objective.direction,
        "rows": rows,
        "gain": {
            "metric": run.objective.name,
            **_spread(paired),
            "standard_error": float(np.std(paired, ddof=1) / math.sqrt(len(paired))),
            "seed_noise": float(np.std(scores[0], ddof=1)),
            "significant": abs(gain) > 0.05,
        },
        "baselines": {
            "logistic regression": {"loss": 1.52, "accuracy": 0.912},
            "1-nearest neighbour": {"accuracy": 0.957},
        },
        "verdict": "The winner is better over 5 seeds." if gain > 0.05 else "Not decided.",
    }


def study_of(space: Space, history: History) -> optuna.Study:
    """Return an in-memory Optuna study of a history's complete trials."""
    declared = distributions(space)
    study = optuna.create_study(directions=[o.direction for o in history.objectives])
    for trial in history.trials:
        if trial.is_full:
            params = dict(trial.candidate.params)
            study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE,
                    values=trial.outcome.values,
                    params=params,
                    distributions={name: declared[name] for name in params},
                )
            )
    return study


def _searched(space: Space, sampler: Sampler, history: History, generations: int) -> History:
    while len(history) < generations:
        proposal, number = sampler.propose(space, history), len(history)
        trials = []
        for slot, (particle, position) in enumerate(
            zip(proposal.particles, proposal.positions, strict=True)
        ):
            repaired = space.repair(position, 3, number, particle)
            candidate = Candidate(
                trial=number * len(proposal.particles) + slot,
                particle=particle,
                position=repaired.position,
                params=repaired.params,
                settings=space.settings(repaired.params) | {"d_model": 32},
                seeds=(11,),
                violations=repaired.violations,
            )
            trials.append(Trial(number, candidate, _trained(candidate, history)))
        history = History(history.objectives, (*history.generations, tuple(trials)))
    return history


def _trained(candidate: Candidate, history: History) -> Outcome:
    """Return a made-up training: bad at a rung it is pruned, at a large rate it diverges."""
    rng, params = generator(5, candidate.trial, "training"), candidate.params
    metrics = _capacity(params)
    if candidate.violations:
        error = f"infeasible: {next(iter(candidate.violations))}"
        return Outcome(candidate.trial, State.FAIL, None, {}, metrics, 0.0, 0.0, error)
    final = _loss(params) + float(rng.normal(0.0, 0.015))
    curve = {
        step: final + (2.3 - final) * math.exp(-step / 60) + float(rng.normal(0.0, 0.01))
        for step in range(15, STEPS + 1, 15)
    }
    if float(params.get("lr", 0.0)) > 0.06:
        kept, error = {15: 2.4, 30: 3.1}, "the loss is not finite at step 41"
        return Outcome(candidate.trial, State.FAIL, None, kept, metrics, 0.8, 0.1, error)
    objective, left = history.objectives[0], 1.0
    if objective.direction == "maximize":
        curve = {step: 2.4 - loss for step, loss in curve.items()}
    for step, rung in ((round(rung * STEPS), rung) for rung in RUNGS[:-1]):
        curves = [trial.outcome.curve for trial in history.trials]
        passed = [objective.loss(other[step]) for other in curves if step in other]
        if passed and objective.loss(curve[step]) > np.quantile(passed, 2 / 3):
            left = rung
            break
    kept = {step: value for step, value in curve.items() if step <= left * STEPS}
    value = kept[max(kept)]
    state = State.COMPLETE if left == 1.0 else State.PRUNED
    metrics = {**metrics, "loss": value, "accuracy": 1 - value / 3}
    return Outcome(candidate.trial, state, (value,), kept, metrics, 1.7 * left, left)


def _loss(params: Params) -> float:
    off = 0.12 * (math.log10(float(params.get("lr", 1e-2))) + 2.0) ** 2
    off += _KINDS.get(str(params.get("mechanism")), 0.0)
    off += 0.03 * abs(math.log2(float(params.get("heads", 4))) - 2)
    off += 0.03 * abs(math.log(float(params.get("window_tokens", 12)) / 12))
    return 0.95 + off + 0.3 * abs(float(params.get("dropout", 0.1)) - 0.15)


def _capacity(params: Params) -> dict[str, float]:
    heads = int(params.get("heads", 2))
    return {"parameters": 21_000 + 400 * heads, "flops": 2_400_000 + 90_000 * heads}


def _row(rank: int, trial: Trial, scores: Any, objective: Objective) -> dict[str, Any]:
    return {
        "role": "finalist" if rank else "defaults",
        "rank": rank,
        "trial": trial.number,
        "settings": dict(trial.candidate.settings),
        "search_loss": trial.outcome.values[0] if trial.outcome.values else None,
        "test": {
            "accuracy": _spread([1 - score / 12 for score in scores]),
            objective.name: _spread(scores),
        },
        "failed": 0,
    }


def _spread(scores: Any) -> Mapping[str, Any]:
    given = [float(score) for score in scores]
    return {"mean": float(np.mean(given)), "std": float(np.std(given, ddof=1)), "per_seed": given}
