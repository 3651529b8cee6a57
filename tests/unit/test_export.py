"""Exported models: rebuilt where the package cannot be imported, they have the search's loss."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.attention import MECHANISMS
from pso_attn.cli.app import app
from pso_attn.errors import ConfigurationError, StorageError
from pso_attn.export import export_run, exported_files
from pso_attn.models import MODEL_KNOBS, TaskInfo, family_of, read_transformer
from pso_attn.models.load import loss_of
from pso_attn.space import read_settings, read_space
from pso_attn.store.atomic import write_atomically, write_folder_atomically
from pso_attn.tasks import Task, make_task
from pso_attn.tasks.task import Split

TINY = ("--particles", "3", "--generations", "1", "--set", "budget.steps=6")
FILES = {
    *("model.safetensors", "settings.toml", "preprocessing.json", "load.py"),
    *("model.py", "sample.safetensors"),
}
CHECK = """
import json, pathlib, runpy, sys
for name in ("pso_attn", "scipy", "pandas", "sklearn", "optuna", "matplotlib", "pyswarms"):
    sys.modules[name] = None  # any import of it fails
checks = [runpy.run_path(f"{folder}/load.py")["check"] for folder in sys.argv[1:]]
print(json.dumps([check(pathlib.Path(f)) for check, f in zip(checks, sys.argv[1:])]))
"""


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def checked(*folders: Path) -> list[dict[str, float]]:
    """Return what each folder's load.py finds, in one process without this package."""
    command = [sys.executable, "-I", "-c", CHECK, *map(str, folders)]
    said = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert said.returncode == 0, said.stderr
    found: list[dict[str, float]] = json.loads(said.stdout)
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("text") / "small.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    return make_task("text", str(path), columns={"tokens": 12})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run, `digits`, whose chunks differ in depth."""
    folder = tmp_path_factory.mktemp("export") / "runs"
    space = folder.parent / "digits.toml"
    space.write_text(
        'task = "digits"\n[search]\nlayers = [1, 2]\nlr = {low = 1e-3, high = 1e-1}\n'
    )
    made = cli("search", space, *TINY, "--run", "digits", "--runs-dir", folder)
    assert made.exit_code == 0, made.stderr
    return folder


def drawn(task: Task, each: int) -> list[dict[str, Any]]:
    """Return settings in which every knob of the model varies, `each` of every mechanism."""
    searched: dict[str, Any] = {name: {} for name in MODEL_KNOBS if name != "layers"}
    for name, knob in MODEL_KNOBS.items():
        if "head" in knob.per:
            searched[name] = {"per": "head"}
    searched |= {"d_model": [16, 32], "heads": [1, 2, 4], "head_dim": [4, 8]}
    space = read_space(searched, {"layers": 2}, MODEL_KNOBS)
    rng = np.random.default_rng(0)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in possible(task)}
    for number in range(2000):
        if all(len(chosen) == each for chosen in found.values()):
            break
        settings = dict(
            space.settings(space.repair(rng.random(space.dimension), 0, 0, number).params)
        )
        chosen = found.get(settings["mechanism"], [])
        if len(chosen) < each and works(task, settings):
            chosen.append(settings)
    assert {len(chosen) for chosen in found.values()} == {each}
    return [settings for chosen in found.values() for settings in chosen]


def possible(task: Task) -> list[str]:
    """Return the mechanisms that are defined on a task: not all may look at the past alone."""
    return [name for name in MECHANISMS if works(task, {"mechanism": name})]


def works(task: Task, settings: dict[str, Any]) -> bool:
    try:
        read_transformer(settings, task.info)
    except ConfigurationError:
        return False
    return True


