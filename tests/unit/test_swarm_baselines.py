import numpy as np
import pytest

from pso_attn.baselines import QuasiMonteCarlo, RandomSearch
from pso_attn.errors import ConfigurationError
from pso_attn.seeding import sobol
from pso_attn.testing import drive
from pso_attn.testing.spaces import cube


def positions(sampler, generations):
    history = drive(sampler, cube(3), lambda params: 0.0, generations)
    return np.stack([trial.candidate.position for trial in history.trials])


@pytest.mark.parametrize("baseline", [RandomSearch, QuasiMonteCarlo])
def test_a_baseline_refuses_options(baseline):
    with pytest.raises(ConfigurationError, match='takes no options, and "topology" was given'):
        baseline(0, 8, 8, 10, {"topology": "ring"})


def test_qmc_is_one_sequence_however_it_is_cut_into_batches():
    np.testing.assert_array_equal(
        positions(QuasiMonteCarlo(5, 12, 12, 2), 2), positions(QuasiMonteCarlo(5, 12, 3, 8), 8)
    )


def test_qmc_fills_each_coordinate_evenly():
    filled = positions(QuasiMonteCarlo(5, 16, 16, 4), 4)[16:48]  # later than the start settings
    assert len(np.unique(np.floor(filled * 16), axis=0)) == 32
    for column in filled.T:
        assert set(np.histogram(column, 16, (0, 1))[0]) == {2}


def test_random_search_is_uniform():
    drawn = positions(RandomSearch(1, 50, 50, 20), 20)[1:].ravel()
    assert abs(drawn.mean() - 0.5) < 0.02
    assert abs(drawn.var() - 1 / 12) < 0.005


@pytest.mark.parametrize("first", [0, 1, 5, 16])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_sobol_point_does_not_depend_on_how_many_are_drawn(first, count):
    np.testing.assert_array_equal(sobol(3, 4, first, count), sobol(3, 4, 0, 64)[first:][:count])


def test_too_many_dimensions_for_a_sobol_sequence_are_refused():
    with pytest.raises(ConfigurationError, match="21201 dimensions and this space has 21202"):
        sobol(0, 21202, 0, 4)
