"""Several runs beside each other: what each reached, and what speaks against comparing them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as counting
from typing import Any

from pso_attn.report.findings import finalist, findings, value
from pso_attn.report.inputs import VALIDATION, ReportInput
from pso_attn.report.words import ABSENT, duration, listed, number, plus_minus
from pso_attn.types import Objective, Trial

UNNAMED = "value"  # how a study's objective is called where nobody named it


@dataclass(frozen=True, eq=False)
class Entry:
    """One of the runs. label: its name, or another where two are named alike.

    best: its best trial, None where nothing completed.
    """

    label: str
    run: ReportInput
    best: Trial | None

    @property
    def evaluations(self) -> int:
        """How many trainings it took, failed ones included."""
        return len(self.run.history.trials)

    @property
    def seconds(self) -> float:
        """How long its trainings took, summed."""
        return sum(trial.outcome.seconds for trial in self.run.history.trials)

    @property
    def measured_on(self) -> str:
        """The examples that a search for weights measures on, empty where it is as others do."""
        weights = self.run.weights
        if weights is None or (weights.split == VALIDATION and not weights.examples):
            return ""
        return f"{weights.examples or 'all'} of {weights.split}"

    def best_within(self, evaluations: int) -> float | None:
        """Return the best value of the first evaluations, None before anything completed."""
        history = self.run.history
        first = [t for t in history.trials[:evaluations] if t.is_full]
        finite = [t for t in first if history.loss(t) < float("inf")]
        return value(min(finite, key=history.loss, default=None))


def entries(runs: Sequence[ReportInput]) -> tuple[Entry, ...]:
    """Return the runs in their order, each under a label of its own."""
    made: list[Entry] = []
    for run in runs:
        taken = {entry.label for entry in made}
        names = (run.name if n == 1 else f"{run.name} ({n})" for n in counting(1))
        label = next(name for name in names if name not in taken)
        made.append(Entry(label, run, findings(run).best))
    return tuple(made)


def groups(found: Sequence[Entry]) -> list[tuple[Objective, list[Entry]]]:
    """Return the runs that measure the same, in the order in which they came.

    What searches for weights measure on other examples than the validation split compares with
    nothing else. A study whose objective has no name joins the only group that goes its way, and
    what they share has no name then.
    """
    made: dict[tuple[Objective, str], list[Entry]] = {}
    for entry in found:
        made.setdefault((entry.run.objective, entry.measured_on), []).append(entry)
    for key in [key for key in made if key[0].name == UNNAMED]:
        hosts = [one for one in made if one[0].direction == key[0].direction and one != key]
        if len(hosts) == 1:
            made[hosts[0]] = sorted(made[hosts[0]] + made.pop(key), key=found.index)
    return [
        (Objective(UNNAMED, objective.direction) if _has_unnamed(group) else objective, group)
        for (objective, _), group in made.items()
    ]


def split_of(group: Sequence[Entry]) -> str:
    """Return what runs that measure the same took it on, empty where nobody said of one."""
    if _has_unnamed(group):
        return ""
    return next((entry.run.split for entry in group if entry.run.split), "")


def measured(objective: Objective, group: Sequence[Entry]) -> str:
    """Return the objective of runs that measure the same in words, with its split."""
    return f"{split_of(group)} {objective.name}".lstrip()


def sentences(found: Sequence[Entry]) -> list[str]:
    """Return who reached most, and then what speaks against taking it for more than it is."""
    return [*(_leads(*group) for group in groups(found)), *_cautions(found)]


def without_values(group: Sequence[Entry]) -> str:
    """Return what there is to say of runs that have no finite value, as a sentence or two."""
    infinite = [e.label for e in group if any(trial.is_full for trial in e.run.history.trials)]
    others = [entry.label for entry in group if entry.label not in infinite]
    said = [f"Nothing completed in {listed(others)}."] if others else []
    said += [f"Nothing completed with a finite value in {listed(infinite)}."] if infinite else []
    return " ".join(said)


def summary_rows(
    found: Sequence[Entry], briefly: bool = False
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return columns and a row of text for each run; the first column names it.

    briefly: without the columns that 80 characters have no room for.
    """
    begun = {entry.evaluations for entry in found} - {0}
    least, same = min(begun, default=0), len(begun) < 2
    confirmed = any(entry.run.confirmation for entry in found)
    columns = [
        "run",
        "best",
        f"best of {least}",
        "test",
        "found at",
        "evaluations" if any(entry.run.weights for entry in found) else "trainings",
        "time",
        "sampler",
    ]
    rows = [
        (
            entry.label,
            number(value(entry.best)),
            number(entry.best_within(least)),
            _tested(entry),
            ABSENT if entry.best is None else str(entry.best.number + 1),
            number(entry.evaluations),
            duration(entry.seconds),
            str(entry.run.configuration.get("run", {}).get("sampler", ABSENT)),
        )
        for entry in found
    ]
    left_out = {2} if same else set()
    left_out |= set() if confirmed and not briefly else {3}
    left_out |= {4} if briefly else set()
    kept = [place for place in range(len(columns)) if place not in left_out]
    return [columns[k] for k in kept], [tuple(row[k] for k in kept) for row in rows]