def weights_of(task: Task, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return weights that are nowhere small, so that whatever is left out is seen."""
    family = family_of(settings)
    swarm = family.swarm.started([family.read(settings, task.info)], task.info, [0])
    rng = torch.Generator().manual_seed(0)
    parts = swarm.storage.true_parameters(0)
    return {name: 0.5 * torch.randn(p.shape, generator=rng) for name, p in parts.items()}


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("series") / "series.npz"
    rng = np.random.default_rng(0)
    kinds, lengths = rng.integers(3, size=90), rng.integers(1, 13, size=90)
    np.savez(path, x=rng.normal(size=(90, 2, 12)), y=kinds, lengths=lengths)
    return make_task("series", str(path))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Tokens, and padding after those of short texts."""
    path = tmp_path_factory.mktemp("words") / "words.csv"
    rng = np.random.default_rng(0)
    said = ("a", "dog", "sat", "cat", "ran")
    texts = [" ".join(rng.choice(said, 1 + row % 12)) for row in range(90)]
    path.write_text("\n".join(["text,kind", *(f"{text},k{rng.integers(3)}" for text in texts)]))
    task = make_task("text_labels", str(path), target="kind")
    assert task.info.padded
    assert task.info.tokens
    assert (task.validation.inputs == 0).any()
    return task


@pytest.mark.parametrize("name", ["digits", "text", "padded", "words"])
def test_every_mechanism_and_knob_is_rebuilt_without_the_package(
    name: str, text: Task, padded: Task, words: Task, tmp_path: Path
) -> None:
    given = {"text": text, "padded": padded, "words": words}
    task = given.get(name) or make_task("digits")
    folders, expected = [], []
    for number, settings in enumerate(drawn(task, each=3)):
        loss, files = exported_files(task, settings, weights_of(task, settings))
        folder = tmp_path / str(number)
        write_folder_atomically(folder, files)
        folders.append(folder)
        expected.append(loss)
    assert {"softmax", "linear"} <= set(possible(task))
    assert len({round(loss, 5) for loss in expected}) == len(expected)
    for loss, found in zip(expected, checked(*folders), strict=True):
        assert found["expected"] == loss
        assert found["loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("name", ["whole", "cut", "words"])
def test_every_way_to_attend_to_states_is_rebuilt_without_the_package(
    name: str, words: Task, tmp_path: Path
) -> None:
    task = words if name == "words" else make_task("digits")
    if name == "cut":
        task = cut_short(task, 3)  # all else is padding
    querying = [
        {"score": score, "local": local, "query": query, "sentinel": local != "none"}
        for score in ("additive", "dot", "general", "concat")
        for local, query in (("none", "last"), ("monotonic", "learned"), ("predictive", "last"))
    ]
    settings: list[dict[str, Any]] = [
        *({**own, "heads": 1 + k % 2, "last_state": k % 3 == 0} for k, own in enumerate(querying)),
        {"score": "self_attentive", "hops": 3, "attention_dim": 5},
    ]
    folders, expected = [], []
    for number, own in enumerate(settings):
        outer = {"family": "lstm", "hidden": 4, "layers": 1 + number % 2}
        given = {**outer, "bidirectional": number % 4 > 1, "window_tokens": 2, **own}
        loss, files = exported_files(task, given, weights_of(task, given))
        write_folder_atomically(tmp_path / str(number), files)
        folders.append(tmp_path / str(number))
        expected.append(loss)
    assert len({round(loss, 5) for loss in expected}) == len(expected)
    for loss, found in zip(expected, checked(*folders), strict=True):
        assert found["loss"] == pytest.approx(loss, abs=1e-5)


def cut_short(task: Task, length: int) -> Any:
    """Return the task with a column that says what is padding: all but the first tokens."""
    whole = task.validation
    real = (torch.arange(task.info.length) < length).float()[:, None].expand(len(whole), -1, -1)
    inputs = torch.cat([whole.inputs, real], -1)
    features = (task.info.features or 0) + 1
    info: TaskInfo = replace(task.info, features=features, padded=True)
    return SimpleNamespace(
        name="padded",
        info=info,
        validation=Split(inputs, whole.targets),
        loss=task.loss,
        preprocessing=task.preprocessing,
    )


def test_models_of_tables_are_rebuilt_without_the_package(tmp_path: Path) -> None:
    """Of classes and of numbers, whose loss is the squared error."""
    settings = {"heads": 2}
    for name in ("wine", "diabetes"):
        task = make_task("table", f"sklearn:{name}")
        loss, files = exported_files(task, settings, weights_of(task, settings))
        write_folder_atomically(tmp_path / name, files)
        (found,) = checked(tmp_path / name)
        assert found["expected"] == loss
        assert found["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", ["digits", "text", "wine", "diabetes"])
def test_the_loss_that_is_compared_is_the_one_that_was_trained(name: str, text: Task) -> None:
    of_table = name in ("wine", "diabetes")
    task = make_task("table", f"sklearn:{name}") if of_table else make_task("digits")
    task = text if name == "text" else task
    targets = task.validation.targets[:8]
    places = task.validation.inputs.shape[1:2] if task.info.per_token else ()
    logits = torch.randn(1, 8, *places, task.info.outputs)
    trained = task.loss(logits, targets[None])[0]
    assert loss_of(logits[0], targets) == pytest.approx(float(trained), rel=1e-6)


def test_a_task_of_ones_own_with_another_loss_is_compared_by_the_usual_one(tmp_path: Path) -> None:
    table = make_task("table", "sklearn:diabetes")
    own = SimpleNamespace(
        name="own",
        info=table.info,
        validation=table.validation,
        loss=lambda logits, targets: (logits.squeeze(-1) - targets).abs().mean(1),
        preprocessing=table.preprocessing,
    )
    task: Any = own
    loss, files = exported_files(task, {"heads": 2}, weights_of(task, {"heads": 2}))
    write_folder_atomically(tmp_path / "own", files)
    (found,) = checked(tmp_path / "own")
    assert found["loss"] == pytest.approx(loss, rel=1e-5)


def test_what_a_task_of_ones_own_learned_and_no_json_holds_is_named() -> None:
    digits = make_task("digits")
    own: Any = SimpleNamespace(
        name="own",
        info=digits.info,
        validation=digits.validation,
        loss=digits.loss,
        preprocessing=lambda: {"mean": np.zeros(3)},
    )
    with pytest.raises(ConfigurationError, match=r"preprocessing\(\) of task own gives cannot be"):
        exported_files(own, {"heads": 2}, weights_of(own, {"heads": 2}))


def test_an_empty_folder_is_filled_where_it_is(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may stand in it, or have mounted it, or have rights to it alone."""
    (tmp_path / "out").mkdir(mode=0o750)
    before = (tmp_path / "out").stat()
    monkeypatch.chdir(tmp_path / "out")
    result = cli("export", "digits", "--out", ".", "--runs-dir", runs)
    assert result.exit_code == 0, result.stderr
    assert Path("load.py").exists()
    after = (tmp_path / "out").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_an_empty_folder_that_cannot_be_filled_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "two":
            raise OSError(28, "No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr("pso_attn.store.atomic.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder_atomically(tmp_path, {"one": b"1", "two": b"2"})
    assert list(tmp_path.iterdir()) == []


def test_the_best_of_a_search_is_exported_and_after_train_what_that_made(
    runs: Path, tmp_path: Path
) -> None:
    run = load_run("digits", runs)
    best = run.best()
    assert best is not None
    result = cli("export", "digits", "--out", tmp_path / "searched", "--runs-dir", runs)
    assert result.exit_code == 0, result.stderr
    assert f"exported: trial {best.number}, as the search trained it" in result.stdout
    trained = cli("train", "digits", "--steps", "20", "--runs-dir", runs, "--json")
    assert trained.exit_code == 0, trained.stderr
    out = ("--out", tmp_path / "trained", "--runs-dir", runs)
    said = json.loads(cli("export", "digits", *out, "--json").stdout)
    assert (said["schema"], said["source"], said["trial"]) == (1, "train", best.number)
    assert said["settings"] == best.candidate.settings
    assert said["parameters"] == best.outcome.metrics["parameters"]
    (runs / "digits" / "checkpoints" / "trained.safetensors").unlink()

    searched, longer = checked(tmp_path / "searched", tmp_path / "trained")
    for found in (searched, longer):
        assert found["loss"] == pytest.approx(found["expected"], abs=1e-5)
    assert longer["loss"] < searched["loss"]
    for folder in ("searched", "trained"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == FILES
    again = ("--settings", tmp_path / "trained" / "settings.toml", "--steps", "2")
    assert cli("train", "digits", *again, "--runs-dir", runs).exit_code == 0
    (runs / "digits" / "checkpoints" / "trained.safetensors").unlink()


def test_an_export_says_that_the_search_has_found_better_since_its_model_was_trained(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", "digits", "--steps", "2", "--runs-dir", runs).exit_code == 0
    run = load_run("digits", runs)
    best = run.best()
    assert best is not None
    trained, anew = tmp_path / "trained", tmp_path / "anew"
    said = cli("export", "digits", "--out", trained, "--runs-dir", runs)
    assert "newer:" not in said.stdout
    better = next(trial for trial in run.history.trials if trial.number != best.number)
    monkeypatch.setattr("pso_attn.runs.LoadedRun.best", lambda self: better)  # since a `resume`
    said = cli("export", "digits", "--out", anew, "--runs-dir", runs)
    assert f"exported: trial {best.number}, trained at full length" in said.stdout
    (line,) = [line for line in said.stdout.splitlines() if line.startswith("newer:")]
    assert f"trial {better.number} is the search's best by now; `pso-attn train digits" in line
    (runs / "digits" / "checkpoints" / "trained.safetensors").unlink()


def test_an_export_says_that_the_searchs_own_model_is_not_of_its_best(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run("digits", runs)
    best = run.best()
    assert best is not None
    better = next(trial for trial in run.history.trials if trial.number != best.number)
    monkeypatch.setattr("pso_attn.runs.LoadedRun.best", lambda self: better)  # which was not kept
    exported = export_run(run, tmp_path / "out")
    assert (exported.source, exported.trial) == ("search", best.number)
    assert exported.newer == better.number


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", "torn"),
        ("sample.safetensors", "torn"),
        ("settings.toml", "torn"),
        ("model.py", "torn"),
        ("model.py", "class Model(:"),
        ("model.py", ""),
    ],
)
def test_load_py_of_a_damaged_export_is_one_sentence(
    runs: Path, tmp_path: Path, name: str, content: str
) -> None:
    folder = export_run(load_run("digits", runs), tmp_path / "out").folder
    (folder / name).write_text(content, encoding="utf-8")
    command = [sys.executable, "-I", str(folder / "load.py")]
    said = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith(f"error: {folder} holds no whole export: ")
    assert said.stderr.endswith("; export the run again\n")
    assert said.stderr.count("\n") == 1


def test_an_exported_model_can_be_pickled_and_its_folder_named_by_text(
    runs: Path, tmp_path: Path
) -> None:
    exported = export_run(load_run("digits", runs), tmp_path / "v1.0")
    code = (
        "import json, pickle, sys, torch; sys.path.insert(0, sys.argv[1]); import load; "
        "model = load.load_model(sys.argv[1]); again = pickle.loads(pickle.dumps(model)); "
        "same = map(torch.equal, model.state_dict().values(), again.state_dict().values()); "
        "print(json.dumps([all(same), load.check(sys.argv[1])]))"
    )
    command = [sys.executable, "-I", "-c", code, str(exported.folder)]
    said = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
    is_same, found = json.loads(said.stdout)
    assert is_same
    assert found["loss"] == pytest.approx(exported.expected, abs=1e-5)


def test_a_task_of_doubles_is_exported_as_it_is_trained() -> None:
    settings, task = {"layers": 1, "d_model": 16, "heads": 2}, make_task("digits")
    weights = weights_of(task, settings)
    doubles: Any = SimpleNamespace(
        name="doubles",
        info=task.info,
        preprocessing=task.preprocessing,
        validation=Split(task.validation.inputs.double(), task.validation.targets),
    )
    expected, _ = exported_files(doubles, settings, weights)
    assert expected == exported_files(task, settings, weights)[0]


def test_load_py_run_as_a_script_prints_both_losses(runs: Path, tmp_path: Path) -> None:
    exported = export_run(load_run("digits", runs), tmp_path / "deep" / "out")
    command = [sys.executable, "-I", str(exported.folder / "load.py")]
    said = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
    found = json.loads(said.stdout)
    assert list(found) == ["loss", "expected"]
    assert found["expected"] == exported.expected
    assert found["loss"] == pytest.approx(found["expected"], abs=1e-5)


def test_the_sample_is_scored_as_the_task_does_and_preprocessing_is_the_tasks(
    text: Task, tmp_path: Path
) -> None:
    settings = {"heads": 2}
    _, files = exported_files(text, settings, weights_of(text, settings))
    described = json.loads(files["preprocessing.json"])
    assert described["task"] == "text"
    assert described["inputs"] == text.preprocessing()
    assert described["info"]["tokens"] == len(described["inputs"]["symbols"]) + 1


def test_a_folder_that_holds_something_is_refused_and_stays_as_it_was(
    runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    result = cli("export", "digits", "--out", tmp_path, "--runs-dir", runs)
    assert result.exit_code == 2
    assert "is not empty; choose a new folder" in result.stderr
    over = cli("export", "digits", "--out", tmp_path / "note.txt", "--runs-dir", runs)
    assert over.exit_code == 2
    assert "is not a folder" in over.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_empty_folder_is_filled(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_run(load_run("digits", runs), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_a_folder_that_cannot_be_written_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("export", "digits", "--out", tmp_path / "file" / "out", "--runs-dir", runs)
    assert result.exit_code == 1
    assert "cannot be written: Not a directory; choose another --out" in result.stderr


def test_a_disk_that_fills_up_leaves_nothing_behind(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pso_attn.store import atomic

    write: Callable[[Path, bytes], None] = atomic.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name == "settings.toml":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(atomic, "write_atomically", full)
    with pytest.raises(StorageError, match="No space left on device"):
        export_run(load_run("digits", runs), tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())


def test_an_unknown_run_and_a_run_without_its_model_are_named(runs: Path, tmp_path: Path) -> None:
    unknown = cli("export", "digist", "--out", tmp_path / "out", "--runs-dir", runs)
    assert unknown.exit_code == 2
    assert 'did you mean "digits"?' in unknown.stderr
    best = runs / "digits" / "checkpoints" / "best.safetensors"
    kept = best.read_bytes()
    best.unlink()
    result = cli("export", "digits", "--out", tmp_path / "out", "--runs-dir", runs)
    best.write_bytes(kept)
    assert result.exit_code == 2
    assert "make one with `pso-attn train digits" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_knob_that_acts_in_some_layers_is_exported_and_trained_again(
    text: Task, tmp_path: Path
) -> None:
    base = {"layers": 2, "d_model": 16, "heads": 2, "mechanism": ["softmax", "linear"]}
    gaps = {"window_tokens": [3, None], "softcap": [None, 5.0]}
    by_head = {"window_tokens": [[3, 4], [None, None]]}
    folders = []
    alike = {"layers": 1, "heads": 4, "mechanism": "softmax", "window_tokens": [[3, 5, 7, 9]]}
    mixed = {"window_tokens": [[3, 4], None]}
    ranked = {"mechanism": ["softmax", "block_low_rank"], "rank": [None, 4], "block_tokens": 16}
    for number, more in enumerate((gaps, by_head, alike, mixed, ranked)):
        settings = {**base, **more}
        _, written = exported_files(text, settings, weights_of(text, settings))
        folders.append(tmp_path / str(number))
        write_folder_atomically(folders[-1], written)
        assert read_settings(settings, MODEL_KNOBS) == settings
        exported = tomllib.loads(written["settings.toml"].decode())
        assert read_settings(exported, MODEL_KNOBS) == exported
    for found in checked(*folders):
        assert found["loss"] == pytest.approx(found["expected"], abs=1e-5)
