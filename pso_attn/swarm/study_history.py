"""The trials of an Optuna study as the history that a swarm of one move at a time reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from pso_attn.seeding import generator
from pso_attn.swarm.study_space import StudySpace
from pso_attn.types import Array, Candidate, History, Objective, Outcome, State, Trial

PROPOSED = "pso_attn:position"  # system attribute of a trial: where it was sent, by name
_OPEN = (TrialState.RUNNING, TrialState.WAITING)
ABANDONED = 256  # trials after which one that still runs is taken for failed


@dataclass(frozen=True, eq=False)
class ReadStudy:
    """A study's earlier trials, one a generation.

    settled: how many will not change any more. running: the generations that have their particle's
    best loss because they still run. unfinished: all generations that have not ended.
    """

    history: History
    settled: int
    running: tuple[int, ...]
    unfinished: tuple[int, ...]


Origin = tuple[StudySpace, int, Objective]  # the space, the steps of a full evaluation


@dataclass(frozen=True, eq=False)
class _Read:
    """The first trials of a study as they were read. bests: each particle's least loss, if any."""

    origin: Origin
    frozen: Sequence[FrozenTrial] = ()
    trials: Sequence[Trial] = ()
    bests: Mapping[int, float] = field(default_factory=dict)

    def begins(self, origin: Origin, trials: Sequence[FrozenTrial]) -> bool:
        """Tell whether reading these trials would begin with the same."""
        is_long_enough = len(trials) >= len(self.frozen)
        return self.origin == origin and is_long_enough and all(map(is_, self.frozen, trials))


class StudyReader:
    """Reads trials, and keeps those that will not change: a swarm knows these by identity."""

    def __init__(self, seed: int, particles: int) -> None:
        """Nothing is read yet."""
        self._seed, self._particles = seed, particles
        self._begun: _Read | None = None
        self._kept: dict[int, tuple[tuple[Any, ...], Trial]] = {}

    def read(
        self, space: StudySpace, trials: Sequence[FrozenTrial], objective: Objective
    ) -> ReadStudy:
        """Return the trials as generations 0, 1, … of one trial each, in order.

        A trial of which nothing is known, it failed or waits before it suggested anything, stands
        for another look at its particle's last place. One that runs has the loss of its
        particle's best, so that it neither leads nor looks bad; a failure where there is none.
        """
        origin = (space, _longest(trials), objective)
        is_open = [trial.state in _OPEN for trial in trials]
        first_open = is_open.index(True) if True in is_open else len(trials)
        begun = self._begun
        if begun is None or not begun.begins(origin, trials):
            begun = _Read(origin)
        self._begun = self._extended(begun, trials[:first_open], 0)
        recent = max(0, len(trials) - ABANDONED)
        read = self._extended(self._begun, trials, recent).trials
        settled = is_open.index(True, recent) if True in is_open[recent:] else len(trials)
        running = tuple(k for k in range(recent, len(read)) if is_open[k] and read[k].is_full)
        history = History((objective,), tuple((trial,) for trial in read))
        unfinished = tuple(k for k, it_is in enumerate(is_open) if it_is)
        return ReadStudy(history, settled, running, unfinished)

    def _extended(self, begun: _Read, trials: Sequence[FrozenTrial], recent: int) -> _Read:
        """Return what was read with the rest of these trials; those from `recent` on may run."""
        origin, read, bests = begun.origin, list(begun.trials), dict(begun.bests)
        for index in range(len(read), len(trials)):
            frozen, particle = trials[index], index % self._particles
            may_run = index >= recent and not frozen.state.is_finished()
            best = bests.get(particle) if may_run else None
            trial = self._trial(origin, index, frozen, best, read)
            read.append(trial)
            if frozen.state is TrialState.COMPLETE and trial.outcome.values:
                loss = origin[2].loss(trial.outcome.values[0])
                if np.isfinite(loss):
                    bests[particle] = min(loss, bests.get(particle, loss))
        return _Read(origin, trials, read, bests)

    def _trial(
        self,
        origin: Origin,
        index: int,
        frozen: FrozenTrial,
        best: float | None,
        earlier: Sequence[Trial],
    ) -> Trial:
        space, longest, objective = origin
        proposed = _sent(frozen)
        params = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
        is_known = any(name in params or name in proposed for name in space.space.names)
        last = None if is_known or index < self._particles else earlier[index - self._particles]
        source = (frozen.number, frozen.state, frozen.datetime_start, frozen.datetime_complete)
        said = (params, proposed, frozen.constraints, frozen.intermediate_values)
        told = (frozen.values, *(tuple(one.items()) for one in said))
        key = (space, index, *source, *told, longest, best, last)
        if frozen.number in self._kept and self._kept[frozen.number][0] == key:
            return self._kept[frozen.number][1]
        if last is not None:
            trial = replace(last, generation=index, candidate=replace(last.candidate, trial=index))
        else:
            if is_known:
                position = space.position(params, proposed)
            else:
                position = generator(self._seed, index, "unknown").random(space.space.dimension)
            outcome = _outcome(index, frozen, longest, best, objective)
            trial = self._made(space, index, position, frozen.constraints, outcome)
        self._kept[frozen.number] = (key, trial)
        return trial

    def _made(
        self,
        space: StudySpace,
        index: int,
        position: Array,
        constraints: Mapping[str, float],
        outcome: Outcome,
    ) -> Trial:
        broken = {name: amount for name, amount in constraints.items() if amount > 0}
        if broken:
            outcome = replace(outcome, state=State.FAIL, values=None, error="infeasible")
        candidate = Candidate(
            trial=index,
            particle=index % self._particles,
            position=position,
            params=space.space.decode(position),
            settings={},
            seeds=(),
            violations=broken,
        )
        return Trial(index, candidate, outcome)


