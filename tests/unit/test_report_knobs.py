"""Small plots of settings against the objective: what they say can be read."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pso_attn.report import ReportInput, ink
from pso_attn.report.comparisons import knob_panels
from pso_attn.report.frames import trials_frame
from pso_attn.testing.reporting import sample_run
from pso_attn.types import State


@pytest.fixture(scope="module")
def run() -> ReportInput:
    return sample_run(4, 10)


def panels(run: ReportInput, decades: float) -> Figure:
    """Return the drawn panels of the run's complete trials, their losses spread over decades."""
    trials = trials_frame(run.history)
    trials = trials[trials["state"] == State.COMPLETE.name].reset_index(drop=True)
    trials["values.loss"] = np.logspace(-decades, 0, len(trials))
    scale = ink.scale_for(trials["values.loss"])
    figure = knob_panels(trials, run.space.coordinates, run.objective, scale, None)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]  # untyped
    return figure


@pytest.mark.parametrize("decades", [2.1, 2.3, 3.0, 4.0, 6.0, 9.0, 14.0])
def test_no_label_of_the_values_lies_on_another(run: ReportInput, decades: float) -> None:
    axis = panels(run, decades).axes[0]
    assert axis.get_yscale() == "log"
    low, high = axis.get_ylim()
    labels = [label for label in axis.get_yticklabels() if low <= label.get_position()[1] <= high]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert len(boxes) >= 3
    assert all(below.y1 < above.y0 for below, above in pairwise(boxes))


def test_a_setting_that_no_complete_evaluation_had_says_so(run: ReportInput) -> None:
    trials = run.history.trials
    assert any("window_tokens" in trial.candidate.params for trial in trials)
    said = [axis.texts[0].get_text() for axis in panels(run, 2.0).axes if axis.texts]
    assert said == []
    without = tuple(
        tuple(
            replace(trial, outcome=replace(trial.outcome, state=State.FAIL))
            if "window_tokens" in trial.candidate.params
            else trial
            for trial in generation
        )
        for generation in run.history.generations
    )
    failed = replace(run, history=replace(run.history, generations=without))
    found = {axis.get_xlabel(): axis.texts for axis in panels(failed, 2.0).axes}
    assert found["window_tokens (log)"][0].get_text() == "acted in no\ncomplete evaluation"
    assert sum(map(len, found.values())) == 1
