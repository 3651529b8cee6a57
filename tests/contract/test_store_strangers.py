"""A driver reads nothing back of what it writes, and sees all that others write into its study."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from pso_attn.errors import StorageError
from pso_attn.seeding import generator
from pso_attn.space import Knob, read_space
from pso_attn.store import OptunaStore, RunFolder, load_study
from pso_attn.store.connection import connect
from pso_attn.store.journal import BatchingJournal
from pso_attn.store.records import RunningTrial, distributions, plan_document
from pso_attn.types import Candidate, Generation, Objective, Outcome, State

LOSS = (Objective("loss", "minimize"),)
KNOBS = {
    "lr": Knob("lr", "float", "", low=1e-5, high=1e-1, log=True, default=1e-3),
    "heads": Knob("heads", "ordered", "", choices=(1, 2, 4, 8), default=4),
    "kind": Knob("kind", "categorical", "", choices=("a", "b"), default="a"),
    "width": Knob("width", "int", "", low=2, high=64, log=True, default=8, when={"kind": ("b",)}),
    "steps": Knob("steps", "int", "", low=0, high=10, step=3, default=3),
    "bias": Knob("bias", "bool", "", choices=(False, True), default=True),
}
SPACE = read_space({name: {} for name in KNOBS}, {}, KNOBS)
BATCH = 6


@pytest.fixture(params=["journal", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", "demo", {}, {})


def candidate(trial: int) -> Candidate:
    position = generator(0, trial).random(SPACE.dimension)
    params = SPACE.decode(position)
    violations = {"lr <= 0": 1 / 3} if trial % BATCH == 4 else {}
    settings = SPACE.settings(params)
    return Candidate(trial, trial % BATCH, position, params, settings, (7,), violations)


def generation(number: int) -> Generation:
    trials = range(number * BATCH, (number + 1) * BATCH)
    return Generation(number, tuple(map(candidate, trials)), (tuple(trials),))


def complete(trial: int, value: float = 0.5) -> Outcome:
    return Outcome(
        trial, State.COMPLETE, (value,), {30: value, 10: 1.0}, {"loss": value}, 0.1, 1.0
    )


def fill(store: OptunaStore, number: int) -> None:
    store.begin(generation(number))
    store.record(*(complete(candidate.trial) for candidate in generation(number).candidates))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The records that any journal was read for."""
    records: list[dict[str, Any]] = []
    real = JournalFileBackend.read_logs

    def read_logs(self: JournalFileBackend, first: int) -> Iterator[dict[str, Any]]:
        for record in real(self, first):
            records.append(record)
            yield record

    monkeypatch.setattr(JournalFileBackend, "read_logs", read_logs)
    return records


def test_a_driver_reads_nothing_back_of_what_it_writes(
    folder: RunFolder, read: list[dict[str, Any]]
) -> None:
    with OptunaStore.create(None, folder, SPACE, LOSS, {}) as store:
        fill(store, 0)
        assert len(store.history()) == 1
        read.clear()
        for number in (1, 2):
            fill(store, number)
            store.set_attribute("seconds", 0.5)
            assert len(store.history()) == number + 1
        assert not read
        load_study(folder).set_user_attr("note", "read by somebody")
        read.clear()
        assert len(store.history()) == 3
        assert len(read) > 2 * BATCH
        assert store.get_attribute("note") == "read by somebody"


def test_a_trial_that_somebody_else_finished_keeps_that_outcome(
    url: str | None, folder: RunFolder
) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, {}) as store:
        fill(store, 0)
        store.begin(generation(1))
        store.record(complete(BATCH))
        load_study(folder, url).tell(BATCH + 1, 0.125)
        store.record(complete(BATCH + 1), complete(BATCH + 2))
        store.record(*(complete(trial) for trial in range(BATCH, 2 * BATCH)))
        values = [trial.outcome.values for trial in store.history().generations[1]]
    assert values == [(0.5,), (0.125,), (0.5,), (0.5,), (0.5,), (0.5,)]


def test_trials_of_somebody_elses_study_beside_ours_move_no_outcome(
    url: str | None, folder: RunFolder
) -> None:
    def others() -> None:
        storage: BaseStorage = load_study(folder, url)._storage
        study = optuna.create_study(storage=storage, study_name="other", load_if_exists=True)
        study.add_trial(create_trial(value=0.25))

    with OptunaStore.create(url, folder, SPACE, LOSS, {}) as store:
        for number in range(3):
            others()
            store.begin(generation(number))
            others()
            for trial in range(number * BATCH, (number + 1) * BATCH):
                store.record(complete(trial, 1 / (1 + trial)))
            others()
            assert len(store.history()) == number + 1
    for n, stored in enumerate(
        optuna.load_study(study_name="demo", storage=load_study(folder, url)._storage).trials
    ):
        assert stored.value == 1 / (1 + n)
        assert stored.user_attrs["particle"] == n % BATCH


def test_a_record_that_slips_in_before_an_append_is_noticed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = JournalFileBackend.append_logs

    with OptunaStore.create(None, folder, SPACE, LOSS, {}) as store:
        fill(store, 0)
        stranger = load_study(folder)

        def later(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
            if len(logs) == BATCH:  # the driver's trials, whose numbers are not its own now
                monkeypatch.undo()
                stranger.add_trial(create_trial(state=TrialState.RUNNING))
            append(self, logs)

        monkeypatch.setattr(JournalFileBackend, "append_logs", later)
        with pytest.raises(StorageError, match="which this run did not plan"):
            store.begin(generation(1))


def test_a_generations_records_are_those_that_optuna_writes(tmp_path: Path) -> None:
    known = distributions(SPACE)
    candidates = [candidate(trial) for trial in range(40)]
    plan = plan_document(Generation(3, tuple(candidates), ()), None)
    trials = [RunningTrial.of(3, row, known) for row in plan["trials"]]
    assert len({tuple(trial.params) for trial in trials}) == 2
    assert any(trial.violations for trial in trials)

    connection = connect(None, tmp_path / "ours.log", create=True)
    study = connection.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "demo")
    ids = connection.add_trials(study, trials[:20]) + connection.add_trials(study, trials[20:])

    theirs = JournalStorage(JournalFileBackend(str(tmp_path / "theirs.log")))
    study = theirs.create_new_study([optuna.study.StudyDirection.MINIMIZE], "demo")
    assert ids == [theirs.create_new_trial(study, trial.frozen()) for trial in trials]
    assert records(tmp_path / "ours.log") == records(tmp_path / "theirs.log")


def records(journal: Path) -> list[list[tuple[str, Any]]]:
    """Return a journal's records, each with its fields in order, without process and time."""
    kept = BatchingJournal(journal).read_logs(0)
    return [
        [(k, v) for k, v in record.items() if k not in ("worker_id", "datetime_start")]
        for record in kept
    ]
