"""Several runs on one page: who leads, at what cost, and what speaks against it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pso_attn.report import ReportInput, ink
from pso_attn.report.together import documents, entries, groups, sentences, summary_rows
from pso_attn.report.together_page import build_together
from pso_attn.report.words import ABSENT
from pso_attn.testing.reporting import sample_confirmation, sample_run
from pso_attn.types import History, Objective

ACCURACY = Objective("accuracy", "maximize")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels are drawn sooner."""
    monkeypatch.setattr(ink, "DPI", 40)


@pytest.fixture(scope="module")
def short() -> ReportInput:
    return sample_run(3, 6, name="short")


@pytest.fixture(scope="module")
def longer() -> ReportInput:
    return sample_run(5, 6, name="longer")


def study(run: ReportInput, name: str = "theirs") -> ReportInput:
    """Return the run as a stranger's study whose objective has no name."""
    unnamed = History((Objective("value", "minimize"),), run.history.generations)
    return replace(run, name=name, history=unnamed, configuration={}, is_foreign=True)


def with_steps(run: ReportInput, steps: int) -> ReportInput:
    budget = {**run.configuration["budget"], "steps": steps}
    return replace(run, configuration={**run.configuration, "budget": budget})


def with_objective(run: ReportInput, name: str) -> ReportInput:
    document = {key: value for key, value in run.configuration.items() if key != "task"}
    return replace(run, configuration={**document, "objective": name})


def page_of(runs: list[ReportInput], folder: Path) -> str:
    pages = [folder / run.name / "index.html" for run in runs]
    written = build_together(entries(runs), pages, folder)
    return written.read_text()


def test_the_longer_run_leads_and_what_both_had_by_then_stands_beside_it(
    short: ReportInput, longer: ReportInput
) -> None:
    found = entries([short, longer])
    columns, (first, second) = summary_rows(found)
    assert columns == ["run", "best", "best of 18", "found at", "trainings", "time", "sampler"]
    assert (first[0], first[4], second[4]) == ("short", "18", "30")
    assert first[1] == first[2] == second[2]  # the same search up to there
    assert documents(found)[1]["best"] < documents(found)[0]["best"]
    assert sentences(found)[0].startswith("longer has the best validation loss, ")
    assert "another seed may turn the order round" in sentences(found)[-1]


def test_equals_lead_together(short: ReportInput) -> None:
    said = sentences(entries([short, replace(short, name="again")]))
    assert said[0].startswith("short and again have the best validation loss")


def test_what_keeps_values_from_comparing_is_said(short: ReportInput, longer: ReportInput) -> None:
    assert len(sentences(entries([short, longer]))) == 2
    said = sentences(entries([short, with_steps(longer, 100)]))
    assert any("differ in steps of a training" in s and "longer 100" in s for s in said)
    mine, yours = (
        with_objective(run, f"{name}:loss") for run, name in ((short, "mine"), (longer, "yours"))
    )
    said = sentences(entries([mine, yours]))
    assert any("differ in what they train on" in s and "objective yours:loss" in s for s in said)
    said = sentences(entries([short, study(longer)]))
    assert any("Nothing says what theirs measured" in sentence for sentence in said)
    assert any("on what data, or for how long, theirs trained" in sentence for sentence in said)


def test_runs_that_measure_different_things_are_not_ranked(
    short: ReportInput, longer: ReportInput, tmp_path: Path
) -> None:
    other = sample_run(3, 6, name="other", objective=ACCURACY)
    found = entries([short, other, study(longer)])
    assert [[e.label for e in group] for _, group in groups(found)] == [
        ["short", "theirs"],
        ["other"],
    ]
    assert any("other has a best validation accuracy" in sentence for sentence in sentences(found))
    page_of([short, other], tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "best_loss.png",
        "best_accuracy.png",
    }


def test_what_is_shared_with_an_objective_without_a_name_has_none(
    short: ReportInput, longer: ReportInput, tmp_path: Path
) -> None:
    page = page_of([short, study(longer)], tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == ["best_value.png"]
    assert "theirs has the best value, " in page
    assert "Best value so far" in page
    assert "validation loss" not in page


def test_the_page_links_each_runs_own_and_shows_a_confirmed_test_score(
    short: ReportInput, longer: ReportInput, tmp_path: Path
) -> None:
    confirmed = replace(short, confirmation=sample_confirmation(short))
    page = page_of([confirmed, replace(longer, name="a b<i>"), study(longer)], tmp_path)
    assert re.findall('<a href="([^"]+)">', page) == [
        "short/index.html",
        "a%20b%3Ci%3E/index.html",
        "theirs/index.html",
    ]
    assert "<i>" not in page
    assert ">test</th>" in page
    assert "±" in page
    assert page.count("<img") == 1
    assert not re.findall('(?:src|href)="(?!data:|[a-z]+/|a%20b)', page)


def test_runs_in_which_nothing_completed_or_nothing_ran_are_shown_as_such(
    short: ReportInput, tmp_path: Path
) -> None:
    empty = replace(short, name="empty", history=History(short.history.objectives), study=None)
    page = page_of([short, empty], tmp_path / "one")
    assert "short has the best validation loss" in page
    page = page_of([empty, replace(empty, name="void")], tmp_path / "two")
    assert "Nothing completed in empty and void." in page
    assert "<img" not in page


def test_a_study_whose_objective_has_no_name_and_no_likeness_is_held_against_nobody(
    short: ReportInput,
) -> None:
    other = sample_run(3, 6, name="other", objective=ACCURACY)
    said = " ".join(sentences(entries([other, study(short)])))
    assert re.search("theirs has a best value, [^;]*; nothing says what that is", said)
    assert "taken for the same" not in said


def test_runs_without_an_evaluation_have_no_part_in_the_column_of_equal_numbers(
    short: ReportInput, longer: ReportInput
) -> None:
    empty = replace(short, name="empty", history=History(short.history.objectives), study=None)
    columns, rows = summary_rows(entries([empty, short, longer]))
    assert columns[2] == "best of 18"
    assert rows[0][1:3] == (ABSENT, ABSENT)
    assert rows[1][2] == rows[2][2]
    assert not any(c.startswith("best of") for c in summary_rows(entries([empty, short]))[0])


def test_runs_whose_every_value_is_infinite_completed(short: ReportInput) -> None:
    generations = tuple(
        tuple(
            replace(trial, outcome=replace(trial.outcome, values=(float("inf"),)))
            for trial in generation
        )
        for generation in short.history.generations
    )
    infinite = replace(short, name="infs", history=History(short.history.objectives, generations))
    empty = replace(short, name="empty", history=History(short.history.objectives), study=None)
    assert sentences(entries([empty, infinite]))[0] == (
        "Nothing completed in empty. Nothing completed with a finite value in infs."
    )


def test_two_of_one_name_are_told_apart(short: ReportInput) -> None:
    assert [entry.label for entry in entries([short, short])] == ["short", "short (2)"]
