"""A run's history in an Optuna storage: what `run_search` reads and writes.

Everything of a generation stands in the study before its first trial does, and a trial's state
is the last thing written of it. So whatever a crash leaves behind says what is still to be done.

What the driver writes it also keeps, and it reads the study anew only where others may have
written: Optuna's journal would read back every record, at a third of a millisecond a trial.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from pso_attn.errors import StorageError
from pso_attn.space import LARGEST_DOUBLE, Space
from pso_attn.store import records
from pso_attn.store.folder import RunFolder
from pso_attn.store.lease import check_lease, driver
from pso_attn.store.opening import OpenStudy, open_existing, open_for_reading, open_new
from pso_attn.store.positions import read_positions, write_positions
from pso_attn.store.studies import CONFIGURATION, SCHEMA_KEY
from pso_attn.types import (
    Array,
    Candidate,
    Event,
    Generation,
    History,
    Moved,
    Objective,
    Outcome,
    Replan,
    Trial,
)

_PLAN = "generation:"


class OptunaStore:
    """A `types.Store` over one study; made by `create` and `load`, and closed after use.

    The only writer of its study, which it holds a lock on; a store opened for reading holds
    none, and sees what a driver has written by the time it is asked.
    """

    def __init__(self, study: OpenStudy, space: Space, objectives: Sequence[Objective]) -> None:
        """Take over an open study and read the plans that it holds."""
        self._study = study
        self._connection = study.connection
        self._storage = study.connection.storage
        self._study_id = study.study_id
        self._dimension = space.dimension
        self._distributions = records.distributions(space)
        self._history = History(tuple(objectives))
        self._plans: dict[int, dict[str, Any]] = {}  # of generations that history lacks
        self._planned = 0  # trials that all plans hold together
        # what the study holds, as of the time when `others` was that number
        self._seen: int | None = None
        self._exist = 0  # trials
        self._ids: dict[int, int] = {}  # the storage's of a trial number, where it is known
        self._outcomes: dict[int, Outcome] = {}  # of generations that history lacks
        with self._connection.guard():
            self._read_plans()

    @classmethod
    def create(
        cls,
        url: str | None,
        folder: RunFolder,
        space: Space,
        objectives: Sequence[Objective],
        configuration: Mapping[str, Any],
    ) -> "OptunaStore":
        """Begin a run's study, in its journal or at `url`, and return its locked store.

        Raises RunError where the study exists already or the run is in use, StorageError where
        the storage does not answer.
        """
        return cls(open_new(url, folder, objectives, configuration), space, objectives)

    @classmethod
    def load(
        cls,
        url: str | None,
        folder: RunFolder,
        space: Space,
        objectives: Sequence[Objective],
        read_only: bool = False,
        break_lock: bool = False,
    ) -> "OptunaStore":
        """Return the store of a run that exists: locked and repaired, or only for reading.

        A run that was killed before its study was complete gets it from its config.toml.
        break_lock: take over a run that another host holds in a database; a lock that is held
        on this host is never broken.
        Raises RunError where the run is in use or is another one, StorageError where the storage
        does not answer or is damaged.
        """
        if read_only:
            return cls(open_for_reading(url, folder, objectives), space, objectives)
        return cls(open_existing(url, folder, objectives, break_lock), space, objectives)

    def history(self) -> History:
        """Return every finished generation; those returned before are the same objects."""
        with self._connection.guard():
            self._refresh()
            while (trials := self._finished(len(self._history))) is not None:
                del self._plans[len(self._history)]
                for trial in trials:
                    del self._outcomes[trial.number]
                    self._ids.pop(trial.number, None)
                generations = (*self._history.generations, trials)
                self._history = History(self._history.objectives, generations)
        return self._history

    def open(self, number: int) -> Generation | None:
        """Return a generation that was begun and not finished, or None."""
        plan = self._plans.get(number)
        if plan is None:
            return None
        with self._connection.guard():
            self._refresh()
            candidates = self._candidates(plan)
        known, trials = self._outcomes, (candidate.trial for candidate in candidates)
        outcomes = {trial: known[trial] for trial in trials if trial in known}
        if len(outcomes) == len(candidates):
            return None
        return Generation(number, candidates, records.plan_chunks(plan), outcomes)

    def begin(self, generation: Generation) -> None:
        """Write the plan and the running trials of a generation; what is there already stays.

        Raises RunError where another host has taken the run over.
        """
        self._refuse_reading()
        number = generation.number
        assert number >= len(self._history), "a finished generation cannot begin"
        with self._connection.guard():
            if self._study.leased:
                check_lease(self._storage, self._study_id, self._study.folder.name)
            self._refresh()
            with self._writing():
                if number not in self._plans:
                    self._write_plan(generation)
                rows = self._plans[number]["trials"]
                missing = rows[max(0, self._exist - rows[0]["trial"]) :]
                if missing:
                    self._add_trials(number, missing)
            self._refresh()

    def record(self, *events: Event) -> None:
        """Write outcomes and new plans in one durable write, in their order.

        An outcome of a finished trial is left out, and of two of one trial the second. A crash in
        the middle leaves the first of them whole.
        """
        self._refuse_reading()
        written = dict[int, Outcome]()
        with self._connection.guard():
            current = self._seen == self._connection.others()
            if not current:
                self._storage.get_study_directions(self._study_id)  # a journal is read up to here
            with self._writing():
                with self._connection.together():
                    for event in events:
                        if isinstance(event, Replan):
                            plan = self._plans[event.generation]
                            self._set_plan(event.generation, records.replanned(plan, event.chunks))
                        elif isinstance(event, Moved):
                            self._write_moved(event)
                        elif event.trial not in written and event.trial not in self._outcomes:
                            outcome = records.storable(event, len(self._history.objectives))
                            written[event.trial] = outcome
                            self._write_outcome(outcome, current)
                self._outcomes |= written

    def set_attribute(self, name: str, value: Any) -> None:
        """Write one JSON value of the run, such as its uses of the test split."""
        self._refuse_reading()
        assert not name.startswith((CONFIGURATION, SCHEMA_KEY, _PLAN)), f"{name} is the store's"
        with self._connection.guard(), self._connection.together():
            self._storage.set_study_user_attr(self._study_id, name, value)

    def get_attribute(self, name: str) -> Any:
        """Return a value of the study, such as one that `set_attribute` wrote, or None."""
        with self._connection.guard():
            return self._storage.get_study_user_attrs(self._study_id).get(name)

    def driver(self) -> dict[str, Any] | None:
        """Return the process that a database has as the run's driver, None where there is none."""
        with self._connection.guard():
            return driver(self._storage, self._study_id)

    def close(self) -> None:
        """Release the lock and the storage's connections; does nothing the second time."""
        self._study.resources.close()

    def __enter__(self) -> "OptunaStore":
        """Return the open store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def _refuse_reading(self) -> None:
        assert not self._study.read_only, "a store that was opened for reading writes nothing"

    def _refresh(self) -> None:
        """Read what the study holds, unless nobody else has written since."""
        others = self._connection.others()
        if others == self._seen:
            return
        self._seen = None
        if self._study.read_only:
            self._read_plans()
        trials = self._trials()
        self._exist, self._outcomes = len(trials), {}
        for number, plan in self._plans.items():
            for trial in self._of_generation(trials, number, plan["trials"]):
                if trial.state.is_finished():
                    self._outcomes[trial.number] = records.read_outcome(trial)
        self._seen = others

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold that what is known is no longer so, until the block has ended well."""
        seen, self._seen = self._seen, None
        yield
        self._seen = seen

    def _read_plans(self) -> None:
        """Take in the plans that stand in the study and are not history yet."""
        for name, plan in self._storage.get_study_user_attrs(self._study_id).items():
            if name.startswith(_PLAN):
                number = int(name.removeprefix(_PLAN))
                if number >= len(self._history):
                    self._keep_plan(number, plan)

    def _keep_plan(self, number: int, plan: dict[str, Any]) -> None:
        self._plans[number] = plan
        self._planned = max(self._planned, plan["trials"][-1]["trial"] + 1)

    def _write_plan(self, generation: Generation) -> None:
        """Write all of a generation as one attribute, its positions before it."""
        file = None
        if self._dimension > LARGEST_DOUBLE:
            positions = np.stack([candidate.position for candidate in generation.candidates])
            file = write_positions(self._study.folder.path, str(generation.number), positions)
        with self._connection.together():
            self._set_plan(generation.number, records.plan_document(generation, file))

    def _write_moved(self, event: Moved) -> None:
        """Write where training left the particles of a chunk, and then where that stands."""
        name = f"{event.generation}-moved-{event.trials[0]}"
        file = write_positions(self._study.folder.path, name, event.positions)
        plan = self._plans[event.generation]
        self._set_plan(event.generation, records.moved(plan, event.trials, file))

    def _set_plan(self, number: int, plan: dict[str, Any]) -> None:
        """Write a plan, which is plain JSON data, and keep it."""
        self._storage.set_study_user_attr(self._study_id, f"{_PLAN}{number}", plan)
        self._keep_plan(number, plan)

    def _candidates(self, plan: Mapping[str, Any]) -> tuple[Candidate, ...]:
        """Return a plan's candidates, positions from their file where they lie in one."""
        file = plan.get("positions")
        positions = None if file is None else read_positions(self._study.folder.path, file)
        return records.plan_candidates(plan, positions)

    def _finished(self, number: int) -> tuple[Trial, ...] | None:
        """Return a generation's trials once all of them are finished, else None."""
        plan, outcomes = self._plans.get(number), self._outcomes
        if plan is None or not all(row["trial"] in outcomes for row in plan["trials"]):
            return None
        moved: dict[int, Array] = {}
        for entry in plan.get("moved", {}).values():
            positions = read_positions(self._study.folder.path, entry)
            moved |= zip(entry["trials"], positions, strict=True)
        return tuple(
            Trial(number, candidate, outcomes[candidate.trial], moved.get(candidate.trial))
            for candidate in self._candidates(plan)
        )

    def _trials(self) -> list[FrozenTrial]:
        """Return the study's trials, in order; not copies, so not to be changed.

        Raises StorageError where there are more than all plans together hold.
        """
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        if len(trials) > self._planned and self._study.read_only:
            self._read_plans()  # a driver went on meanwhile: plans are written before trials
        if len(trials) > self._planned:
            raise self._unplanned(self._planned)
        return trials

    def _of_generation(
        self, trials: list[FrozenTrial], number: int, rows: Sequence[Mapping[str, Any]]
    ) -> list[FrozenTrial]:
        """Return those of a plan's trials that exist; StorageError for a stranger's."""
        first = rows[0]["trial"]
        mine = trials[first : first + len(rows)]
        for row, trial in zip(rows, mine, strict=False):
            attributes = trial.user_attrs
            held = (attributes.get("generation"), attributes.get("particle"))
            if held != (number, row["particle"]):
                raise self._unplanned(trial.number)
        return mine

    def _add_trials(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the RUNNING trials of a plan's rows; their numbers must follow those that exist."""
        first, exist, known = rows[0]["trial"], self._exist, self._distributions
        assert first == exist, f"trial {first} after {exist} trials"
        new = [records.RunningTrial.of(number, row, known) for row in rows]
        ids = self._connection.add_trials(self._study_id, new)
        self._ids |= {first + k: trial_id for k, trial_id in enumerate(ids)}
        self._exist += len(new)

    def _write_outcome(self, outcome: Outcome, current: bool) -> None:
        """Write all of an outcome, and last the state and values that make it count.

        current: whether no one else can have finished the trial.
        """
        storage, trial_id = self._storage, self._ids.get(outcome.trial)
        if trial_id is None:
            trial_id = storage.get_trial_id_from_study_id_trial_number(
                self._study_id, outcome.trial
            )
        if not current and storage.get_trial(trial_id).state.is_finished():
            return
        for step, value in outcome.curve.items():
            storage.set_trial_intermediate_value(trial_id, step, value)
        for name, attribute in records.outcome_attributes(outcome).items():
            storage.set_trial_user_attr(trial_id, name, attribute)
        state = TrialState[outcome.state.name]
        storage.set_trial_state_values(trial_id, state, outcome.values)

    def _unplanned(self, number: int) -> StorageError:
        """Return the error for a trial that somebody else added."""
        return StorageError(
            f"the study {self._study.folder.name} in {self._connection.where} holds trial "
            f"{number}, which this run did not plan; search anew with another --run"
        )
