"""Which particle takes which slot of a generation, and what sizes a swarm may have."""

from pso_attn.errors import ConfigurationError


def slots(generation: int, batch: int, particles: int) -> tuple[int, ...]:
    """Return the particles of one generation: (generation * batch + slot) mod particles."""
    return tuple((generation * batch + slot) % particles for slot in range(batch))


def check_size(particles: int, batch: int) -> None:
    """Raise ConfigurationError for fewer than two particles, or a batch that does not fit."""
    if particles < 2:
        raise ConfigurationError(
            f"a swarm of {particles} has nobody to learn from; give at least 2 particles, "
            "or choose the sampler random or qmc"
        )
    if not 1 <= batch <= particles:
        raise ConfigurationError(
            f"a batch of {batch} does not fit a swarm of {particles}; give 1 to {particles}"
        )