def sent_alike(
    trials: Sequence[FrozenTrial], names: Collection[str], held: Collection[str]
) -> list[FrozenTrial]:
    """Return those that were sent through a part of their space while the rest was held.

    names: of that part. held: names of the rest. Where several values were held one after
    another, those of the latest that had finished; who does not have a held parameter, for it did
    not act or the trial failed before, contradicts none. Who has not chosen yet may be going
    anywhere, and is among them until it has.
    """
    alike = set(names)
    sent = [t for t in trials if _sent(t).keys() == alike or _is_undecided(t)]
    latest: dict[str, Any] = {}
    for trial in reversed(sent):
        if trial.state.is_finished() and trial.params.keys() - latest.keys():
            latest = {**trial.params, **latest}
    return [t for t in sent if not t.state.is_finished() or _agrees(t, latest, held)]


def _sent(trial: FrozenTrial) -> Mapping[str, float]:
    """Return where a trial was sent, by name."""
    sent: Mapping[str, float] = trial.system_attrs.get(PROPOSED, {})
    return sent


def _is_undecided(trial: FrozenTrial) -> bool:
    return not (trial.state.is_finished() or trial.params or PROPOSED in trial.system_attrs)


def _agrees(trial: FrozenTrial, latest: Mapping[str, Any], held: Collection[str]) -> bool:
    return all(trial.params[name] == latest[name] for name in held if name in trial.params)


def _outcome(
    index: int, frozen: FrozenTrial, longest: int, best: float | None, objective: Objective
) -> Outcome:
    """Return how a trial ended; best: the loss that stands for one that still runs."""
    if not frozen.state.is_finished() and best is not None:
        values = (objective.loss(best),)  # the sign of a maximised loss, turned back
        return Outcome(index, State.COMPLETE, values, {}, {}, 0.0, 1.0)
    if frozen.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return Outcome(index, State.FAIL, None, {}, {}, 0.0, 0.0, "failed")
    curve, value = frozen.intermediate_values, frozen.value
    if frozen.state is TrialState.COMPLETE:
        assert value is not None
        return Outcome(index, State.COMPLETE, (value,), curve, {}, 0.0, 1.0)
    if value is None and frozen.last_step is not None:
        value = curve[frozen.last_step]
    reached = (_steps(frozen) + 0.5) / (longest + 1)
    values_seen = None if value is None else (value,)
    return Outcome(index, State.PRUNED, values_seen, curve, {}, 0.0, min(reached, 1 - 1e-6))


def _longest(trials: Sequence[FrozenTrial]) -> int:
    """Return how many steps a full evaluation reports: the most that one did, or any trial."""
    reported = [trial for trial in trials if trial.intermediate_values]
    full = [_steps(trial) for trial in reported if trial.state is TrialState.COMPLETE]
    return max(full, default=0) or max(map(_steps, reported), default=0)


def _steps(trial: FrozenTrial) -> int:
    return 0 if trial.last_step is None else int(trial.last_step) + 1
