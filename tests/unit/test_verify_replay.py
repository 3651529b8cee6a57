from dataclasses import replace

import pytest

from pso_attn.config import read_configuration
from pso_attn.driving import start_run
from pso_attn.runs import LoadedRun, load_run
from pso_attn.types import History
from pso_attn.verify import verify_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """A finished run of two generations."""
    runs_dir = tmp_path_factory.mktemp("verify")
    sets = ["budget.steps=2", "budget.rungs=[]"]
    configuration = read_configuration("digits", sets, {"particles": 3, "generations": 2})
    with start_run(configuration, "a", runs_dir) as driven:
        driven.run(float("inf"))
    return load_run("a", runs_dir)


def changed(run: LoadedRun, **fields: object) -> History:
    """The run's history with the last trial's candidate changed."""
    history = run.history
    last = history.generations[-1]
    trial = replace(last[-1], candidate=replace(last[-1].candidate, **fields))
    return History(history.objectives, (*history.generations[:-1], (*last[:-1], trial)))


def test_a_run_is_what_its_seed_and_history_make_of_it(run: LoadedRun) -> None:
    assert verify_run(run, run.history) is None


def test_a_position_that_differs_in_the_last_bit_is_found(run: LoadedRun) -> None:
    position = run.history.trials[-1].candidate.position.copy()
    position[1] += 1e-16 + position[1] * 3e-16
    difference = verify_run(run, changed(run, position=position))
    assert difference is not None
    assert (difference.generation, difference.trial, difference.what) == (1, 5, "position[1]")
    assert "generation 1, trial 5: the stored position[1] is" in difference.sentence()


@pytest.mark.parametrize(("what", "value"), [("seeds", (1,)), ("particle", 0), ("settings", {})])
def test_whatever_else_of_a_plan_differs_is_found(
    run: LoadedRun, what: str, value: object
) -> None:
    difference = verify_run(run, changed(run, **{what: value}))
    assert difference is not None
    assert difference.what == what
