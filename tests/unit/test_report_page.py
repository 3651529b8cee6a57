"""The written report: whole, self-contained, escaped, and honest on every kind of run."""

import re
import struct
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pso_attn.report import build_report, ink, plots
from pso_attn.space import Knob
from pso_attn.testing.reporting import sample_confirmation, sample_run
from pso_attn.types import History, Objective, State

SMALL = (3, 6)  # generations, particles
NAMES = ("convergence", "finalists", "importances", "knobs", "curves", "diversity")


class Page(HTMLParser):
    """The parts of a page that a reader or a browser goes by."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels are drawn sooner."""
    monkeypatch.setattr(ink, "DPI", 40)


@pytest.fixture(scope="module")
def run():
    return sample_run(*SMALL)


@pytest.fixture(scope="module")
def confirmed(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("confirmed") / "report"
    return build_report(replace(run, confirmation=sample_confirmation(run)), folder)


def altered(run, change):
    """The run with every outcome as `change(trial)` gives it, and no study."""
    generations = tuple(
        tuple(replace(trial, outcome=change(trial)) for trial in generation)
        for generation in run.history.generations
    )
    return replace(run, history=History(run.history.objectives, generations), study=None)


def test_a_report_is_a_page_its_pictures_and_the_trials(confirmed):
    written = {path.name for path in confirmed.parent.iterdir()}
    assert written == {"index.html", "trials.csv", *(f"{name}.png" for name in NAMES)}
    assert len(pd.read_csv(confirmed.parent / "trials.csv")) == SMALL[0] * SMALL[1]


def test_pictures_are_900_pixels_wide_at_twice_the_density(confirmed):
    for name in NAMES:
        head = (confirmed.parent / f"{name}.png").read_bytes()[:24]
        assert struct.unpack(">I", head[16:20])[0] == 1800


def test_the_page_needs_no_network(confirmed):
    page = Page(confirmed)
    assert not page.all("script")
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith(("data:", "trials.csv"))
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_every_picture_has_words_and_every_table_has_headers(confirmed):
    page = Page(confirmed)
    assert len(page.all("img")) == len(NAMES)
    assert all(len(image["alt"]) > 10 for image in page.all("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 3


def test_the_first_section_says_what_was_found_and_how_big_it_is(confirmed):
    top = Page(confirmed).text.split("Best settings beside the defaults")[0]
    assert "Confirmed The winner is better over 5 seeds." in top
    for figure in ("Best validation loss", "Test loss", "Gain in test loss", "Parameters"):
        assert figure in top
    assert "seed noise" in top


def test_the_baselines_and_the_repeating_command_are_on_the_page(confirmed):
    text = Page(confirmed).text
    assert "logistic regression" in text
    assert "pso-attn search runs/sample/config.toml --run sample-again" in text
    assert "data fingerprint 5e1f" in text
    assert "versions torch 2.13.0" in text


def test_an_unconfirmed_run_prints_the_command_and_keeps_no_older_picture(run, tmp_path):
    (tmp_path / "finalists.png").write_bytes(b"of an earlier report")
    text = Page(build_report(run, tmp_path)).text
    assert "Not confirmed" in text
    assert "pso-attn confirm sample" in text
    assert not (tmp_path / "finalists.png").exists()


def test_what_a_person_named_is_escaped(run, tmp_path):
    hostile = "<script>alert('1')</script> & \"co\""
    broken = altered(
        run,
        lambda trial: (
            replace(trial.outcome, state=State.FAIL, values=None, error=hostile)
            if trial.number == 1
            else trial.outcome
        ),
    )
    named = replace(
        broken, name=hostile, configuration={**run.configuration, "task": hostile, "data": hostile}
    )
    page = Page(build_report(named, tmp_path))
    assert not page.all("script")
    assert page.text.count("<script>") >= 4


def test_nothing_completed_and_nothing_was_measured(run, tmp_path):
    failed = altered(
        run,
        lambda trial: replace(
            trial.outcome, state=State.FAIL, values=None, curve={}, metrics={}, error="diverged"
        ),
    )
    text = Page(build_report(replace(failed, configuration={}, environment={}), tmp_path)).text
    assert "Nothing completed" in text
    assert "diverged" in text
    assert "No trial reported a learning curve" in text
    assert (tmp_path / "diversity.png").exists()  # where the swarm went is known all the same


def test_no_trial_at_all(run, tmp_path):
    text = Page(build_report(replace(run, history=History((run.objective,))), tmp_path)).text
    assert "Nothing run yet" in text


def test_one_trial(run, tmp_path):
    one = History((run.objective,), (run.history.generations[0][:1],))
    page = Page(build_report(replace(run, history=one, study=None), tmp_path))
    assert "Nothing beat the defaults, which reached" in page.text
    assert "pso-attn confirm" not in page.text
    assert (tmp_path / "convergence.png").exists()


def test_one_knob(tmp_path):
    knob = Knob("lr", "float", "", low=1e-4, high=1e-2, log=True)
    run = sample_run(*SMALL, knobs=[knob])
    assert "Only one setting was searched" in Page(build_report(run, tmp_path)).text
    assert (tmp_path / "knobs.png").exists()


def test_equal_losses(run, tmp_path):
    level = altered(
        run, lambda t: replace(t.outcome, values=(1.0,), curve=dict.fromkeys(t.outcome.curve, 1.0))
    )
    assert "All values are equal." in Page(build_report(level, tmp_path)).text


def test_huge_outliers_are_cut_and_counted(run, tmp_path):
    exploded = altered(
        run,
        lambda t: (
            replace(t.outcome, state=State.COMPLETE, values=(1e12,))
            if t.number == 9
            else t.outcome
        ),
    )
    text = Page(build_report(exploded, tmp_path)).text
    assert re.search(r"1 of \d+ lie above the axis, up to 1,000,000,000,000", text)


def test_a_maximised_metric_with_batches_of_one(tmp_path):
    run = sample_run(18, 6, batch=1, objective=Objective("accuracy", "maximize"))
    run = replace(run, confirmation=sample_confirmation(run))
    page = Page(build_report(run, tmp_path))
    assert "Best validation accuracy" in page.text
    assert "8 evaluations in a row" in page.text


@pytest.mark.slow
def test_more_knobs_than_panels_are_said_to_be_left_out(tmp_path):
    knobs = [Knob(f"x{k}", "float", "", low=0.0, high=1.0) for k in range(20)]
    run = sample_run(2, 8, knobs=knobs)
    assert "The 12 of 20 that come first." in Page(build_report(run, tmp_path)).text


@pytest.mark.slow
def test_two_thousand_trials(tmp_path):
    run = sample_run(1, 20)
    generation = run.history.generations[0]
    many = tuple(
        tuple(
            replace(trial, generation=g, candidate=replace(trial.candidate, trial=20 * g + slot))
            for slot, trial in enumerate(generation)
        )
        for g in range(100)
    )
    path = build_report(replace(run, history=History((run.objective,), many)), tmp_path)
    assert "2,000 trials" in Page(path).text


def test_an_axis_shows_what_most_values_need():
    near = np.linspace(1.0, 2.0, 50)
    assert ink.scale_for(near) == ink.Scale()
    assert ink.scale_for(np.geomspace(1e-4, 1.0, 50)).kind == "log"
    cut = ink.scale_for([*near, 1e6])
    assert 2.0 < cut.high < 2.2
    assert cut.low < 1.0
    turned = ink.scale_for([*near, -1e6], maximise=True)
    assert turned.low > 0.8
    assert turned.high > 2.0
    assert ink.scale_for([*near, 9.0], keep=[9.0]).high is None
    assert not ink.scale_for([*near, 1e6], keep=[1e6]).shows(1e6)
    assert ink.scale_for([]) == ink.Scale()


def test_curves_over_many_decades_fill_their_logarithmic_axis():
    values = [2e6, 2e9, 1e7, 3e11, 3e6, 1e10]
    curves = pd.DataFrame({"trial": [0, 0, 1, 1, 2, 2], "step": [8, 15] * 3, "value": values})
    curves["ending"] = ["pruned"] * 4 + ["failed"] * 2
    loss, scale = Objective("loss", "minimize"), ink.scale_for(values)
    (axis,) = plots.learning_curves(curves, loss, [15], {"defaults": 0}, scale).axes
    low, high = axis.get_ylim()
    assert axis.get_yscale() == "log"
    assert 1e5 < low < 2e6 < 3e11 < high < 3e12
