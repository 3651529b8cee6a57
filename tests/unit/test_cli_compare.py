"""Real tiny comparisons through the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.evaluate.device import cores
from pso_attn.store.folder import RunFolder

TINY = ("--particles", "3", "--generations", "2", "--set", "budget.steps=3")


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def values(run: str, folder: Path) -> list[Any]:
    return [trial.outcome.values for trial in load_run(run, folder).history.trials]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a comparison of two samplers over one seed."""
    folder = tmp_path_factory.mktemp("compare") / "runs"
    result = cli(
        *("compare", "digits", "--samplers", "pso,random", "--seeds", "1", *TINY),
        *("--runs-dir", folder),
    )
    assert result.exit_code == 0, result.stderr
    assert "1/2: pso, seed 0" in result.stderr
    assert max(len(line) for line in result.stdout.splitlines()[:-1]) <= 80
    return folder


def test_every_sampler_has_to_fit_the_space_before_any_searches(tmp_path: Path) -> None:
    small = ("--seeds", "1", "--particles", "3", "--generations", "1", "--runs-dir", tmp_path)
    result = cli("compare", "digits-weights", "--samplers", "random,tpe", *small)
    assert result.exit_code == 2
    assert "sampler tpe searches knobs by name" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_more_seeds_join_and_an_interrupted_cell_is_taken_up_again(runs: Path) -> None:
    cells = runs / "digits-compare"
    page = cells / "report" / "index.html"
    assert page.is_file()
    journal = cells / "digits-pso-seed0" / "journal.log"
    before = journal.read_bytes()
    for where, name, timeout in (
        (cells, "digits-random-seed1", "0"),
        (runs, "uninterrupted", "1000"),
    ):
        search = ("search", "digits", *TINY, "--sampler", "random", "--seed", "1", "--run", name)
        assert cli(*search, "--timeout", timeout, "--runs-dir", where).exit_code == 0
    result = cli(
        *("compare", "digits", "--samplers", "pso,random", "--seeds", "2", *TINY),
        *("--runs-dir", runs, "--json"),
    )
    assert result.exit_code == 0, result.stderr
    assert "pso, seed 0" not in result.stderr
    assert journal.read_bytes() == before
    assert values("digits-random-seed1", cells) == values("uninterrupted", runs)
    found = json.loads(result.stdout)
    assert (found["schema"], found["seeds"], found["trainings"]) == (1, [0, 1], 6)
    pso, random = found["samplers"]
    assert pso["against"] is None
    against = random["against"]
    assert against["sampler"] == "pso"
    assert against["wins"] + against["ties"] + against["losses"] == 2
    best = load_run("digits-random-seed1", cells).best()
    assert best is not None
    assert best.outcome.values is not None
    assert random["searches"][1]["best"] == best.outcome.values[0]
    assert 0 < pso["seconds_proposing"] < 60
    assert Path(found["index"]) == page


def test_a_comparison_is_no_run_and_where_its_runs_are_is_said(runs: Path) -> None:
    for named in (("digits-compare", "--runs-dir", runs), (runs / "digits-compare",)):
        result = cli("show", *named)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "digits-compare is no run but a folder of runs, as a comparison is" in result.stderr
        assert f"`pso-attn runs --runs-dir {runs / 'digits-compare'}`" in result.stderr


