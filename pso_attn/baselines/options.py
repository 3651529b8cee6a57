"""What the baselines share: they take no options, and name those that search where they cannot."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pso_attn.errors import ConfigurationError

FOR_WEIGHTS = "pso, another pso-*, openes, sepcmaes, pyswarms or random"


class Baseline:
    """A sampler that takes no options, and to which the budget of generations does not matter."""

    name: ClassVar[str]

    def __init__(
        self,
        seed: int,
        particles: int,
        batch: int,
        generations: int,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Raise ConfigurationError if there is any option."""
        if options:
            raise ConfigurationError(
                f'{self.name} takes no options, and "{next(iter(options))}" was given; leave it '
                "out"
            )
        self.seed, self.particles, self.batch = seed, particles, batch
