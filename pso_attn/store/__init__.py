"""What happened: the run's folder, and its history in an Optuna storage.

RunFolder ──> OptunaStore ──> history, open, begin, record
runs/<name>   one study       what run_search asks for
"""

from pso_attn.store.environment import describe_environment
from pso_attn.store.folder import RUNS_DIR, RunFolder, free_name, is_run
from pso_attn.store.optuna_store import OptunaStore
from pso_attn.store.studies import (
    check_new_study,
    delete_study,
    load_study,
    read_configuration,
)

__all__ = [
    "RUNS_DIR",
    "OptunaStore",
    "RunFolder",
    "check_new_study",
    "delete_study",
    "describe_environment",
    "free_name",
    "is_run",
    "load_study",
    "read_configuration",
]
