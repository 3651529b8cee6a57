"""What a report is made from: plain data, whatever it was read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pso_attn.space import Space
from pso_attn.types import History, Objective

if TYPE_CHECKING:  # optuna takes a while to import and is needed for its study's type alone
    import optuna


RUNS_DIR = "runs"  # where the commands look unless they are told


@dataclass(frozen=True, eq=False)
class ReportInput:
    """A run, read.

    configuration: the resolved document of `config.toml`. environment: that of
    `environment.json`. confirmation: that of `confirm.json`, None before `confirm` has run.
    study: the run's Optuna study, read for importances; None leaves them out.
    runs_dir: where the run's folder lies, for the commands that are printed.
    is_foreign: somebody else's study: without defaults, positions, rungs and metrics, and nothing
    to confirm it with.
    """

    name: str
    history: History
    space: Space
    configuration: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    confirmation: Mapping[str, Any] | None = None
    study: "optuna.Study | None" = None
    runs_dir: str = RUNS_DIR
    is_foreign: bool = False

    @property
    def measured(self) -> str:
        """The objective in words: of our runs it is always taken on the validation split."""
        return self.objective.name if self.is_foreign else f"validation {self.objective.name}"

    @property
    def objective(self) -> Objective:
        """The first objective: what the run is judged by."""
        return self.history.objectives[0]

    @property
    def rungs(self) -> tuple[int, ...]:
        """The training steps below the last at which particles may leave; empty if unknown."""
        budget = self.configuration.get("budget", {})
        steps = budget.get("steps", 0)
        return tuple(round(rung * steps) for rung in budget.get("rungs", ()) if steps and rung < 1)
