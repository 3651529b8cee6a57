"""What every storage must do: what is written reads back, float for float, in any process."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from pso_attn.errors import RunError, StorageError
from pso_attn.space import Knob, Space, read_space
from pso_attn.store import (
    OptunaStore,
    RunFolder,
    check_new_study,
    delete_study,
    load_study,
    read_configuration,
)
from pso_attn.types import (
    Candidate,
    Generation,
    Objective,
    Outcome,
    Replan,
    State,
    Trial,
)

LOSS = (Objective("loss", "minimize"),)
KNOBS = {
    "lr": Knob("lr", "float", "", low=1e-5, high=1e-1, log=True, default=1e-3),
    "dropout": Knob("dropout", "float", "", low=0.0, high=0.5, step=0.1, default=0.1),
    "heads": Knob("heads", "ordered", "", choices=(1, 2, 4, 8), default=4),
    "mechanism": Knob(
        "mechanism", "categorical", "", choices=("softmax", "linear"), default="softmax"
    ),
    "window": Knob(
        "window", "int", "", low=2, high=64, log=True, default=64, when={"mechanism": ("softmax",)}
    ),
    "warmup": Knob("warmup", "int", "", low=0, high=100, default=10),
    "bias": Knob("bias", "bool", "", choices=(False, True), default=True),
}
SPACE = read_space({name: {} for name in KNOBS}, {}, KNOBS)
CONFIGURATION = {"task": "digits", "objectives": ["loss"], "budget": {"particles": 3, "lr": 1e-3}}
STORAGES = ["journal", "sqlite"]


@pytest.fixture(params=STORAGES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", "demo", CONFIGURATION, {"threads": 1})


def candidate(trial: int, particle: int, space: Space = SPACE, seed: int = 0) -> Candidate:
    position = space.rounded(np.random.default_rng([seed, trial]).random(space.dimension))
    params = space.decode(position)
    return Candidate(trial, particle, position, params, space.settings(params), (7, 2**31 - 1))


def generation(number: int, batch: int = 3, space: Space = SPACE) -> Generation:
    numbers = range(number * batch, (number + 1) * batch)
    return Generation(
        number, tuple(candidate(n, n % 4, space) for n in numbers), (tuple(numbers),)
    )


def complete(trial: int, value: float = 0.1, **others: Any) -> Outcome:
    fields: dict[str, Any] = {
        "curve": {25: value * 3, 100: value / 3},
        "metrics": {"parameters": 1234, "loss": value / 7, "accuracy": 1 / 3},
        "seconds": 0.1 + 0.2,
        "fidelity": 1.0,
    }
    return Outcome(trial, State.COMPLETE, (value,), **{**fields, **others})


def assert_same(left: Trial, right: Trial) -> None:
    """Compare two trials field by field, float for float."""
    assert left.generation == right.generation
    for name in ("trial", "particle", "params", "settings", "seeds", "violations"):
        assert getattr(left.candidate, name) == getattr(right.candidate, name), name
    assert left.candidate.position.tobytes() == right.candidate.position.tobytes()
    assert repr(left.outcome) == repr(right.outcome)  # repr tells NaN, and 1 from 1.0


def fill(store: OptunaStore, generations: Sequence[int], batch: int = 3) -> None:
    for number in generations:
        store.begin(generation(number, batch))
        for trial in range(number * batch, (number + 1) * batch):
            store.record(complete(trial, 1 / (3 + trial)))


def test_what_was_recorded_reads_back_float_for_float(url: str | None, folder: RunFolder) -> None:
    outcomes = [
        complete(0, 1 / 3),
        complete(1, 5e-324, curve={1: -0.1, 300: math.nan, 299: math.inf}),
        Outcome(2, State.PRUNED, (0.1 + 0.2,), {5: 0.1}, {"loss": 0.3}, 1e-9, 0.25),
        Outcome(3, State.FAIL, None, {}, {"loss": math.nan}, 2.5, 0.1, "loss is nan at step 3"),
        Outcome(4, State.PRUNED, None, {}, {}, 0.0, 0.0, None),
    ]
    planned = generation(0, 5)
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(planned)
        for outcome in reversed(outcomes):
            store.record(outcome)
        live = store.history()
    with OptunaStore.load(url, folder, SPACE, LOSS) as store:
        stored = store.history()
    assert live.objectives == stored.objectives == LOSS
    for history in (live, stored):
        assert [trial.number for trial in history.trials] == [0, 1, 2, 3, 4]
        for trial, plan, outcome in zip(history.trials, planned.candidates, outcomes, strict=True):
            given = Outcome(**{**outcome.__dict__, "curve": dict(sorted(outcome.curve.items()))})
            assert_same(trial, Trial(0, plan, given))


def test_a_run_that_is_read_while_it_goes_on_grows(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as driver:
        fill(driver, [0])
        with OptunaStore.load(url, folder, SPACE, LOSS, read_only=True) as reader:
            first = reader.history().generations[0]
            fill(driver, [1])
            driver.begin(generation(2))
            driver.record(complete(7))
            seen = reader.history()
            assert len(seen) == 2
            assert seen.generations[0] is first
            partial = reader.open(2)
            assert partial is not None
            assert list(partial.outcomes) == [7]


def test_history_keeps_the_same_trials_and_itself(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        fill(store, [0])
        before = store.history()
        assert store.history() is before
        fill(store, [1])
        after = store.history()
        assert len(before) == 1
        assert len(after) == 2
        assert after.generations[0] is before.generations[0]


def test_an_unfinished_generation_opens_with_what_is_finished(
    url: str | None, folder: RunFolder
) -> None:
    planned = generation(0)
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        assert store.open(0) is None
        store.begin(planned)
        store.record(complete(1, 0.25))
        store.record(Replan(0, ((0, 1), (2,))))
    with OptunaStore.load(url, folder, SPACE, LOSS) as store:
        assert len(store.history()) == 0
        opened = store.open(0)
        assert opened is not None
        assert opened.chunks == ((0, 1), (2,))
        assert {n: o.values for n, o in opened.outcomes.items()} == {1: (0.25,)}
        store.begin(opened)
        store.record(complete(0))
        store.record(complete(1, 99.0))  # the chunk was trained again; the first outcome stays
        store.record(complete(2))
        assert store.open(0) is None
        assert store.history().trials[1].outcome.values == (0.25,)


def test_begin_twice_makes_no_trial_twice(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(generation(0))
        store.begin(generation(0))
        assert len(load_study(folder, url).trials) == 3


def test_an_outcome_recorded_twice_counts_once(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(generation(0, 1))
        store.record(complete(0, 0.5))
        store.record(complete(0, 0.75))
        assert store.history().trials[0].outcome.values == (0.5,)


def test_outcomes_recorded_together_count_each_once(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(generation(0))
        store.record(complete(1, 0.25))
        store.record(complete(0, 0.5), complete(1, 99.0), complete(0, 99.0), complete(2, 0.75))
        values = [trial.outcome.values for trial in store.history().trials]
    assert values == [(0.5,), (0.25,), (0.75,)]


def test_a_chunk_is_one_durable_write(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    with OptunaStore.create(None, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(generation(0, 32))
        monkeypatch.setattr(os, "fsync", syncs.append)
        store.record(*(complete(trial) for trial in range(32)))
    assert len(syncs) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_stored_as_failure(
    url: str | None, folder: RunFolder, value: float
) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(generation(0, 2))
        store.record(Outcome(0, State.COMPLETE, (value,), {1: 0.5}, {}, 1.0, 1.0))
        store.record(Outcome(1, State.PRUNED, (value,), {}, {}, 1.0, 0.5, "diverged"))
        first, second = store.history().trials
    assert (first.outcome.state, first.outcome.values) == (State.FAIL, None)
    assert first.outcome.error == f"the objective's value is {value}"
    assert (second.outcome.state, second.outcome.error) == (State.FAIL, "diverged")
    assert all(trial.values is None for trial in load_study(folder, url).trials)


def test_an_infeasible_candidate_tells_optuna_its_constraints(
    url: str | None, folder: RunFolder
) -> None:
    plain = candidate(0, 0)
    violations = {"heads * 16 <= 64": 64.0, "parameters <= 10": 1 / 3}
    broken = Candidate(1, 1, *_of(candidate(1, 1)), violations)
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(Generation(0, (plain, broken), ((0,),)))
        assert load_study(folder, url).trials[1].constraints == violations
        error = "infeasible: heads * 16 <= 64"
        store.record(Outcome(1, State.FAIL, None, {}, {}, 0.0, 0.0, error))
        store.record(complete(0))
        assert store.history().trials[1].candidate.violations == violations
    feasible, infeasible = load_study(folder, url).trials
    assert feasible.constraints == {}
    assert "infeasible" not in feasible.user_attrs
    assert infeasible.state == optuna.trial.TrialState.FAIL
    assert infeasible.user_attrs["infeasible"] is True
    assert infeasible.user_attrs["error"] == error


def _of(other: Candidate) -> tuple[Any, ...]:
    return other.position, other.params, other.settings, other.seeds


def test_optuna_reads_params_values_and_attributes(url: str | None, folder: RunFolder) -> None:
    planned = generation(0)
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        store.begin(planned)
        store.record(complete(0, 0.25))
        study = load_study(folder, url)
        assert study.study_name == "demo"
        assert [t.state.name for t in study.trials] == ["COMPLETE", "RUNNING", "RUNNING"]
        for trial, plan in zip(study.trials, planned.candidates, strict=True):
            assert trial.params == plan.params
            assert trial.user_attrs["generation"] == 0
            assert trial.user_attrs["particle"] == plan.particle
            assert trial.user_attrs["seeds"] == list(plan.seeds)
            assert trial.user_attrs["position"] == plan.position.tolist()
        first = study.trials[0]
        assert first.values == [0.25]
        assert first.intermediate_values == {25: 0.75, 100: 0.25 / 3}
        assert first.user_attrs["metrics"]["parameters"] == 1234
        assert first.user_attrs["fidelity"] == 1.0
        assert study.user_attrs["configuration"] == CONFIGURATION
        assert study.user_attrs["schema"] == 1


def test_several_objectives_keep_their_own_directions(url: str | None, folder: RunFolder) -> None:
    objectives = (Objective("accuracy", "maximize"), Objective("seconds", "minimize"))
    with OptunaStore.create(url, folder, SPACE, objectives, CONFIGURATION) as store:
        store.begin(generation(0, 1))
        store.record(Outcome(0, State.COMPLETE, (0.9, 12.5), {1: 0.5}, {}, 1.0, 1.0))
        assert store.history().trials[0].outcome.values == (0.9, 12.5)
    study = load_study(folder, url)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    with pytest.raises(RunError, match="objectives cannot change"):
        OptunaStore.load(url, folder, SPACE, LOSS)


def test_a_wide_position_lies_in_a_file_with_a_checksum(
    url: str | None, folder: RunFolder
) -> None:
    knobs = {
        f"w{k}": Knob(f"w{k}", "float", "", low=-1.0, high=1.0, default=0.0) for k in range(300)
    }
    wide = read_space({name: {} for name in knobs}, {}, knobs)
    planned = generation(0, 2, wide)
    with OptunaStore.create(url, folder, wide, LOSS, CONFIGURATION) as store:
        store.begin(planned)
        store.record(complete(0))
        store.record(complete(1))
    with OptunaStore.load(url, folder, wide, LOSS) as store:
        read = store.history().trials
    for trial, plan in zip(read, planned.candidates, strict=True):
        assert np.array_equal(trial.candidate.position, plan.position)
    kept = np.load(folder.path / "positions" / "0.npy")
    assert kept.shape == (2, 300)
    assert kept.dtype == np.float32
    assert "position" not in load_study(folder, url).trials[0].user_attrs
    (folder.path / "positions" / "0.npy").write_bytes(b"else")
    with (
        OptunaStore.load(url, folder, wide, LOSS) as store,
        pytest.raises(StorageError, match="not those that the run wrote"),
    ):
        store.history()


def test_a_strangers_trial_is_refused(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        fill(store, [0])
        assert len(store.history()) == 1
        load_study(folder, url).add_trial(
            optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
        )
        with pytest.raises(StorageError, match="trial 3, which this run did not plan"):
            store.history()
        with pytest.raises(StorageError, match="trial 3, which this run did not plan"):
            store.begin(generation(1))


def test_a_value_of_the_run_is_kept(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION) as store:
        assert store.get_attribute("test_uses") is None
        store.set_attribute("test_uses", [{"command": "confirm", "trials": [1, 2]}])
    with OptunaStore.load(url, folder, SPACE, LOSS, read_only=True) as store:
        assert store.get_attribute("test_uses") == [{"command": "confirm", "trials": [1, 2]}]
        assert store.get_attribute("configuration") == CONFIGURATION


def test_a_second_driver_is_refused(url: str | None, folder: RunFolder) -> None:
    with OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION):
        with pytest.raises(RunError, match="is in use by process"):
            OptunaStore.load(url, folder, SPACE, LOSS, break_lock=True)
        OptunaStore.load(url, folder, SPACE, LOSS, read_only=True).close()
    OptunaStore.load(url, folder, SPACE, LOSS).close()


def test_a_study_that_exists_is_not_begun_again(url: str | None, folder: RunFolder) -> None:
    OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION).close()
    with pytest.raises(RunError, match="study named demo exists already"):
        OptunaStore.create(url, folder, SPACE, LOSS, CONFIGURATION)


def test_a_run_killed_before_its_study_is_begun_by_load(
    url: str | None, folder: RunFolder
) -> None:
    with OptunaStore.load(url, folder, SPACE, LOSS) as store:
        assert len(store.history()) == 0
        assert store.get_attribute("configuration") == CONFIGURATION


def test_reading_a_run_that_has_not_begun_says_so(url: str | None, folder: RunFolder) -> None:
    with pytest.raises((RunError, StorageError), match=r"has not begun|missing"):
        OptunaStore.load(url, folder, SPACE, LOSS, read_only=True)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shared.db"


def test_a_run_on_a_database_resumes_from_another_folder(
    database: str, folder: RunFolder, tmp_path: Path
) -> None:
    check_new_study(database, "demo")
    with OptunaStore.create(database, folder, SPACE, LOSS, CONFIGURATION) as store:
        fill(store, [0])
        before = store.history()
    configuration = read_configuration(database, "demo")
    assert configuration == CONFIGURATION
    elsewhere = RunFolder.create(tmp_path / "elsewhere", "demo", configuration, {})
    with OptunaStore.load(database, elsewhere, SPACE, LOSS) as store:
        for left, right in zip(store.history().trials, before.trials, strict=True):
            assert_same(left, right)
    with pytest.raises(RunError, match="demo exists already"):
        check_new_study(database, "demo")
    delete_study(database, "demo")
    with pytest.raises(RunError, match="no study named demo"):
        read_configuration(database, "demo")


def test_another_tools_study_is_not_taken_for_a_run(database: str, folder: RunFolder) -> None:
    storage = optuna.storages.RDBStorage(database)
    study = optuna.create_study(storage=storage, study_name="demo")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    for use in (
        lambda: OptunaStore.load(database, folder, SPACE, LOSS),
        lambda: OptunaStore.load(database, folder, SPACE, LOSS, read_only=True),
        lambda: read_configuration(database, "demo"),
    ):
        with pytest.raises(RunError, match="is not a run of pso-attn"):
            use()
    assert len(study.trials) == 1
    storage.remove_session()
    storage.engine.dispose()
