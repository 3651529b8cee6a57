import tracemalloc

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from pso_attn.swarm.topologies import informants, listed, pyramid, ring, star, von_neumann

FIXED = {
    "ring": lambda particles: ring(particles, 1),
    "wide ring": lambda particles: ring(particles, 3),
    "star": star,
    "von Neumann": von_neumann,
    "pyramid": pyramid,
}
SIZES = [2, 3, 4, 5, 7, 8, 10, 16, 20, 33]


def sees(links):
    matrix = np.zeros((len(links), len(links)), dtype=bool)
    matrix[np.arange(len(links))[:, None], links] = True
    return matrix


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("particles", SIZES)
def test_everybody_sees_itself_first_and_is_seen_back_and_nobody_is_cut_off(name, particles):
    links = FIXED[name](particles)
    np.testing.assert_array_equal(links[:, 0], np.arange(particles))
    matrix = sees(links)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert connected_components(matrix, return_labels=False) == 1


def test_a_ring_joins_neighbours_and_wraps_around():
    np.testing.assert_array_equal(ring(5, 1)[0], [0, 4, 1])
    np.testing.assert_array_equal(np.sort(ring(5, 2), axis=1), [[0, 1, 2, 3, 4]] * 5)


def test_twenty_particles_stand_on_a_grid_of_four_by_five():
    links = von_neumann(20)
    np.testing.assert_array_equal(np.sort(links[0]), [0, 1, 4, 5, 15])
    np.testing.assert_array_equal(np.sort(links[7]), [2, 6, 7, 8, 12])


def test_a_grid_whose_last_row_is_not_full_is_closed_all_the_same():
    links = von_neumann(10)  # rows of 4, 4 and 2
    assert set(links[8]) == {8, 9, 4, 0}
    assert set(links[2]) == {1, 2, 3, 6}


def test_twenty_particles_fill_a_pyramid_of_four_layers():
    matrix = sees(pyramid(20))
    assert set(np.flatnonzero(matrix[0])) == {0, 1, 2, 3}  # the top, and the layer below it
    corners = [0, 10, 16, 19]
    assert [matrix[corner].sum() - 1 for corner in corners] == [3, 3, 3, 3]
    assert matrix.sum() - 20 == 2 * 60  # six edges for each of the ten tetrahedra inside


def test_each_particle_informs_about_as_many_as_asked():
    draws = [sees(informants(40, 3, np.random.default_rng(seed))) for seed in range(50)]
    told = np.mean([matrix.sum(axis=0) - 1 for matrix in draws])
    assert told == pytest.approx(39 * (1 - (1 - 1 / 40) ** 3), rel=0.05)
    assert not np.array_equal(draws[0], draws[0].T)


def test_random_links_are_a_function_of_the_generator():
    one, two = (informants(9, 3, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_ragged_neighbourhoods_are_filled_up_with_the_particle_itself():
    np.testing.assert_array_equal(
        listed([{2, 1}, set(), {1, 2}]), [[0, 1, 2], [1, 1, 1], [2, 1, 2]]
    )


@pytest.mark.parametrize("join", [von_neumann, pyramid])
def test_the_links_of_a_large_swarm_take_what_its_few_neighbours_need(join):
    tracemalloc.start()
    links = join(20_000)
    _, height = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert links.shape[1] <= 13
    assert height < 2**26  # a table of all pairs would take 380 MiB
