"""What a search for weights leaves to be seen: its report, and what the commands say of it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.report import ReportInput, build_report, ink, plain_summary
from pso_attn.report import components as components_module
from pso_attn.report.components import MOST, components
from pso_attn.report.findings import findings
from pso_attn.report.together import entries, groups, sentences
from pso_attn.report.together_page import build_together
from pso_attn.testing.reporting import sample_run
from pso_attn.types import Candidate, History, Objective, Outcome, State, Trial

SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
[search]
{search}
[weights]
mode = "{mode}"
start = "trained"
quantise = "ternary"
examples = 64
[budget]
particles = 6
generations = 3
steps = 20
"""
OF_WEIGHTS = {"matrices", "attention", "heads", "swarm", "convergence", "diversity"}


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: one of weights alone, and one of settings and weights."""
    folder = tmp_path_factory.mktemp("runs")
    for name, mode, search in (("w", "weights", ""), ("j", "joint", "heads = [1, 2, 4]")):
        space = folder / f"{name}.toml"
        space.write_text(SPACE.format(mode=mode, search=search))
        done = cli("search", space, "--run", name, "--runs-dir", folder, "--sampler", "random")
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def run(runs: Path) -> ReportInput:
    return load_run("w", runs).report_input()


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels are drawn sooner."""
    monkeypatch.setattr(ink, "DPI", 40)


def text_of(page: Path) -> str:
    source = re.sub(r"<style>.*?</style>|<img[^>]*>|<[^>]+>", " ", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", source)


def test_the_page_shows_what_changed_and_what_it_is_held_against(
    run: ReportInput, runs: Path, tmp_path: Path
) -> None:
    text = text_of(build_report(run, tmp_path))
    assert {path.stem for path in tmp_path.glob("*.png")} == OF_WEIGHTS
    control = json.loads((runs / "w" / "control.json").read_text())
    for name in ("untouched", "gradient", "best"):
        assert f"{control[name]['fitness']:.3f}"[:5] in text
    assert f"gradient descent, {control['gradient']['steps']} step" in text
    assert "1,024" in text  # weights searched
    assert "The search has not finished" not in text
    for absent in ("Learning curves", "What mattered", "Best settings"):
        assert absent not in text
    assert "there are no learning curves" in text


def test_without_a_control_the_page_says_that_the_search_has_not_finished(
    run: ReportInput, tmp_path: Path
) -> None:
    assert run.weights is not None
    going = replace(run, weights=replace(run.weights, control=None))
    text = text_of(build_report(going, tmp_path))
    assert text.count("The search has not finished") == 3  # on top, at the table, at the lines
    assert "gradient descent, " not in text


def test_without_the_models_the_rest_is_still_told(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "w", tmp_path / "w", ignore=shutil.ignore_patterns("checkpoints"))
    page = build_report(load_run("w", tmp_path).report_input(), tmp_path / "report")
    assert text_of(page).count("holds no model") == 2
    assert not (page.parent / "matrices.png").exists()
    assert (page.parent / "swarm.png").exists()


def test_matrices_are_those_of_the_kept_models_as_they_are_used(
    run: ReportInput, runs: Path
) -> None:
    assert run.weights is not None
    first, best = (
        load_file(runs / "w" / "checkpoints" / f"{name}.safetensors") for name in ("start", "best")
    )
    assert [pair.name for pair in run.weights.matrices] == [
        *("layer 0 Wq", "layer 0 Wk", "layer 0 Wv", "layer 0 Wo")
    ]
    for pair, part in zip(run.weights.matrices, ("query", "key", "value", "output"), strict=True):
        name = f"blocks.0.attention.{part}"
        assert len(np.unique(pair.before)) == len(np.unique(pair.after)) == 3
        kept = np.sign(pair.before) != 0
        assert (np.sign(pair.before) == np.sign(first[name]))[kept].all()
        np.testing.assert_array_equal(pair.after, best[name])
        assert (pair.before != pair.after).any()
    example = run.weights.maps[0]
    np.testing.assert_allclose(example.after[0].sum(-1), 1.0, rtol=1e-5)
    assert np.abs(example.after[0] - example.before[0]).max() > 1e-3


def test_the_top_speaks_of_weights_and_not_of_settings(run: ReportInput) -> None:
    found = findings(run)
    assert found.defaults is run.history.trials[0]
    assert found.best is not found.defaults
    assert "untouched" in found.sentence
    assert "gradient descent reaches at equal compute" in found.sentence
    assert "defaults" not in " ".join(plain_summary(run))
    alone = History(run.history.objectives, (run.history.generations[0][:1],))
    assert findings(replace(run, history=alone)).sentence.startswith(
        "Nothing beat the untouched weights"
    )


def test_a_search_that_has_only_begun_or_has_failed_is_told_as_any_other(
    run: ReportInput, tmp_path: Path
) -> None:
    assert run.weights is not None
    begun = replace(
        run,
        history=History(run.history.objectives),
        weights=replace(run.weights, control=None, matrices=(), maps=(), trial=None),
    )
    assert "Nothing run yet" in text_of(build_report(begun, tmp_path))
    failed = tuple(
        replace(t, outcome=replace(t.outcome, state=State.FAIL, values=None, error="not finite"))
        for t in run.history.generations[0]
    )
    broken = replace(begun, history=History(run.history.objectives, (failed,)))
    assert "None of 6 trials completed" in text_of(build_report(broken, tmp_path))


def test_a_joint_search_shows_its_settings_as_well(runs: Path, tmp_path: Path) -> None:
    run = load_run("j", runs).report_input()
    text = text_of(build_report(run, tmp_path))
    assert {path.stem for path in tmp_path.glob("*.png")} >= {*OF_WEIGHTS, "knobs"}
    assert "Best settings beside the defaults" in text
    assert "the weights, which moved with them" in text


def test_commands_say_on_which_split_they_measured(runs: Path) -> None:
    folder = ("--runs-dir", runs)
    shown = cli("show", "w", *folder).stdout
    assert "1,024 coordinates of weights" in shown
    for words in ("train loss", "validation loss", "validation accuracy", "untouched"):
        assert words in shown
    best = json.loads(cli("best", "w", "--json", *folder).stdout)
    assert best["fitness"] == {"value": best["fitness"]["value"], "split": "train", "examples": 64}
    assert best["loss"] == best["metrics"]["loss"] != best["fitness"]["value"]
    assert "1 knob and 1,024 coordinates of weights" in cli("show", "j", *folder).stdout
    assert cli("verify", "w", *folder).exit_code == 0


def test_a_search_for_weights_is_ranked_with_no_search_for_settings(
    run: ReportInput, runs: Path, tmp_path: Path
) -> None:
    found = entries([run, load_run("j", runs).report_input(), sample_run(1, 3, name="s")])
    assert [[entry.label for entry in group] for _, group in groups(found)] == [["w", "j"], ["s"]]
    assert "has the best train loss" in sentences(found)[0]
    assert "s has a best validation loss" in sentences(found)[1]
    build_together(found, [tmp_path / "own.html"] * 3, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "best_loss.png",
        "best_loss_64_of_train.png",
    }


@pytest.mark.parametrize(("count", "size"), [(9, 40), (40, 9), (5, 1)])
def test_components_are_those_of_the_singular_value_decomposition(count: int, size: int) -> None:
    history = scattered(count, size)
    found = components(history, 0, history.trials[3], history.trials[0])
    assert found is not None
    positions = np.stack([trial.position for trial in history.trials])
    u, s, _ = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=False)
    wanted = (u * s)[:, :2]
    np.testing.assert_allclose(
        np.abs(found.points[:, : wanted.shape[1]]), np.abs(wanted), atol=1e-5
    )
    np.testing.assert_allclose(sum(found.shares), (s[:2] ** 2).sum() / (s**2).sum(), rtol=1e-5)
    assert (found.best, found.start) == (3, 0)


