import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.swarm import ClassicSwarm
from pso_attn.swarm.options import ClassicOptions, read_options


def make(particles=8, batch=8, **options):
    return ClassicSwarm(0, particles, batch, 10, options)


def test_no_options_are_the_defaults():
    assert read_options({}) == ClassicOptions()


def test_inertia_brings_its_own_pulls_unless_they_are_given():
    assert read_options({"rule": "inertia"}).cognitive == 2.0
    assert read_options({"rule": "inertia", "cognitive": 1.5}).cognitive == 1.5
    assert read_options({"rule": "inertia", "cognitive": 1.5}).social == 2.0


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match='"velocity_limt"; did you mean "velocity_limit"'):
        make(velocity_limt=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "constricted"},
        {"topology": 3},
        {"topology": ["ring"]},
        {"neighbours": 0},
        {"neighbours": 1.5},
        {"cognitive": -1.0},
        {"social": float("nan")},
        {"social": "2"},
        {"velocity_limit": 0},
        {"velocity_limit": 1.5},
        {"stagnation": -1},
        {"stagnation": True},
        {"jump_rate": 1.01},
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        make(**options)


def test_constriction_needs_pulls_of_more_than_four():
    with pytest.raises(ConfigurationError, match="needs more than 4"):
        make(cognitive=2.0, social=2.0)
    make(rule="inertia", cognitive=2.0, social=2.0)


def test_a_star_has_no_neighbours_to_count():
    with pytest.raises(ConfigurationError, match="ring"):
        make(topology="star", neighbours=2)


@pytest.mark.parametrize("particles", [-1, 0, 1])
def test_a_swarm_needs_two_particles(particles):
    with pytest.raises(ConfigurationError, match="at least 2 particles"):
        make(particles=particles, batch=1)


@pytest.mark.parametrize("batch", [0, 9])
def test_a_batch_fits_the_swarm(batch):
    with pytest.raises(ConfigurationError, match="give 1 to 8"):
        make(batch=batch)
