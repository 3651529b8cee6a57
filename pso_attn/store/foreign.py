"""Anyone's Optuna study, only read: found by URL#NAME, and its trials as a history.

What only a run has is absent: positions, seeds, metrics and settings beside the parameters.
"""

import os
import weakref
from datetime import timedelta
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from pso_attn.errors import RunError, nearest
from pso_attn.space import Coordinate, Knob, Space
from pso_attn.store.connection import connect, redacted
from pso_attn.store.studies import CONFIGURATION
from pso_attn.types import Candidate, History, Objective, Outcome, Scalar, State, Trial

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_MOST_NAMED = 8


def is_foreign(reference: str) -> bool:
    """Tell whether a reference is a study's, URL#NAME or FILE#NAME, and not a run's."""
    return "://" in reference or bool(_marks(reference))


def open_foreign(reference: str) -> optuna.Study:
    """Return the study of URL#NAME, or of a journal file's FILE#NAME; nothing is written there.

    Raises RunError where there is no such study, StorageError where the storage does not answer.
    """
    where, mark, name = _split(reference)
    url, journal = (where, None) if "://" in where else (None, Path(where))
    connection = connect(url, journal, create=False)
    try:
        with connection.guard():
            names = [study.study_name for study in connection.storage.get_all_studies()]
            if not mark:
                raise RunError(f"{redacted(where)} names no study; give URL#NAME{_choice(names)}")
            if name not in names:
                hint = nearest(name, names) if len(names) <= _MOST_NAMED else _choice(names)
                raise RunError(f'there is no study "{name}" in {connection.where}{hint}')
            study = optuna.load_study(study_name=name, storage=connection.storage)
    except BaseException:
        connection.close()
        raise
    weakref.finalize(study, connection.close)  # the connection lives as long as the study
    return study


def foreign_source(reference: str) -> str:
    """Return a study's reference in full, without a password: the same from every folder."""
    where, mark, name = _split(reference)
    scheme, slashes, path = where.partition(":///")
    if slashes and scheme.startswith("sqlite"):
        where = f"{scheme}:///{os.path.realpath(path)}"
    elif "://" not in where:
        where = os.path.realpath(where)
    return f"{redacted(where)}{mark}{name}"


def foreign_history(study: optuna.Study) -> History:
    """Return a study's finished trials, each a generation of its own, in order.

    One that violates a constraint (`trial.constraints`, above 0) has no value, as if it had
    failed: Optuna's own best is the best of the others.
    """
    trials = study.get_trials(deepcopy=False, states=_FINISHED)
    return History(_objectives(study), tuple((_trial(trial),) for trial in trials))


def foreign_space(study: optuna.Study) -> Space:
    """Return the space that a study's trials were drawn from: each parameter's widest range.

    It has no starts, since nobody said what the defaults are, and no conditions. A parameter of
    one value is left out.
    """
    ranges: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False, states=_FINISHED):
        for name, seen in trial.distributions.items():
            ranges[name] = _widened(ranges.get(name, seen), seen)
    coordinates = tuple(
        Coordinate(name, _knob(name, seen), (name, None, None))
        for name, seen in ranges.items()
        if not seen.single()
    )
    nothing = np.empty((0, len(coordinates)))
    return Space(coordinates, starts=nothing, anchors=nothing)


def _split(reference: str) -> tuple[str, str, str]:
    """Return a storage, "#" and a study's name, both of which may hold a # themselves.

    The first one that a file ends at is it; where there is no file, as on a server, the first
    behind the database's name.
    """
    begin = reference.find("/", reference.find("://") + 3)  # what is before it may be a password
    first = reference.find("#", max(begin, 0))
    place = next(iter(_marks(reference)), first if first >= 0 else reference.find("#"))
    return (reference[:place], "#", reference[place + 1 :]) if place >= 0 else (reference, "", "")


def _marks(reference: str) -> list[int]:
    """Return the places of each # before which a file's path, or its URL, ends."""
    places = [place for place, letter in enumerate(reference) if letter == "#"]
    return [place for place in places if _is_file(reference[:place])]


def _is_file(where: str) -> bool:
    scheme, mark, path = where.partition(":///")
    if mark and scheme.startswith("sqlite"):
        return os.path.isfile(path)  # a pathlib.Path raises where a name is too long for a file's
    return "://" not in where and os.path.isfile(where)


def _objectives(study: optuna.Study) -> tuple[Objective, ...]:
    """Return a study's objectives; unnamed ones are "value", or "value 0", "value 1", …"""
    count = len(study.directions)
    ours = study.user_attrs.get(CONFIGURATION)  # unless somebody else's study has one of its own
    listed = ours.get("objectives") if isinstance(ours, dict) else None
    is_ours = isinstance(listed, list) and len(listed) == count
    told = study.metric_names or (listed if is_ours else ())
    names = told or ["value"] if count == 1 else told or [f"value {k}" for k in range(count)]
    maximised = [d == optuna.study.StudyDirection.MAXIMIZE for d in study.directions]
    return tuple(
        Objective(name, "maximize" if more else "minimize")
        for name, more in zip(names, maximised, strict=True)
    )


def _trial(frozen: FrozenTrial) -> Trial:
    complete = frozen.state is TrialState.COMPLETE
    broken = {name: by for name, by in frozen.constraints.items() if complete and by > 0}
    state = State.FAIL if broken else State(frozen.state.name)
    spent = frozen.duration or timedelta()
    values = None if frozen.values is None else tuple(frozen.values)
    error = frozen.user_attrs.get("error") or frozen.system_attrs.get("fail_reason")
    if broken:
        error = f"infeasible: {', '.join(f'constraint {name} > 0' for name in broken)}"
    outcome = Outcome(
        trial=frozen.number,
        state=state,
        values=None if state is State.FAIL else values,
        curve=dict(sorted(frozen.intermediate_values.items())),
        metrics={},
        seconds=spent.total_seconds(),
        fidelity=float(complete),
        error=None if error is None else str(error),
    )
    params = {name: _told(value) for name, value in frozen.params.items()}
    candidate = Candidate(frozen.number, 0, np.empty(0), params, params, (), broken)
    return Trial(frozen.number, candidate, outcome)


def _widened(known: BaseDistribution, seen: BaseDistribution) -> BaseDistribution:
    """Return a range that holds both; Optuna lets a number's range change between trials."""
    for kind in (IntDistribution, FloatDistribution):
        if known != seen and isinstance(known, kind) and isinstance(seen, kind):
            low, high = min(known.low, seen.low), max(known.high, seen.high)
            return kind(low, high, log=known.log and seen.log)  # type: ignore[arg-type]  # of one kind
    return known


def _knob(name: str, seen: BaseDistribution) -> Knob:
    if isinstance(seen, CategoricalDistribution):
        return Knob(name, "categorical", "", choices=tuple(map(_told, seen.choices)))
    assert isinstance(seen, IntDistribution | FloatDistribution)
    kind = "int" if isinstance(seen, IntDistribution) else "float"
    step = None if seen.log or (kind == "int" and seen.step == 1) else seen.step
    return Knob(name, kind, "", low=seen.low, high=seen.high, log=seen.log, step=step)  # type: ignore[arg-type]  # one of its kinds


def _told(value: Scalar | None) -> Scalar:
    """Return a parameter's value; None, a category like others, as text."""
    return "None" if value is None else value


def _choice(names: list[str]) -> str:
    """Return `; it has a, b, …`, or that there is none."""
    if not names:
        return "; it has no study at all"
    more = ", …" if len(names) > _MOST_NAMED else ""
    return f"; it has {', '.join(names[:_MOST_NAMED])}{more}"
