"""Adding a generation's trials to a study: one append to a journal, one commit to a database.

A journal's records are Optuna's own, one for each set of knobs that act together, filled in for
the other trials: Optuna turns every trial's ranges into text anew, checks them, and reads all of
it back, which is most of what a generation of thousands costs.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from optuna.storages import BaseStorage, JournalStorage

from pso_attn.store.journal import BatchingJournal
from pso_attn.store.records import RunningTrial

Record = dict[str, Any]


class JournalTrials:
    """Adds trials to a journal.

    Optuna numbers the trials of a file in their order. It is asked for the first of this process,
    and again after somebody else has written; in between, numbers follow one another.
    """

    def __init__(self, storage: JournalStorage, backend: BatchingJournal) -> None:
        """Add to the storage over that backend."""
        self._storage, self._backend = storage, backend
        self._next: tuple[int, int] | None = None  # while so many others have written, the next id

    def add(self, study_id: int, trials: Sequence[RunningTrial]) -> list[int]:
        """Add one trial or more; return the storage's ids, or none where these are unknown."""
        others, ids = self._backend.others(), list[int]()
        if self._next is None or self._next[0] != others:
            ids = [self._storage.create_new_trial(study_id, trials[0].frozen())]
            self._next = (others, ids[0] + 1)
        rest, (_, first) = trials[len(ids) :], self._next
        if rest:
            self._backend.append_logs(self._records(study_id, rest))
        ids += range(first, first + len(rest))
        known = self._backend.others() == others
        self._next = (others, ids[-1] + 1) if known else None
        return ids if known else []

    def _records(self, study_id: int, trials: Sequence[RunningTrial]) -> list[Record]:
        """Return what Optuna would write of each of the trials."""
        templates, records = dict[tuple[str, ...], Record](), list[Record]()
        for trial in trials:
            names = tuple(trial.params)
            if trial.violations:
                records.append(self._record(study_id, trial))
                continue
            if names not in templates:
                templates[names] = self._record(study_id, trial)
                assert _filled(templates[names], trial) == templates[names], "Optuna's own record"
            records.append(_filled(templates[names], trial))
        return records

    def _record(self, study_id: int, trial: RunningTrial) -> Record:
        """Return the record that Optuna makes of a trial, which is not written."""
        with self._backend.apart() as records:
            self._storage.create_new_trial(study_id, trial.frozen())
        (record,) = records
        return record


def _filled(template: Record, trial: RunningTrial) -> Record:
    """Return the record of a trial with the same knobs as the one that the template is of."""
    known = trial.distributions
    params = {name: known[name].to_internal_repr(value) for name, value in trial.params.items()}
    return {**template, "params": params, "user_attrs": trial.attributes}


def add_to_database(
    storage: BaseStorage,
    together: Callable[[], AbstractContextManager[None]],
    study_id: int,
    trials: Sequence[RunningTrial],
) -> list[int]:
    """Add trials in one commit, and return the storage's ids."""
    with together():
        return [storage.create_new_trial(study_id, trial.frozen()) for trial in trials]
