"""What the baselines share: they take no options, and name those that search where they cannot."""

from collections.abc import Mapping
from typing import Any

from pso_attn.errors import ConfigurationError

FOR_WEIGHTS = "pso, another pso-*, openes, sepcmaes, pyswarms or random"


def refuse_options(sampler: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if there is any option."""
    if options:
        raise ConfigurationError(
            f'{sampler} takes no options, and "{next(iter(options))}" was given; leave it out'
        )
