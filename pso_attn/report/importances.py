"""Which settings mattered, by Optuna's evaluators, or why that cannot be said."""

import warnings
from dataclasses import dataclass, field
from math import ceil

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

FEWEST = 10  # complete trials below which importances are not shown
_TENTH = 0.1  # PED-ANOVA compares the best tenth with the rest
_TARGET = 5  # trials that Optuna's documentation wants above PED-ANOVA's quantile


@dataclass(frozen=True)
class Importances:
    """Shares that sum to one, largest first; or none, and `note` says why.

    note: which evaluator looked at how many trials, as a sentence.
    """

    shares: dict[str, float] = field(default_factory=dict)
    note: str = ""


def importances(study: "optuna.Study | None") -> Importances:
    """Return PED-ANOVA's importances of a study's first objective over its complete trials.

    The quantile is the best tenth, or the best five where those are more (Watanabe et al.
    2023; Optuna asks for five). Conditional parameters count where they act. Too few trials,
    a single parameter and equal values leave no shares.
    """
    if study is None:
        return Importances(note="The run's Optuna study was not at hand.")
    complete = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if len(complete) < FEWEST:
        return Importances(
            note=f"{len(complete)} complete trials say nothing about importances; "
            f"at least {FEWEST} are needed."
        )
    if len({trial.values[0] for trial in complete}) == 1:
        return Importances(note="Every complete trial has the same value: no setting mattered.")
    if len({name for trial in complete for name in trial.params}) < 2:
        return Importances(note="Only one setting was searched, so all importance is its own.")
    quantile = min(0.5, max(_TENTH, _TARGET / len(complete)))
    raw = _evaluate(study, quantile)
    total = sum(raw.values())
    if total <= 0:
        return Importances(note="No setting set the best trials apart from the others.")
    shares = {name: value / total for name, value in raw.items()}
    best = ceil(quantile * len(complete))
    few = " Of so few trials it is a hint at most." if quantile > _TENTH else ""
    return Importances(
        shares=dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))),
        note=f"Optuna's PED-ANOVA: what sets the best {best} apart among {len(complete)} complete "
        "trials. It says which settings matter, not which values are good; one that the search "
        f"soon stopped varying looks less important than it may be.{few}",
    )


def _evaluate(study: "optuna.Study", quantile: float) -> dict[str, float]:
    several = len(study.directions) > 1
    sign = -1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1.0
    with warnings.catch_warnings():
        # `normalize` is experimental, and PED-ANOVA warns of small studies, which FEWEST bounds
        warnings.simplefilter("ignore")
        return get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile),
            target=(lambda trial: sign * trial.values[0]) if several else None,
            normalize=False,
        )
