"""How a trial ended, in the words that a report uses."""

import re
from collections import defaultdict
from collections.abc import Iterable

from pso_attn.types import State, Trial

ENDINGS = ("complete", "pruned", "failed", "infeasible")


def ending(trial: Trial) -> str:
    """Return how a trial ended: one of ENDINGS."""
    if trial.outcome.state is State.COMPLETE:
        return "complete"
    if trial.outcome.state is State.PRUNED:
        return "pruned"
    said = (trial.outcome.error or "").startswith("infeasible:")
    return "infeasible" if trial.candidate.violations or said else "failed"


def reasons(trials: Iterable[Trial]) -> list[tuple[str, int]]:
    """Return why trials failed and how many for each reason, the commonest first.

    Several that failed alike at other steps have one reason, which names no step.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for error in (trial.outcome.error for trial in trials):
        if error:
            alike[re.sub(r" at step \d+", "", error)].append(error)
    found = [
        (errors[0] if len({*errors}) == 1 else kind, len(errors)) for kind, errors in alike.items()
    ]
    return sorted(found, key=lambda reason: -reason[1])
