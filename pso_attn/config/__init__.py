"""What a run was asked to do: a space file, `--set` and flags, read into one frozen record.

file or built-in name ──> --set ──> flags ──> Configuration ──> config.toml, study attributes
"""

from pso_attn.config.builtin import builtin_spaces, find_space
from pso_attn.config.configuration import Configuration, Execution
from pso_attn.config.reading import configured, located_storage, read_configuration, read_toml
from pso_attn.config.schema import configuration_from, execution_from

__all__ = [
    "Configuration",
    "Execution",
    "builtin_spaces",
    "configuration_from",
    "configured",
    "execution_from",
    "find_space",
    "located_storage",
    "read_configuration",
    "read_toml",
]