def test_of_many_positions_a_part_is_taken_and_the_best_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = scattered(MOST + 501, 3)
    for best in (history.trials[17], history.trials[-2]):
        found = components(history, 1, best, history.trials[0])
        assert found is not None
        assert MOST <= len(found.points) <= MOST + 1
        assert found.best is not None
        assert found.generations[found.best] == best.generation
    monkeypatch.setattr(components_module, "MOST_FLOATS", 30)
    long = components(history, 0, history.trials[-2], None)
    assert long is not None
    assert len(long.points) == 11  # ten of three coordinates, and the best
    same = replace(history.trials[0].candidate, position=np.full(3, 0.5))
    level = tuple(replace(trial, candidate=same) for trial in history.trials[:5])
    assert components(History(history.objectives, (level,)), 0, None, None) is None


def scattered(count: int, size: int) -> History:
    """Trials at random positions, ten to a generation."""
    positions = np.random.default_rng(0).random((count, size))
    trials = [
        Trial(
            number // 10,
            Candidate(number, number % 10, position, {}, {}, ()),
            Outcome(number, State.COMPLETE, (1.0,), {}, {}, 0.0, 1.0),
        )
        for number, position in enumerate(positions)
    ]
    parts = tuple(tuple(trials[first : first + 10]) for first in range(0, count, 10))
    return History((Objective("loss", "minimize"),), parts)
