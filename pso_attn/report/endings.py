"""How a trial ended, in the words that a report uses."""

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
