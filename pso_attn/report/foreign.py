"""Anyone's Optuna study as what a report is made from."""

import re
from typing import TYPE_CHECKING

from pso_attn.report.inputs import ReportInput

if TYPE_CHECKING:
    import optuna


def foreign_input(study: "optuna.Study", source: str = "") -> ReportInput:
    """Return a study as a report's input: its trials, their ranges, and nothing of a run.

    source: `foreign_source` of where it was read.
    """
    from pso_attn.store.foreign import foreign_history, foreign_space

    return ReportInput(
        name=study.study_name,
        history=foreign_history(study),
        space=foreign_space(study),
        study=study,
        is_foreign=True,
        source=source,
    )


def folder_name(study: str) -> str:
    """Return a study's name as a folder may have it."""
    plain = re.sub(r"[^\w.-]+", "-", study).strip(".-")
    return plain[:100] or "study"
