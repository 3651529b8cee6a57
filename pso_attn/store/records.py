"""What is stored and how it reads back: plans as JSON, candidates and outcomes as Optuna trials.

Python writes the shortest text that reads back as the same float, and databases hold doubles,
so every number comes back as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from pso_attn.space import Coordinate, Space
from pso_attn.types import Array, Candidate, Generation, Outcome, Scalar, State

SCHEMA = 1
INFEASIBLE = "infeasible"
_PLAIN = {bool, int, float, str}


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return what Optuna is told about each flat knob, by name."""
    return {coordinate.name: _distribution(coordinate) for coordinate in space.coordinates}


def _distribution(coordinate: Coordinate) -> BaseDistribution:
    """Return a knob's range; a float's step is left out, since Optuna's grid may miss ours."""
    knob = coordinate.knob
    if knob.choices or knob.kind == "bool":
        return CategoricalDistribution(knob.choices or (False, True))
    assert knob.low is not None, f"{coordinate.name} has no range"
    assert knob.high is not None, f"{coordinate.name} has no range"
    if knob.kind == "float":
        return FloatDistribution(knob.low, knob.high, log=knob.log)
    low, high = int(knob.low), int(knob.high)
    step = 1 if knob.log else int(knob.step or 1)
    return IntDistribution(low, high - (high - low) % step, log=knob.log, step=step)


def plan_document(generation: Generation, file: Mapping[str, str] | None) -> dict[str, Any]:
    """Return a generation's plan as plain JSON data; positions stand in `file` where given."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "trials": [_candidate_document(c, file is None) for c in generation.candidates],
        "chunks": [list(chunk) for chunk in generation.chunks],
    }
    if file is not None:
        document["positions"] = dict(file)
    return document


def _candidate_document(candidate: Candidate, inline: bool) -> dict[str, Any]:
    """Return one slot of a plan as plain JSON data."""
    document: dict[str, Any] = {
        "trial": candidate.trial,
        "particle": candidate.particle,
        "params": _plain(candidate.params),
        "settings": _plain(candidate.settings),
        "seeds": _plain(candidate.seeds),
    }
    if inline:
        document["position"] = candidate.position.tolist()
    if candidate.violations:
        document["violations"] = _plain(candidate.violations)
    return document


def plan_candidates(document: Mapping[str, Any], positions: Array | None) -> tuple[Candidate, ...]:
    """Return the candidates of a plan; positions (P, D) are given where they lie in a file."""
    return tuple(
        Candidate(
            trial=row["trial"],
            particle=row["particle"],
            position=np.array(row["position"], dtype=np.float64)
            if positions is None
            else positions[slot],
            params=row["params"],
            settings=row["settings"],
            seeds=tuple(row["seeds"]),
            violations=row.get("violations", {}),
        )
        for slot, row in enumerate(document["trials"])
    )


def plan_chunks(document: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Return a plan's chunks as trial numbers."""
    return tuple(tuple(chunk) for chunk in document["chunks"])


def replanned(document: Mapping[str, Any], chunks: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return a plan with other chunks."""
    return {**document, "chunks": [list(chunk) for chunk in chunks]}


def moved(
    document: Mapping[str, Any], trials: Sequence[int], file: Mapping[str, str]
) -> dict[str, Any]:
    """Return a plan that says where training left some of its trials: rows of a file."""
    known = document.get("moved", {})
    entry = {**file, "trials": list(trials)}
    return {**document, "moved": {**known, str(trials[0]): entry}}


@dataclass(frozen=True, eq=False)
class RunningTrial:
    """A planned candidate's RUNNING trial, as a study holds it.

    params: of the knobs that act. distributions: of all knobs. attributes: its user attributes, as
    JSON data. violations: what it violates, by how much; mostly nothing.
    """

    params: Mapping[str, Scalar]
    distributions: Mapping[str, BaseDistribution]
    attributes: Mapping[str, Any]
    violations: Mapping[str, float]

    @classmethod
    def of(
        cls, generation: int, row: Mapping[str, Any], known: Mapping[str, BaseDistribution]
    ) -> "RunningTrial":
        """Return the trial of a slot of a plan; known: the distributions of all knobs."""
        attributes = {"generation": generation, "particle": row["particle"], "seeds": row["seeds"]}
        if "position" in row:
            attributes["position"] = row["position"]
        violations = row.get("violations", {})
        if violations:
            attributes[INFEASIBLE] = True
        return cls(row["params"], known, attributes, violations)

    def frozen(self) -> FrozenTrial:
        """Return Optuna's trial, which it has checked."""
        return create_trial(
            state=TrialState.RUNNING,
            params=dict(self.params),
            distributions={name: self.distributions[name] for name in self.params},
            user_attrs=dict(self.attributes),
            constraints=dict(self.violations) or None,
        )


def storable(outcome: Outcome, objectives: int) -> Outcome:
    """Return the outcome as it reads back; a value that is not finite is a failure.

    Optuna would take an infinite value for a result, and refuse a NaN.
    """
    values = None if outcome.values is None else tuple(float(v) for v in outcome.values)
    state, error = outcome.state, outcome.error
    if state is State.FAIL:
        values = None
    elif values is not None and not all(isfinite(value) for value in values):
        state, error = State.FAIL, error or f"the objective's value is {_text(values)}"
        values = None
    assert values is None or len(values) == objectives, "one value for each objective"
    assert values is not None or state is not State.COMPLETE, "a complete outcome has values"
    return Outcome(
        trial=outcome.trial,
        state=state,
        values=values,
        curve={int(step): float(value) for step, value in sorted(outcome.curve.items())},
        metrics=_plain(outcome.metrics),
        seconds=float(outcome.seconds),
        fidelity=float(outcome.fidelity),
        error=error,
    )


def outcome_attributes(outcome: Outcome) -> dict[str, Any]:
    """Return the user attributes that close a trial."""
    attributes: dict[str, Any] = {
        "metrics": outcome.metrics,
        "seconds": outcome.seconds,
        "fidelity": outcome.fidelity,
    }
    return attributes if outcome.error is None else {**attributes, "error": outcome.error}


def read_outcome(trial: FrozenTrial) -> Outcome:
    """Return the outcome of a finished trial, whoever closed it."""
    attributes = trial.user_attrs
    return Outcome(
        trial=trial.number,
        state=State(trial.state.name),
        values=None if trial.values is None else tuple(trial.values),
        curve=dict(sorted(trial.intermediate_values.items())),
        metrics=attributes.get("metrics", {}),
        seconds=attributes.get("seconds", 0.0),
        fidelity=attributes.get("fidelity", 0.0),
        error=attributes.get("error"),
    )


def _plain(value: Any) -> Any:
    """Return JSON data: lists for sequences, Python's numbers for numpy's."""
    kind = type(value)
    if kind in _PLAIN:  # nearly all of them, and the checks below are slow
        return value
    if kind in (list, tuple) and _PLAIN.issuperset(map(type, value)):
        return list(value)
    if kind is dict and _PLAIN.issuperset(map(type, value.values())):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _text(values: Sequence[Scalar]) -> str:
    """Return values as people read them."""
    return ", ".join(str(value) for value in values)