def documents(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return what `summary_rows` shows, as plain data."""
    return [
        {
            "run": entry.label,
            "objective": entry.run.objective.name,
            "direction": entry.run.objective.direction,
            "best": value(entry.best),
            "trial": None if entry.best is None else entry.best.number,
            "trainings": entry.evaluations,
            "seconds": entry.seconds,
        }
        for entry in found
    ]


def _has_unnamed(group: Sequence[Entry]) -> bool:
    return any(entry.run.objective.name == UNNAMED for entry in group)


def _leads(objective: Objective, group: Sequence[Entry]) -> str:
    """Return who of those that measure the same reached most."""
    losses = {
        entry.label: objective.loss(reached)
        for entry in group
        if (reached := value(entry.best)) is not None
    }
    if not losses:
        return without_values(group)
    least = min(losses.values())
    best = [label for label, loss in losses.items() if loss == least]
    what = f"best {measured(objective, group)}, {number(objective.loss(least))}"
    if len(group) == 1 and objective.name == UNNAMED:
        return f"{best[0]} has a {what}; nothing says what that is, so nobody is held against it."
    if len(group) == 1:
        return f"{best[0]} has a {what}; no other run measures that."
    return (
        f"{listed(best)} {'has' if len(best) == 1 else 'have'} the {what}, of {len(group)} runs."
    )


def _cautions(found: Sequence[Entry]) -> Iterable[str]:
    foreign = [entry.label for entry in found if entry.run.is_foreign]
    unnamed = [
        entry.label
        for _, group in groups(found)
        for entry in group
        if entry.run.objective.name == UNNAMED and len(group) > 1
    ]
    if unnamed:
        yield f"Nothing says what {listed(unnamed)} measured; it is taken for the same here."
    if foreign:
        yield f"Nothing says on what data, or for how long, {listed(foreign)} trained."
    ours = [entry for entry in found if not entry.run.is_foreign]
    for what, read in (
        ("what they train on", _data),
        ("steps of a training", lambda entry: _budget(entry).get("steps")),
        ("seeds of an evaluation", lambda entry: _budget(entry).get("seeds")),
    ):
        seen: dict[str, list[str]] = {}
        for entry in ours:
            seen.setdefault(str(read(entry)), []).append(entry.label)
        if len(seen) > 1:
            said = "; ".join(f"{listed(labels)} {held}" for held, labels in seen.items())
            yield f"They differ in {what}, so their values do not compare: {said}."
    if len(found) > 1:
        yield (
            "One search each: another seed may turn the order round. pso-attn compare holds "
            "samplers against each other over several."
        )


def _data(entry: Entry) -> str:
    document: Mapping[str, Any] = entry.run.configuration
    if "objective" in document:  # of one's own, which stands in place of a task
        return f"objective {document['objective']}"
    fingerprint = str(document.get("run", {}).get("fingerprint", ""))[:8]
    task = document.get("task", ABSENT)
    return f"{task} ({fingerprint})" if fingerprint else str(task)


def _budget(entry: Entry) -> Mapping[str, Any]:
    budget: Mapping[str, Any] = entry.run.configuration.get("budget", {})
    return budget


def _tested(entry: Entry) -> str:
    row = finalist(entry.run.confirmation or {}, 1) or {}
    test = row.get("test", {}).get(entry.run.objective.name, {})
    return plus_minus(test.get("mean"), test.get("std"))
