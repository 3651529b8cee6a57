"""A history as Optuna would have recorded it, and positions asked of an Optuna sampler.

The study lives in memory, for one proposal: history is the only thing that is kept. Discrete
values stand in it by their place (0, 1, …), so that what is ordered stays ordered.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from pso_attn.space import Coordinate, Space
from pso_attn.types import Array, History, Params, Scalar, State, Trial

LARGEST = 1e100  # the square of a loss beyond it would overflow in a Gaussian process

Attributes = Mapping[str, Any]


def rebuilt_study(
    space: Space,
    history: History,
    sampler: BaseSampler,
    attributes: Sequence[Attributes] | None = None,
) -> optuna.Study:
    """Return a study, minimised, that holds every trial of the history, in order.

    Losses are the first objective's. A failed trial, or one without a finite loss, is FAIL; a
    pruned one is PRUNED with its learning curve; an infeasible one is PRUNED without a value and
    with what it violates, as Optuna's own samplers learn from constraints.
    attributes: system attributes of each trial.
    """
    known = distributions(space)
    with quiet_optuna():
        study = optuna.create_study(sampler=sampler, direction="minimize")
    for index, trial in enumerate(history.trials):
        own = attributes[index] if attributes else {}
        study.add_trial(_frozen(space, history, trial, known, own))
    return study


def asked(space: Space, study: optuna.Study, first: int, count: int) -> Array:
    """Return the positions (count, D) of the next trials, all of them RUNNING at the same time.

    Knobs are suggested one by one, as an objective would: those that others decide about come
    after these, and those that do not act are not suggested; they lie at their default. Trials of
    the run's starts are told as what they are and not asked for.
    """
    known = distributions(space)
    positions = np.empty((count, space.dimension))
    with quiet_optuna():
        for slot in range(count):
            if first + slot < len(space.starts):
                positions[slot] = space.starts[first + slot]
                params = space.decode(positions[slot])
                study.add_trial(_created(space, TrialState.RUNNING, params, known))
            else:
                positions[slot] = suggested(space, study.ask())
    return positions


def suggested(space: Space, trial: optuna.Trial) -> Array:
    """Return the position (D,) that the study's sampler suggests, asked only for what acts."""
    known, position = distributions(space), space.encode({})
    for columns in conditional_waves(space):
        acts = space.active(position)
        for column in columns[acts[columns]]:
            coordinate = space.coordinates[column]
            distribution = known[coordinate.name]
            given = _suggest(trial, coordinate.name, distribution)
            position[column] = coordinate.scale.point(_value(coordinate, distribution, given))
    return position


def told(space: Space, params: Params, known: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return flat params as Optuna is told them; known: the space's distributions."""
    by_name = {coordinate.name: coordinate for coordinate in space.coordinates}
    return {name: _told(by_name[name], known[name], value) for name, value in params.items()}


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return what Optuna is told about each flat knob, by name."""
    return {coordinate.name: _distribution(coordinate) for coordinate in space.coordinates}


def conditional_waves(space: Space) -> list[NDArray[np.int64]]:
    """Return the columns in the order in which they can be settled, those of one wave together.

    Whether a column acts is known once all earlier waves are settled.
    """
    parents = [_parents(space, coordinate) for coordinate in space.coordinates]
    depth = np.zeros(space.dimension, dtype=np.int64)
    for _ in range(space.dimension):
        before = depth.copy()
        for column, above in enumerate(parents):
            depth[column] = max((depth[parent] + 1 for parent in above), default=0)
        if np.array_equal(before, depth):
            break
    return [np.flatnonzero(depth == wave) for wave in range(int(depth.max(initial=0)) + 1)]


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own messages from the person inside the block."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _parents(space: Space, coordinate: Coordinate) -> list[int]:
    """Return the columns on which it depends whether this one acts."""
    _, layer, head = coordinate.path
    names = set(coordinate.when)
    names |= {"layers"} if layer is not None else set()
    names |= {"heads", f"heads.{layer}"} if head is not None else set()
    return [k for k, c in enumerate(space.coordinates) if c.name in names or c.path[0] in names]


def _distribution(coordinate: Coordinate) -> BaseDistribution:
    knob, scale = coordinate.knob, coordinate.scale
    if coordinate.is_categorical:
        return CategoricalDistribution(tuple(range(scale.levels)))
    if not scale.levels:
        assert knob.low is not None
        assert knob.high is not None
        return FloatDistribution(knob.low, knob.high, log=knob.log)
    if knob.log and isinstance(scale.values, range):
        return IntDistribution(scale.values[0], scale.values[-1], log=True)
    return IntDistribution(0, scale.levels - 1)


def _told(coordinate: Coordinate, known: BaseDistribution, value: Any) -> Any:
    """Return a knob's value as Optuna is told it."""
    return value if _is_itself(known) else coordinate.scale.values.index(value)


def _value(coordinate: Coordinate, known: BaseDistribution, told: Any) -> Scalar:
    """Return the knob's value that Optuna tells."""
    value: Scalar = told if _is_itself(known) else coordinate.scale.values[told]
    return value


def _is_itself(known: BaseDistribution) -> bool:
    """Tell whether Optuna is told the knob's values, not their places."""
    return isinstance(known, FloatDistribution) or (
        isinstance(known, IntDistribution) and known.log
    )


def _suggest(trial: optuna.Trial, name: str, known: BaseDistribution) -> Any:
    if isinstance(known, FloatDistribution):
        return trial.suggest_float(name, known.low, known.high, log=known.log)
    if isinstance(known, IntDistribution):
        return trial.suggest_int(name, known.low, known.high, log=known.log)
    assert isinstance(known, CategoricalDistribution)
    return trial.suggest_categorical(name, known.choices)


def _frozen(
    space: Space,
    history: History,
    trial: Trial,
    known: Mapping[str, BaseDistribution],
    attributes: Attributes,
) -> FrozenTrial:
    params, loss = trial.candidate.params, history.loss(trial)
    if trial.candidate.violations:
        return _created(
            space,
            TrialState.PRUNED,
            params,
            known,
            constraints=dict(trial.candidate.violations),
            system_attrs=dict(attributes),
        )
    if trial.outcome.state is State.FAIL or not np.isfinite(loss):
        return _created(space, TrialState.FAIL, params, known, system_attrs=dict(attributes))
    curve = {}
    if trial.outcome.state is State.PRUNED:
        objective = history.objectives[0]
        curve = {step: objective.loss(value) for step, value in trial.outcome.curve.items()}
    return _created(
        space,
        TrialState[trial.outcome.state],
        params,
        known,
        value=min(max(loss, -LARGEST), LARGEST),
        intermediate_values=curve,
        system_attrs=dict(attributes),
    )


def _created(
    space: Space,
    state: TrialState,
    params: Params,
    known: Mapping[str, BaseDistribution],
    **rest: Any,
) -> FrozenTrial:
    return create_trial(
        state=state,
        params=told(space, params, known),
        distributions={name: known[name] for name in params},
        **rest,
    )
