"""A proposal solves its equations on one thread, however many its libraries would take."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pso_attn import PSOSampler
from pso_attn.swarm import ScreenedSwarm, believing, screened
from pso_attn.swarm.one_thread import one_thread
from pso_attn.swarm.standing import standing_of
from pso_attn.testing import drive
from pso_attn.testing.samplers import roughness
from pso_attn.testing.spaces import cube


def threads() -> set[int]:
    """Return how many threads the libraries of linear algebra take now."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def search() -> None:
    drive(ScreenedSwarm(0, 4, 4, 3), cube(3), roughness, 3)


def ask_before_telling() -> None:
    study = optuna.create_study(sampler=PSOSampler(n_particles=4, seed=0))
    for number in range(6):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), number)
    for _ in range(3):
        study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})


@pytest.mark.parametrize(("use", "module"), [(search, screened), (ask_before_telling, believing)])
def test_it_fits_on_one_thread_and_leaves_the_others_as_they_were(
    use: Callable[[], None], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*asked: Any) -> Any:
        seen.append(threads())
        return standing_of(*asked)

    monkeypatch.setattr(module, "standing_of", watched)
    with threadpool_limits(2, "blas"):
        use()
        after = threads()
    assert seen
    assert all(one == {1} for one in seen)
    assert after == {2}


def test_blocks_that_overlap_leave_the_others_as_the_first_found_them() -> None:
    """As two threads that share a study have them: the first to begin is the first to end."""
    one, other = one_thread(), one_thread()
    with threadpool_limits(2, "blas"):
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        between = threads()
        other.__exit__(None, None, None)
        after = threads()
    assert (between, after) == ({1}, {2})