def test_the_cells_of_a_seed_start_from_the_same_first_training(runs: Path) -> None:
    cells = runs / "digits-compare"
    assert values("digits-pso-seed0", cells)[0] == values("digits-random-seed0", cells)[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--samplers", "pso,rndom"), '"rndom" is not a sampler; did you mean "random"?'),
        (("--samplers", "pso,pso"), "--samplers names pso twice"),
        (("--samplers", ","), "--samplers is empty"),
        (("--samplers", "pso", "--set", "budget.steps=4"), "budget.steps = 3, and now it is 4"),
        (("--samplers", "pso", "--set", "search.heads=[1,2]"), "begun with search.heads"),
        (("--samplers", "a:B", "--no-import"), "--no-import refuses"),
        (("--samplers", "pso", "--run", "../x"), "cannot be a run's name"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_exit_2(
    runs: Path, more: tuple[str, ...], said: str
) -> None:
    result = cli("compare", "digits", "--seeds", "1", *TINY, "--runs-dir", runs, *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_options_of_one_sampler_are_not_given_to_another(tmp_path: Path) -> None:
    result = cli(
        *("compare", "digits", "--samplers", "random,pso", "--seeds", "1", *TINY),
        *("--set", "swarm.draws=5", "--runs-dir", tmp_path),
    )
    assert result.exit_code == 0, result.stderr
    assert "note: [swarm] is pso's alone; random without it" in result.stderr
    cells = tmp_path / "digits-compare"
    assert load_run("digits-pso-seed0", cells).started.swarm == {"draws": 5}
    assert load_run("digits-random-seed0", cells).started.swarm == {}


def test_a_cell_of_weights_is_the_search_of_its_seed(tmp_path: Path) -> None:
    compared = ("digits-weights", "--samplers", "random", "--seeds", "2", *TINY)
    assert cli("compare", *compared, "--runs-dir", tmp_path).exit_code == 0
    alone = ("digits-weights", "--sampler", "random", "--seed", "1", "--run", "alone", *TINY)
    assert cli("search", *alone, "--runs-dir", tmp_path).exit_code == 0
    cells = tmp_path / "digits-weights-compare"
    assert values("digits-weights-random-seed1", cells) == values("alone", tmp_path)
    first, second = (cells / f"digits-weights-random-seed{seed}" for seed in (0, 1))
    start = "checkpoints/start.safetensors"
    assert (first / start).read_bytes() != (second / start).read_bytes()


@pytest.mark.parametrize("samplers", ["random,pso-consensus", "pso-consensus,random"])
def test_a_sampler_that_moves_no_weights_is_refused_wherever_it_stands(
    tmp_path: Path, samplers: str
) -> None:
    refused = cli(
        "compare", "digits-weights", "--samplers", samplers, *TINY, "--runs-dir", tmp_path
    )
    assert refused.exit_code == 2, refused.stderr
    assert "averages weights" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_comparison_of_lstms_goes_on_whatever_way_is_quicker_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("compare", "lstm", "--samplers", "random", *TINY, "--runs-dir", tmp_path)
    for way, seeds in (("batched", "1"), ("one_by_one", "2")):
        monkeypatch.setattr("pso_attn.evaluate.planner.Planner.quickest", lambda *_, way=way: way)
        done = cli(*command, "--seeds", seeds)
        assert done.exit_code == 0, done.stderr
    cells = RunFolder.list(tmp_path / "lstm-compare")
    assert [load_run(one.path).started.model["recurrence"] for one in cells] == ["batched"] * 2


@pytest.mark.slow
def test_the_searches_of_a_comparison_train_in_processes_and_go_on_there(tmp_path: Path) -> None:
    command = ("compare", "digits", "--samplers", "random", *TINY, "--runs-dir", tmp_path)
    processes = ("--executor", "processes")
    result = cli(*command, "--seeds", "1", *processes)
    assert result.exit_code == 0, result.stderr
    begun = load_run("digits-random-seed0", tmp_path / "digits-compare").started.execution
    assert begun.executor == "processes"
    assert begun.workers == cores()
    again = cli(*command, "--seeds", "2", *processes, "--chunk-timeout", "500")
    assert again.exit_code == 0, again.stderr
    assert "random, seed 0" not in again.stderr
    elsewhere = cli(*command, "--seeds", "1")
    assert elsewhere.exit_code == 2
    assert "begun with run.executor = processes, and now it is local" in elsewhere.stderr


def test_the_page_shows_no_password(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "run.storage=postgresql://ann:se cret@host/db"
    monkeypatch.setattr(sys, "argv", ["pso-attn", "compare", "digits", "--set", url, "--quiet"])
    result = cli(
        *("compare", "digits", "--samplers", "pso,random", "--seeds", "1", *TINY),
        *("--runs-dir", runs),
    )
    assert result.exit_code == 0, result.stderr
    page = (runs / "digits-compare" / "report" / "index.html").read_text()
    assert "ann:***@host/db" in page
    assert "se cret" not in page
    assert "--quiet" in page
