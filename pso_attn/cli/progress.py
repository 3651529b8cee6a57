"""How a search goes, on stderr: one live line at a terminal, plain lines elsewhere."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn

from pso_attn.cli.consoles import Side
from pso_attn.types import Budget, Event, History, Objective, Outcome, State, Trial

PLAIN_EVERY_S = 30.0
_BETWEEN = " · "
_BAR = 4  # columns that the bar takes at least


class SearchProgress:
    """Follows a search and shows it: generations and particles done, best so far, time left.

    Generations are counted here, and nowhere named: the stored ones are numbered from 0.
    Hand `observe` to `run_search` and `training` to the evaluator. Without a terminal it
    writes one line per generation, and one each half minute. A stderr that has gone away is
    not a reason to stop a search.
    """

    def __init__(self, budget: Budget, history: History, deadline_s: float, quiet: bool) -> None:
        """Start from what is done already; deadline_s: on the monotonic clock."""
        self._budget = budget
        self._objective: Objective = history.objectives[0]
        self._deadline_s = deadline_s
        self._console = Side(stderr=True, highlight=False, quiet=quiet)
        self._total = budget.generations * budget.batch
        self._done = self._done_before = float(len(history.trials))
        self._plans = set[str]()  # that were said
        self._working: dict[int, float] = {}  # particles' worth of work in chunks that train
        self._scored: dict[int, tuple[float, int]] = {}  # their bests' last losses, and steps
        self._generation = len(history)
        self._best = _least(history, history.trials)
        self._began_s = self._said_s = time.monotonic()
        self._live: tuple[Progress, Any] | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator["SearchProgress"]:
        """Show progress inside the block."""
        if not self._console.is_terminal or self._console.quiet:
            yield self
            return
        live = Progress(
            TextColumn("{task.fields[generation]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[words]}"),
            console=self._console,
            transient=True,
            expand=True,
        )
        with live:
            fields = self._fields(self._console.width - _BAR)
            task = live.add_task("", total=self._total, **fields)
            self._live = (live, task)
            yield self
        self._live = None

    def training(self, progress: Any) -> None:
        """Take note of a chunk that trains; a `pso_attn.evaluate.Progress`."""
        self._working[progress.chunk] = progress.particles * progress.step / max(progress.steps, 1)
        if progress.best is not None:
            loss = self._objective.loss(progress.best)
            self._scored[progress.chunk] = (loss, progress.step)
        elif progress.particles == 0:  # it has ended
            self._scored.pop(progress.chunk, None)
        self._show()

    def planned(self, forecast: str) -> None:
        """Say how a chunk is trained, in words, unless that was said of another.

        What follows a colon, a predicted gain or who is alike, changes from chunk to chunk.
        """
        plan = forecast.partition(":")[0]
        if plan not in self._plans:
            self._plans.add(plan)
            self._console.print(forecast, soft_wrap=True)

    def observe(self, event: Event, history: History) -> None:
        """Take note of an outcome; history: the generations finished before it."""
        if not isinstance(event, Outcome):
            return
        if self._generation != len(history):
            self._generation = len(history)
            self._done = float(len(history.trials))
            self._best = min(self._best, _least(history, history.generations[-1]))
        self._done += 1
        if event.state is State.COMPLETE and event.values:
            loss = self._objective.loss(event.values[0])
            self._best = min(self._best, loss if math.isfinite(loss) else math.inf)
        self._show(whole=self._done % self._budget.batch == 0)

    def left_s(self) -> float:
        """Seconds that the rest will take at the pace so far; NaN before anything is done."""
        worked = self._done + self._training() - self._done_before
        now = time.monotonic()
        if worked <= 0:
            return math.nan
        rest = (self._total - self._done - self._training()) * (now - self._began_s) / worked
        return max(0.0, min(rest, self._deadline_s - now))

    def _training(self) -> float:
        return sum(self._working.values())

    def line(self) -> str:
        """Return the state of the search as one line of text."""
        fields = self._fields()
        return f"{fields['generation']}{_BETWEEN}{fields['words']}"

    def _fields(self, width: int | None = None) -> dict[str, Any]:
        """Return what is shown beside the bar, as much as a terminal of that width has room for.

        How it goes in training is left out first, and how much time is left never.
        """
        from pso_attn.report.words import duration, number

        finished = int(self._done) // self._budget.batch
        best = self._objective.loss(self._best)  # its own inverse: back to the metric itself
        generation = f"{finished}/{self._budget.generations} generations"
        words = {"particles": f"{int(self._done)}/{self._total} particles"}
        if math.isfinite(best):
            words["best"] = f"best {self._objective.name} {number(best)}"
        if self._scored:
            loss, step = min(self._scored.values())
            shown = number(self._objective.loss(loss))
            words["training"] = f"in training {shown} at step {step}"
        if math.isfinite(self.left_s()):
            words["left"] = f"{duration(self.left_s())} left"
        for spared in ("training", "particles", "best"):
            if width is None or len(f"{generation}  {_BETWEEN.join(words.values())}") <= width:
                break
            words.pop(spared, None)
        return {"generation": generation, "words": _BETWEEN.join(words.values())}

    def _show(self, whole: bool = False) -> None:
        if self._live:
            live, task = self._live
            fields = self._fields(live.console.width - _BAR)
            live.update(task, completed=self._done + self._training(), **fields)
        elif whole or time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            self._console.print(self.line(), soft_wrap=True)


def _least(history: History, trials: Iterable[Trial]) -> float:
    """Return the lowest loss of those that trained to the end, infinity where none did."""
    return min((history.loss(trial) for trial in trials if trial.is_full), default=math.inf)


@contextlib.contextmanager
def steps_shown(what: str, quiet: bool, unit: str = "steps") -> Iterator[Callable[..., None]]:
    """Yield a function of (units done, units in all, words="") that shows how far something is."""
    console = Side(stderr=True, highlight=False, quiet=quiet)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:.0f} %{task.fields[words]}"),
    )
    said_s = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, expand=True, disable=not console.is_terminal
    ) as live:
        task = live.add_task(what, total=None, words="")

        def report(done: int, total: int, words: str = "") -> None:
            nonlocal said_s
            told = f" · {words}" if words else ""
            live.update(task, completed=done, total=total, words=told)
            if console.is_terminal:
                return
            if done == total:
                console.print(f"{what}: {total} {unit} done{told}", soft_wrap=True)
            elif time.monotonic() - said_s >= PLAIN_EVERY_S:
                said_s = time.monotonic()
                console.print(f"{what}: {done}/{total} {unit}{told}", soft_wrap=True)

        yield report
