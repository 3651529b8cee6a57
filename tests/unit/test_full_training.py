"""Training at full length: the winner of a real tiny run, and settings of one's own."""

import json
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from pso_attn import full_training, load_run
from pso_attn.checkpoints import TRAINED, load_checkpoint, save_checkpoint
from pso_attn.cli.app import app
from pso_attn.courses import Course, Plan
from pso_attn.errors import StorageError, TrainingError
from pso_attn.evaluate import SwarmTraining, cost
from pso_attn.full_training import train_run
from pso_attn.types import Objective

TINY = ("--particles", "3", "--generations", "1", "--set", "budget.steps=3")


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(*arguments: str | Path) -> Any:
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with two finished runs, `digits` and `text`."""
    folder = tmp_path_factory.mktemp("train") / "runs"
    text = folder.parent / "small.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    for space, more in (("digits", ()), ("text", ("--set", f"data={text}"))):
        made = cli("search", space, *TINY, *more, "--run", space, "--runs-dir", folder)
        assert made.exit_code == 0, made.stderr
    return folder


@pytest.fixture
def checkpoints(runs: Path) -> Path:
    """The checkpoints of `digits`, with nothing trained yet."""
    folder = runs / "digits" / "checkpoints"
    for path in folder.glob("train*"):
        path.unlink()
    return folder


def interrupted(runs: Path, at: int, **options: Any) -> None:
    """Train `digits` and be interrupted once that many steps are done."""

    def stop(done: int, total: int, words: str) -> None:
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(load_run("digits", runs), report=stop, **options)


@pytest.mark.parametrize("name", ["digits", "text"])
def test_the_winner_is_trained_ten_times_as_long_and_stands_beside_the_search(
    runs: Path, name: str
) -> None:
    before = (runs / name / "journal.log").read_bytes()
    trained = document("train", name, "--runs-dir", runs)
    best = load_run(name, runs).best()
    assert best is not None
    assert trained["settings"] == best.candidate.settings
    assert (trained["trial"], trained["steps"]) == (best.number, 30)
    assert trained["search"]["metrics"]["loss"] == best.outcome.metrics["loss"]
    assert trained["loss"] == min(trained["curve"].values()) < trained["search"]["metrics"]["loss"]
    assert load_file(trained["checkpoint"]).keys() >= {"embedding", "head"}
    assert (runs / name / "journal.log").read_bytes() == before  # no use of the test split to log


def test_the_terminal_shows_both_losses_and_what_comes_next(runs: Path, checkpoints: Path) -> None:
    result = cli("train", "digits", "--steps", "6", "--runs-dir", runs)
    assert result.exit_code == 0
    assert "search: trial" in result.stdout
    assert "stopped:  all steps are done (6 of 6)" in result.stdout
    assert "pso-attn export digits --runs-dir" in result.stdout
    assert "training: 6 steps done" in result.stderr
    quiet = cli("train", "digits", "--steps", "6", "--runs-dir", runs, "--quiet")
    assert quiet.stderr == ""
    loaded = load_checkpoint(checkpoints / TRAINED)
    assert loaded is not None
    assert float(quiet.stdout) == loaded.about["course"]["metrics"]["loss"]


@pytest.mark.parametrize("at", [1, 12, 30])
def test_an_interrupted_training_goes_on_to_the_same_floats(
    runs: Path, checkpoints: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_training, "SAVE_EVERY_S", 0.0)
    run = load_run("digits", runs)
    expected = train_run(run)
    weights = load_file(checkpoints / TRAINED)
    (checkpoints / TRAINED).unlink()
    interrupted(runs, at)
    steps: list[int] = []
    resumed = train_run(run, report=lambda done, total, words: steps.append(done))
    assert resumed == expected
    assert min(steps, default=30) >= at
    found = load_file(checkpoints / TRAINED)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert sorted(p.name for p in checkpoints.iterdir()) == ["best.safetensors", TRAINED]


def test_a_loss_that_was_no_number_is_not_forgotten_between_scorings(
    runs: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = SwarmTraining.train_step

    def poisoned(training: SwarmTraining, step: Any) -> None:
        if step == 24:
            training.swarm.storage.weights[:] = nan
        take(training, step)

    monkeypatch.setattr(SwarmTraining, "train_step", poisoned)
    monkeypatch.setattr(full_training, "SAVE_EVERY_S", 0.0)
    run = load_run("digits", runs)
    expected = train_run(run, steps=400)  # scored after every tenth
    assert expected["stopped"].startswith("diverged: the training loss at step 25 ")
    (checkpoints / TRAINED).unlink()
    interrupted(runs, 28, steps=400)
    steps: list[int] = []
    assert train_run(run, steps=400, report=lambda done, *_: steps.append(done)) == expected
    assert min(steps) > 20


def test_the_same_command_after_the_end_trains_nothing(runs: Path, checkpoints: Path) -> None:
    run = load_run("digits", runs)
    first = train_run(run, steps=6)
    written = (checkpoints / TRAINED).stat().st_mtime_ns
    assert train_run(run, steps=6, report=lambda *_: pytest.fail("trained again")) == first
    assert (checkpoints / TRAINED).stat().st_mtime_ns == written


def test_the_model_of_another_training_stays_beside_the_last_and_is_the_last_again_when_asked(
    runs: Path, checkpoints: Path
) -> None:
    run = load_run("digits", runs)
    first = train_run(run, steps=6)
    weights = load_file(checkpoints / TRAINED)
    for steps in (4, 5):
        train_run(run, steps=steps)
    other = load_file(checkpoints / TRAINED)
    for steps, expected in ((6, weights), (5, other), (6, weights)):
        again = train_run(run, steps=steps, report=lambda *_: pytest.fail("trained again"))
        assert (steps != 6) or again == first
        found = load_file(checkpoints / TRAINED)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert sum(path.name.startswith("trained") for path in checkpoints.iterdir()) == 3


def test_the_last_model_keeps_its_name_where_the_next_cannot_be_written(
    runs: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, or by a kill: an export that comes then takes the model that is there."""
    run = load_run("digits", runs)
    train_run(run, steps=6)
    weights = load_file(checkpoints / TRAINED)

    def full(path: Path, *given: Any) -> Path:
        if path.name == TRAINED:
            raise StorageError(f"{path} cannot be written: No space left on device")
        return save_checkpoint(path, *given)

    monkeypatch.setattr("pso_attn.courses.save_checkpoint", full)
    with pytest.raises(StorageError, match="No space left"):
        train_run(run, steps=5)
    found = load_file(checkpoints / TRAINED)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    monkeypatch.undo()
    train_run(run, steps=5, report=lambda *_: pytest.fail("trained again"))
    assert train_run(run, steps=6, report=lambda *_: pytest.fail("trained again"))["steps"] == 6


