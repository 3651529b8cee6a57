"""What a report is made from: plain data, whatever it was read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pso_attn.space import Space
from pso_attn.types import History, Objective

if TYPE_CHECKING:  # optuna takes a while to import and is needed for its study's type alone
    import optuna


RUNS_DIR = "runs"  # where the commands look unless they are told
VALIDATION = "validation"  # the split that a search for settings looks at


@dataclass(frozen=True, eq=False)
class MatrixPair:
    """One matrix before the search and of its best particle, as the model uses it.

    before, after: (in, out), of different shapes where the settings differ.
    """

    name: str
    before: NDArray[Any]
    after: NDArray[Any]


@dataclass(frozen=True, eq=False)
class AttentionPair:
    """What each token of one example takes from each, before the search and of its best particle.

    tokens: T texts. picture: (height, width), whose patches of patch (height, width) are the
    tokens, row by row; None where it is no picture. before, after: (H, T, T) for each layer, rows
    take from columns.
    """

    tokens: tuple[str, ...]
    picture: NDArray[Any] | None
    patch: tuple[int, int]
    before: tuple[NDArray[Any], ...]
    after: tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class SearchedWeights:
    """What there is beside settings where weights were searched.

    split: of the task, that positions are scored on; examples: how many of it an evaluation sees,
    0 for all. size: how many weights were searched. quantise: what they go through, or "none".
    matrices, maps: empty where the run's checkpoints are not there. trial: whose they are.
    control: the document of `control.json`, None before the search has finished.
    """

    split: str
    examples: int
    size: int
    quantise: str = "none"
    matrices: tuple[MatrixPair, ...] = ()
    maps: tuple[AttentionPair, ...] = ()
    trial: int | None = None
    control: Mapping[str, Any] | None = None

    @property
    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """What the search is held against, and its best, by name; empty without a control."""
        document = self.control or {}
        return {name: row for name, row in document.items() if isinstance(row, Mapping)}


@dataclass(frozen=True, eq=False)
class ReportInput:
    """A run, read.

    configuration: the resolved document of `config.toml`. environment: that of
    `environment.json`. confirmation: that of `confirm.json`, None before `confirm` has run.
    study: the run's Optuna study, read for importances; None leaves them out.
    runs_dir: where the run's folder lies, for the commands that are printed.
    is_foreign: somebody else's study: without defaults, positions, rungs and metrics, and nothing
    to confirm it with. weights: None where settings alone were searched. source: the run's folder,
    or the study's storage and name, in full and without a password; empty where nobody said.
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
    weights: SearchedWeights | None = None
    source: str = ""

    @property
    def split(self) -> str:
        """What the objective was taken on; empty where nobody said."""
        if self.weights is not None:
            return self.weights.split
        return "" if self.is_foreign else VALIDATION

    @property
    def measured(self) -> str:
        """The objective in words, with its split."""
        return f"{self.split} {self.objective.name}".lstrip()

    @property
    def time(self) -> str:
        """What the seconds of a trial are, in words."""
        return "training time" if self.weights is None else "evaluation time"

    @property
    def unchanged(self) -> str:
        """How the first trial is called, which what was searched is held against."""
        return "defaults" if self.weights is None else "untouched"

    @property
    def unit(self) -> str:
        """What the values of a confirmation are of: its standard deviation is over several."""
        return "fresh seed" if self.weights is None else "test part"

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
