"""The swarm as a sampler for anyone's Optuna study: a thin adapter on the same `propose`."""

import copy
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from pso_attn.errors import ConfigurationError, StudyError, nearest
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.space.repair import Repaired
from pso_attn.swarm import FOR_WEIGHTS, VARIANTS, ScreenedSwarm
from pso_attn.swarm.apart import Choice
from pso_attn.swarm.believing import Belief
from pso_attn.swarm.study_history import PROPOSED, ReadStudy, StudyReader, sent_alike
from pso_attn.swarm.study_space import (
    Seen,
    StudySpace,
    declared_space,
    drawn_value,
    given_space,
)
from pso_attn.types import Array, Objective

BUDGET = 1_000_000  # trials, where nobody says how many a study will be asked for
LOOKS = 8  # at what others chose meanwhile, before a trial is left where it is

_TELLING = (TrialState.COMPLETE, TrialState.PRUNED)  # a failed one may have stopped half-way

Given = Space | Mapping[str, BaseDistribution] | None


class PSOSampler(BaseSampler):
    """Particle swarm for any Optuna study of one objective.

    Trial n moves particle n mod `n_particles`, and where to depends on the seed, n and the trials
    before it alone: a study that is reopened with the same seed goes on as if it had not been
    stopped. Any number of trials may be asked for before any is told. Trials that fail, are
    pruned or violate a constraint (`trial.set_constraint`) keep their slot and never lead; if all
    first ones failed and few do later, "pso" begins again.
    Where several workers choose at once, one that finds another where it was going goes elsewhere.

    n_particles: at least 2. seed: None draws one. variant: "pso", which a surrogate assists, or
    one of "pso-classic", "pso-spso2011", "pso-bare-bones" and "pso-clpso".
    space: a `pso_attn.Space`, with its starts, conditions and constraints, or Optuna's
    distributions by name. Without it the parameters are those that completed and pruned trials
    had, conditional ones included; what is new, or not in the space, is drawn by itself: each
    parameter evenly over every `n_particles` trials. What others hold, as Optuna's
    `PartialFixedSampler` does, begins a search of the rest.
    options: the variant's own, as under [swarm] in a space file. n_trials: how many the study will
    be asked for in all, if that is known: inertia falls over it, which else stays at its first
    value.
    Raises ConfigurationError for what cannot work, StudyError for several objectives.
    """

    def __init__(
        self,
        n_particles: int = 16,
        seed: int | None = None,
        variant: str = "pso",
        space: Given = None,
        options: Mapping[str, Any] = MappingProxyType({}),
        n_trials: int | None = None,
    ) -> None:
        """Make the swarm; nothing is asked of a study yet."""
        n_particles = _whole("n_particles", n_particles)
        seed = None if seed is None else _whole("seed", seed)
        n_trials = None if n_trials is None else _whole("n_trials", n_trials)
        if not isinstance(variant, str):
            raise ConfigurationError(
                f"variant is {variant!r}; give a swarm's name: {', '.join(VARIANTS)}"
            )
        if variant not in VARIANTS:
            raise ConfigurationError(_no_variant(variant))
        drawn = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        if drawn < 0:
            raise ConfigurationError(f"seed = {seed} is negative; give 0 or more")
        if not isinstance(options, Mapping):
            raise ConfigurationError(
                f"options is of type {type(options).__name__}; give a dict of the variant's own "
                "options by name"
            )
        unnamed = next((name for name in options if not isinstance(name, str)), None)
        if unnamed is not None:
            raise ConfigurationError(
                f"options has {unnamed!r} for a name; name each of the variant's own options"
            )
        if n_trials is not None and n_trials < 1:
            raise ConfigurationError(
                f"n_trials = {n_trials} is no number of trials; give 1 or more, or leave it out"
            )
        self._arguments = (n_particles, drawn, variant, space, dict(options), n_trials)
        self._particles, self._seed = n_particles, drawn
        self._swarm = VARIANTS[variant](
            seed=drawn,
            particles=n_particles,
            batch=1,
            generations=n_trials or BUDGET,
            options=dict(options),
        )
        self._reader = StudyReader(drawn, n_particles)
        self._belief: Belief | None = None
        self._given, self._splits = _given(space), not isinstance(space, Space)
        self._last_part = declared_space({}, {})
        self._seen = Seen(declared_space({}, {}))
        self._lock = threading.Lock()  # trials of `n_jobs` share one sampler

    def __getstate__(self) -> tuple[Any, ...]:
        """Return what it was made with; the rest is read off a study again."""
        return self._arguments

    def __setstate__(self, arguments: tuple[Any, ...]) -> None:
        """Make it anew in another process."""
        PSOSampler.__init__(self, *arguments)

    def reseed_rng(self) -> None:
        """Do nothing: draws are keyed by trial, and no two trials draw alike."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters that the swarm moves in."""
        _refuse_several_objectives(study)
        with self._lock:
            return dict(self._space(study).distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return where the trial's particle goes, and note it in the trial."""
        _refuse_several_objectives(study)
        if not search_space:
            return {}
        with self._lock:
            known = self._space(study, search_space)
            earlier = _trials(study)[: trial.number]
            held = known.distributions.keys() - search_space.keys()
            if self._splits and held:
                known = self._part(known, search_space)
                earlier = sent_alike(earlier, known.space.names, held)
            read = self._reader.read(known, earlier, _objective(study))
            number = trial.number

            def trained(place: Array) -> Array | None:
                repaired = self._repaired(known, place, number)
                return None if repaired.violations else repaired.position

            choice = Choice(known, number, earlier, read, trained)
            position = self._settled(study, trial, choice, self._proposed(known, read))
        params = known.params(known.space.decode(position))
        return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a draw keyed by seed, trial and name: a Latin hypercube every P trials."""
        _refuse_several_objectives(study)
        key = f"parameter {param_name}"
        turn, slot = divmod(trial.number, self._particles)
        cell = generator(self._seed, turn, key, "cells").permutation(self._particles)[slot]
        inside = generator(self._seed, trial.number, key).random()
        x = float(cell + inside) / self._particles
        return drawn_value(param_name, param_distribution, x)

    def _proposed(self, known: StudySpace, read: ReadStudy) -> Array:
        """Return the position (D,) of the trial that comes after these, constraints repaired."""
        history = read.history
        # What may change yet is folded by a copy, so that the swarm itself never folds it twice.
        swarm, past = self._swarm, history.truncated(read.settled)
        if isinstance(swarm, ScreenedSwarm):
            ledger = swarm.ledger(known.space, past)
            if read.running and len(ledger):
                if self._belief is None or self._belief.ledger is not ledger:
                    self._belief = Belief.of(ledger, known.space, self._particles)
                history = self._belief.told(known.space, history, read.running)
        else:
            swarm.state(known.space, past)
        proposal = copy.copy(swarm).propose(known.space, history)
        return self._repaired(known, proposal.positions[0], len(history)).position

    def _repaired(self, known: StudySpace, position: Array, number: int) -> Repaired:
        particle = number % self._particles
        return known.space.repair(position, self._seed, number, particle)

    def _settled(
        self, study: optuna.Study, trial: FrozenTrial, choice: Choice, position: Array
    ) -> Array:
        """Return the position, or another where somebody else is there, noted in the trial.

        It is noted before others are looked at, so that of two that choose at once one sees the
        other. One worker that asks, suggests and tells in turn never finds anybody.
        """
        names = choice.known.space.names
        for look in range(LOOKS):
            _note(study, trial, names, position)
            rng = generator(self._seed, trial.number, "another", look)
            another = choice.another(position, _trials(study), rng)
            if another is None:
                return position
            position = another
        _note(study, trial, names, position)
        return position

    def _space(
        self, study: optuna.Study, asked: Mapping[str, BaseDistribution] | None = None
    ) -> StudySpace:
        """Return the space that was given, or that of the study's trials and of what is asked."""
        if self._given is not None:
            return self._given
        self._seen = self._seen.after([t for t in _trials(study) if t.state in _TELLING])
        known = self._seen.space
        more = {name: d for name, d in (asked or {}).items() if d != known.distributions.get(name)}
        if not more:
            return known
        when = {c.name: c.when for c in known.space.coordinates}
        return declared_space({**known.distributions, **more}, when)

    def _part(self, known: StudySpace, asked: Mapping[str, BaseDistribution]) -> StudySpace:
        """Return the space of what is asked alone, the very one of before where it is equal."""
        when = {
            c.name: {parent: values for parent, values in c.when.items() if parent in asked}
            for c in known.space.coordinates
        }
        self._last_part = declared_space(asked, when).unless_equal(self._last_part)
        return self._last_part


def _no_variant(name: str) -> str:
    """Return why a study's swarm cannot have that name, and which it can."""
    if name in FOR_WEIGHTS:
        return (
            f'"{name}" is a swarm for searches of weights, not for a study; '
            f"choose one of {', '.join(VARIANTS)}"
        )
    return f'"{name}" is not a swarm{nearest(name, VARIANTS)}'


def _whole(name: str, given: Any) -> int:
    """Return a whole number as such; ConfigurationError for anything else."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise ConfigurationError(f"{name} is {given!r}; give a whole number")
    return int(given)


def _given(space: Given) -> StudySpace | None:
    if space is None:
        return None
    if isinstance(space, Space):
        return given_space(space)
    if isinstance(space, Mapping) and all(
        isinstance(distribution, BaseDistribution) for distribution in space.values()
    ):
        return declared_space(space, {})
    raise ConfigurationError(
        f"space is a {type(space).__name__}; give a pso_attn.Space, a dict of Optuna's "
        "distributions by name, or nothing"
    )


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials by number, also those that HyperbandPruner hides: fidelities differ."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def _note(study: optuna.Study, trial: FrozenTrial, names: Sequence[str], position: Array) -> None:
    noted = dict(zip(names, position.tolist(), strict=True))
    study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, noted)


def _objective(study: optuna.Study) -> Objective:
    maximised = study.direction is optuna.study.StudyDirection.MAXIMIZE
    return Objective("objective", "maximize" if maximised else "minimize")


def _refuse_several_objectives(study: optuna.Study) -> None:
    if len(study.directions) > 1:
        raise StudyError(
            f"PSOSampler searches for one objective and this study has {len(study.directions)}; "
            "combine them into one, or choose optuna.samplers.NSGAIISampler"
        )
