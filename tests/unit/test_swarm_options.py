import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.swarm import (
    VARIANTS,
    BareBonesSwarm,
    ClassicSwarm,
    ClpsoSwarm,
    ConsensusSwarm,
    ScreenedSwarm,
    Spso2011Swarm,
)
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
        {"cognitive": 1e308},
        {"social": 101},
        {"neighbours": 10**30},
        {"stagnation": 10**30},
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        make(**options)


def test_constriction_needs_pulls_of_more_than_four():
    with pytest.raises(ConfigurationError, match="needs more than 4"):
        make(cognitive=2.0, social=2.0)
    make(rule="inertia", cognitive=2.0, social=2.0)


@pytest.mark.parametrize("topology", ["ring", "star", "von_neumann", "random", "pyramid"])
def test_every_topology_can_be_chosen(topology):
    assert make(topology=topology).options.topology == topology


@pytest.mark.parametrize(
    ("topology", "option", "wanted"),
    [
        ("star", "neighbours", "ring"),
        ("random", "neighbours", "ring"),
        ("ring", "informed", "random"),
    ],
)
def test_an_option_of_another_topology_is_refused(topology, option, wanted):
    with pytest.raises(ConfigurationError, match=f"{option} acts on a {wanted} topology only"):
        make(topology=topology, **{option: 2})


@pytest.mark.parametrize(
    ("kind", "name", "given"),
    [
        (Spso2011Swarm, "pso-spso2011", {"cognitive": 2.0}),
        (Spso2011Swarm, "pso-spso2011", {"inertia": 1.5}),
        (BareBonesSwarm, "pso-bare-bones", {"inertia": 0.5}),
        (BareBonesSwarm, "pso-bare-bones", {"exploit": 2}),
        (ClpsoSwarm, "pso-clpso", {"topology": "ring"}),
        (ClpsoSwarm, "pso-clpso", {"refreshing_gap": 0}),
        (ClpsoSwarm, "pso-clpso", {"refreshing_gap": 10**30}),
        (ScreenedSwarm, "pso", {"draws": 10**9}),
        (ScreenedSwarm, "pso", {"neighbours": 10**30}),
    ],
)
def test_each_variant_refuses_what_it_does_not_know_by_its_own_name(kind, name, given):
    with pytest.raises(ConfigurationError, match=f"^{name}.*{next(iter(given))}"):
        kind(0, 8, 8, 10, given)


@pytest.mark.parametrize("kind", [BareBonesSwarm, ClpsoSwarm, Spso2011Swarm])
def test_every_variant_refuses_a_lonely_particle_and_a_batch_that_does_not_fit(kind):
    with pytest.raises(ConfigurationError, match="at least 2 particles"):
        kind(0, 1, 1, 10)
    with pytest.raises(ConfigurationError, match="give 1 to 8"):
        kind(0, 8, 9, 10)


@pytest.mark.parametrize("particles", [-1, 0, 1])
def test_a_swarm_needs_two_particles(particles):
    with pytest.raises(ConfigurationError, match="at least 2 particles"):
        make(particles=particles, batch=1)


@pytest.mark.parametrize("kind", VARIANTS.values())
def test_a_swarm_that_no_memory_holds_is_refused_before_it_is_made(kind):
    for particles in (100_001, 10**20):
        with pytest.raises(ConfigurationError, match="give at most 100,000 particles"):
            kind(0, particles, 1, 10)


@pytest.mark.parametrize("kind", [BareBonesSwarm, ConsensusSwarm, ScreenedSwarm])
def test_more_pairs_of_particles_than_memory_holds_are_refused(kind):
    with pytest.raises(ConfigurationError, match="10,000,000,000 pairs, and 25,000,000 are"):
        kind(0, 100_000, 8, 10, {"topology": "star"})
    with pytest.raises(ConfigurationError, match='topology "ring" of 100000 particles has'):
        kind(0, 100_000, 8, 10, {"topology": "ring", "neighbours": 50_000})
    kind(0, 100_000, 8, 10, {"topology": "ring"})
    kind(0, 5_000, 8, 10, {"topology": "star"})
    kind(0, 100_000, 8, 10, {"topology": "von_neumann"})


@pytest.mark.parametrize("kind", [ClassicSwarm, Spso2011Swarm])
def test_a_star_of_which_the_best_alone_is_asked_has_no_table_of_pairs(kind):
    kind(0, 100_000, 8, 10, {"topology": "star"})


@pytest.mark.parametrize("batch", [0, 9])
def test_a_batch_fits_the_swarm(batch):
    with pytest.raises(ConfigurationError, match="give 1 to 8"):
        make(batch=batch)