def test_another_training_does_not_disturb_one_that_was_interrupted(
    runs: Path, checkpoints: Path
) -> None:
    run = load_run("digits", runs)
    expected = train_run(run)
    (checkpoints / TRAINED).unlink()
    interrupted(runs, 15)
    train_run(run, steps=4)
    steps: list[int] = []
    assert train_run(run, report=lambda done, *_: steps.append(done)) == expected
    assert min(steps) >= 14


def test_patience_ends_a_training_at_its_best_validated_weights(
    runs: Path, checkpoints: Path, tmp_path: Path
) -> None:
    wild = tmp_path / "wild.toml"
    wild.write_text('lr = 0.3\nschedule = "constant"\n')
    options = ("--settings", wild, "--steps", "80", "--patience", "2", "--runs-dir", runs)
    trained = document("train", "digits", *options)
    assert trained["stopped"] == "no better loss in 2 scorings"
    assert trained["steps_done"] < 80
    curve = {int(step): value for step, value in trained["curve"].items()}
    assert curve[trained["best_step"]] == min(curve.values()) == trained["loss"]
    assert sum(step > trained["best_step"] for step in curve) == 2


def test_given_settings_are_trained_over_the_fixed_ones(
    runs: Path, checkpoints: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"settings": {"heads": 2, "mechanism": "linear", "lr": 0.01}}))
    trained = document("train", "digits", "--settings", given, "--steps", "4", "--runs-dir", runs)
    fixed = load_run("digits", runs).configuration.model
    assert trained["trial"] is None
    assert trained["settings"].items() >= {"heads": 2, "lr": 0.01}.items()
    assert all(trained["settings"][name] == fixed[name] for name in fixed if name != "family")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "haeds = 4", 'a.toml: haeds is not a knob; did you mean "heads"?'),
        ("a.toml", "heads = 0", "a.toml: heads is 0; expected a whole number"),
        ("a.toml", 'mechanism = "softmx"', 'softmx"; did you mean "softmax"?'),
        ("a.toml", "heads = 4\nkv_heads = 3", "kv_heads is 3, which does not divide heads = 4"),
        (
            "a.toml",
            "rank = 999\nmechanism = 'low_rank'",
            "a.toml: rank = 999 exceeds the 16 tokens",
        ),
        ("a.toml", "heads = 64", "a.toml: heads = 64 leaves head_dim = 0 of d_model = 32"),
        ("a.toml", "batch_size = 5000", "a.toml: batch_size = 5000 exceeds the 1078 training"),
        ("a.toml", "heads = ", "a.toml is not TOML"),
        ("a.json", "{", "a.json is not JSON"),
        ("a.json", "[1]", "a.json holds no settings"),
        ("a.toml", "", "a.toml holds no settings"),
        ("a.toml", None, "a.toml cannot be read: No such file"),
    ],
)
def test_a_wrong_settings_file_is_named_in_one_sentence_and_nothing_is_written(
    runs: Path, checkpoints: Path, tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    result = cli("train", "digits", "--settings", tmp_path / name, "--runs-dir", runs)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [path.name for path in checkpoints.iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"feedforward_ratio": 1e9}, "settings of a smaller model, or another --device"),
        ({"batch_size": 1000}, "); choose a smaller batch_size, or another --device"),
    ],
)
def test_settings_that_are_too_large_say_how_much_they_need_and_what_would_need_less(
    runs: Path,
    checkpoints: Path,
    settings: dict[str, Any],
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError("Unable to allocate 14.9 TiB")

    monkeypatch.setattr(full_training, "_train", refuse)
    file = tmp_path / "large.json"
    file.write_text(json.dumps(settings))
    told = cli("train", "digits", "--settings", file, "--runs-dir", runs)
    parts = load_run("digits", runs).assembled()
    whole = {**parts.configuration.model, **settings}
    needed = cost(whole, parts.task.info)["memory_bytes"]
    said = f"about {needed / 2**20:.0f} MiB are needed on cpu (Unable to allocate 14.9 TiB)"
    assert told.exit_code == 2
    assert said in told.stderr
    assert advice in told.stderr


def test_more_steps_than_memory_has_room_for_are_named_before_anything_trains(
    runs: Path, checkpoints: Path
) -> None:
    told = cli("train", "digits", "--steps", "999999999999", "--runs-dir", runs)
    assert told.exit_code == 2
    assert "most of it is for 999999999999 steps, so choose fewer" in told.stderr
    assert [path.name for path in checkpoints.iterdir()] == ["best.safetensors"]


def test_a_run_that_is_being_driven_is_not_trained(runs: Path, checkpoints: Path) -> None:
    with load_run("digits", runs).folder.lock():
        result = cli("train", "digits", "--runs-dir", runs)
    assert result.exit_code == 2
    assert "run digits is in use by process" in result.stderr
    assert [path.name for path in checkpoints.iterdir()] == ["best.safetensors"]


def test_steps_below_one_and_unknown_runs_are_refused(runs: Path) -> None:
    assert cli("train", "digits", "--steps", "0", "--runs-dir", runs).exit_code == 2
    unknown = cli("train", "digist", "--runs-dir", runs)
    assert unknown.exit_code == 2
    assert 'did you mean "digits"?' in unknown.stderr


def test_a_run_without_a_completed_trial_has_nothing_to_train_but_given_settings(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    made = cli("search", "digits", *TINY, "--run", "r", "--timeout", "0", "--runs-dir", runs)
    assert made.exit_code == 0
    for command in (("train", "r"), ("export", "r", "--out", tmp_path / "out")):
        result = cli(*command, "--runs-dir", runs)
        assert result.exit_code == 2
        assert f"no completed trial to {command[0]}" in result.stderr
        assert "pso-attn resume r" in result.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "given.toml").write_text("heads = 2")
    given = ("--settings", tmp_path / "given.toml", "--steps", "3")
    assert document("train", "r", *given, "--runs-dir", runs)["search"] is None
    assert cli("export", "r", "--out", tmp_path / "out", "--runs-dir", runs).exit_code == 0


def test_a_training_that_diverges_at_once_leaves_no_model(
    runs: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run("digits", runs)
    parts = run.assembled()
    broken = parts.task.train.inputs * float("inf")
    object.__setattr__(
        parts.task, "train", type(parts.task.train)(broken, parts.task.train.targets)
    )
    monkeypatch.setattr(type(run), "assembled", lambda *_: parts)
    with pytest.raises(TrainingError, match="diverged: the training loss at step 1"):
        train_run(run, steps=4)
    assert [path.name for path in checkpoints.iterdir()] == ["best.safetensors"]


def test_a_damaged_checkpoint_is_named(runs: Path, checkpoints: Path) -> None:
    (checkpoints / TRAINED).write_bytes(b"torn")
    result = cli("train", "digits", "--steps", "4", "--runs-dir", runs)
    assert result.exit_code == 2
    assert f"{TRAINED} cannot be read" in result.stderr
    (checkpoints / TRAINED).unlink()


def test_a_course_keeps_the_best_in_the_objectives_own_direction() -> None:
    objective = Objective("accuracy", "maximize")
    plan = Plan({}, 0, 0, 100, 2, objective, "", "cpu")
    course = Course()
    for step, value in ((10, 0.2), (20, 0.5), (30, 0.4)):
        course = course.after(step, {"loss": 1.0, "accuracy": value}, None, plan)
    assert (course.best_step, course.stopped) == (20, "")
    diverged = course.after(40, {"loss": 1.0, "accuracy": 0.9}, 35, plan)
    assert (diverged.best_step, "at step 35" in diverged.stopped) == (20, True)
    worse = course.after(40, {"loss": 1.0, "accuracy": 0.3}, None, plan)
    assert worse.stopped == "no better accuracy in 2 scorings"
    last = course.after(100, {"loss": 1.0, "accuracy": 0.6}, None, plan)
    assert (last.best_step, last.stopped) == (100, "all steps are done")


def test_a_precision_named_with_train_stands_in_for_the_searchs(runs: Path) -> None:
    for name, sentence in (("fp8", 'precision "fp8" is unknown'), ("tf32", "only CUDA devices")):
        refused = cli("train", "digits", "--precision", name, "--runs-dir", runs)
        assert refused.exit_code == 2
        assert sentence in refused.stderr
    steps = ("--steps", "4", "--runs-dir", runs)
    exact = document("train", "digits", *steps)
    rounded = document("train", "digits", "--precision", "bf16", *steps)
    assert rounded["settings"] == {**exact["settings"], "precision": "bf16"}
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert rounded["loss"] != exact["loss"]
