"""An objective, a factory and a task of one's own, from the command line."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.full_training import train_run
from pso_attn.report.findings import repeat_command

MINE = """
from torch import nn


def loss(settings, trial):
    value = (settings["x"] - 0.3) ** 2 + 0.1 * (settings["kind"] == "b")
    for step in range(1, trial.steps + 1):
        trial.report(step, value + 1 / step)
        if trial.should_prune():
            return
    return {"loss": value, "accuracy": 1 - value, "tested": trial.split == "test"}


def measured(settings, trial):
    return {"loss": settings["x"], "accuracy": 1 - settings["x"]}


def keeping(settings, trial):
    (trial.checkpoint_dir / "model.txt").write_text("model")
    return settings["x"]


def lists(settings, trials):
    return [one["x"] for one in settings]


def broken(settings, trial):
    raise ValueError("no such thing")


def few(settings):
    return 0.0


def net(settings, info):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, settings["width"]), nn.ReLU(),
                         nn.Linear(settings["width"], info.outputs))


def narrow(settings, info):
    return nn.Linear(info.features, 3)


number = 3
""".replace('"tested": trial.split == "test"', '"tested": float(trial.split == "test")')
SPACE = """
objective = "MODULE:loss"
[search]
x = { low = 0.0, high = 1.0 }
kind = ["a", "b"]
[budget]
particles = 4
generations = 3
steps = 4
"""
NET = """
task = "digits"
[model]
family = "MODULE:net"
[search]
width = [8, 16]
lr = {}
[constraints]
expressions = ["parameters <= 1200"]
[budget]
particles = 3
generations = 2
steps = 8
"""


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module and space files of one's own, in a folder beside the current one."""
    name = f"own_{re.sub('[^a-z0-9]', '_', tmp_path.name)}"
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / f"{name}.py").write_text(MINE)
    (there / "own.toml").write_text(SPACE.replace("MODULE", name))
    (there / "net.toml").write_text(NET.replace("MODULE", name))
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


OWN, NETS = "../there/own.toml", "../there/net.toml"


def test_an_objective_is_searched_from_another_folder_and_every_command_reads_it(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    search = cli("search", OWN, "--run", "o")
    assert search.exit_code == 0, search.stderr
    best = json.loads(cli("best", "o", "--json").stdout)
    assert best["loss"] == best["metrics"]["loss"] < 0.1
    assert set(best["settings"]) == {"x", "kind"}
    assert best["metrics"]["tested"] == 0.0
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "there" not in path])
    sys.modules.pop(module, None)
    monkeypatch.chdir(tmp_path)
    runs = ("--runs-dir", "here/runs")
    for command in (("verify",), ("resume", "--generations", "4"), ("confirm", "--seeds", "2")):
        done = cli(command[0], "o", *command[1:], *runs)
        assert done.exit_code == 0, done.stderr
    shown = cli("show", "o", *runs)
    assert f"objective {module}:loss" in shown.stdout
    confirmation = load_run("o", "here/runs").folder.read_json("confirm.json")
    assert confirmation["rows"][0]["test"]["tested"]["mean"] == 1.0
    assert confirmation["baselines"] == {}
    assert cli("verify", "o", "--no-import", *runs).exit_code == 2


def test_a_report_of_an_objective_needs_nothing_of_its_code(module: str, tmp_path: Path) -> None:
    assert cli("search", OWN, "--run", "o", "--generations", "1").exit_code == 0
    (tmp_path / "there" / f"{module}.py").unlink()
    sys.modules.pop(module, None)
    report = cli("report", "o", "--quiet")
    assert report.exit_code == 0, report.stderr
    assert f"objective {module}:loss" in Path(report.stdout.strip()).read_text()


def test_the_same_again_finds_the_code_and_the_total_of_a_run(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("search", OWN, "--run", "o", "--generations", "1").exit_code == 0
    assert cli("resume", "o", "--generations", "2").exit_code == 0
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "there" not in path])
    sys.modules.pop(module, None)
    program, *again = shlex.split(repeat_command(load_run("o").report_input()))
    repeated = cli(*again)
    assert (program, repeated.exit_code) == ("pso-attn", 0), repeated.stderr
    one, other = (load_run(name).history.trials for name in ("o", "o-again"))
    assert len(one) == len(other) == 8


def test_a_metric_is_maximised_where_the_file_says_so(module: str) -> None:
    sets = (f"objective={module}:measured", 'objectives=["accuracy"]', 'maximize=["accuracy"]')
    search = cli("search", OWN, "--run", "m", *(f"--set={one}" for one in sets))
    assert search.exit_code == 0, search.stderr
    best = load_run("m").best()
    assert best is not None
    assert best.outcome.values == (1 - best.candidate.params["x"],)
    assert best.outcome.values[0] > 0.8


def test_a_function_that_takes_lists_is_searched(module: str) -> None:
    sets = ("--set", f"objective={module}:lists", "--set", "objective_batched=true")
    search = cli("search", OWN, "--run", "l", *sets)
    assert search.exit_code == 0, search.stderr
    assert cli("verify", "l").exit_code == 0


def test_a_dry_run_asks_once_and_writes_nothing(module: str) -> None:
    dry = cli("search", OWN, "--dry-run", "--json")
    assert dry.exit_code == 0, dry.stderr
    said = json.loads(dry.stdout)
    assert said["trainings_per_generation"] == 4
    assert said["search_seconds"] == pytest.approx(12 * said["seconds_per_training"])
    failing = cli("search", OWN, "--dry-run", "--set", f"objective={module}:broken")
    assert failing.exit_code == 1
    assert "the first particle that is trained fails: " in failing.stderr
    assert not Path("runs").exists()


def test_an_objective_that_always_raises_fails_its_particles_and_never_the_store(
    module: str,
) -> None:
    search = cli("search", OWN, "--run", "b", "--set", f"objective={module}:broken")
    assert search.exit_code == 3
    assert f"12 trials: {module}:broken raised ValueError: no such thing" in search.stdout
    assert cli("verify", "b").exit_code == 0


def test_samplers_are_compared_on_an_objective(module: str) -> None:
    compared = cli("compare", OWN, "--samplers", "pso,random", "--seeds", "1", "--quiet")
    assert compared.exit_code == 0, compared.stderr


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("export", "o", "--out", "x"), "so it cannot be exported; it kept no files in"),
        (("train", "o", "--patience", "3"), "--patience is for models that are trained here"),
    ],
)
def test_what_needs_a_model_of_ours_says_so(
    module: str, command: tuple[str, ...], sentence: str
) -> None:
    assert cli("search", OWN, "--run", "o", "--generations", "1").exit_code == 0
    refused = cli(*command)
    assert refused.exit_code == 2
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_objective_is_trained_longer_with_the_winners_settings_or_given_ones(
    module: str, tmp_path: Path
) -> None:
    assert cli("search", OWN, "--run", "o").exit_code == 0
    best = json.loads(cli("best", "o", "--json").stdout)
    trained = json.loads(cli("train", "o", "--json").stdout)
    assert trained["settings"] == best["settings"]
    assert trained["steps"] == 40 == max(int(step) for step in trained["curve"])
    assert trained["metrics"] == best["metrics"]
    (tmp_path / "given.toml").write_text('x = 0.3\nkind = "a"\n')
    given = cli("train", "o", "--settings", tmp_path / "given.toml", "--json", "--steps", "5")
    assert json.loads(given.stdout)["loss"] == 0.0


def test_where_an_objective_keeps_files_is_said_and_nowhere_else(module: str) -> None:
    assert cli("search", OWN, "--run", "o", "--generations", "1").exit_code == 0
    assert json.loads(cli("train", "o", "--json").stdout)["checkpoint"] is None
    assert "model:    none: the objective kept no files" in cli("train", "o").stdout
    keeping = ("--set", f"objective={module}:keeping")
    assert cli("search", OWN, "--run", "k", "--generations", "1", *keeping).exit_code == 0
    trained = json.loads(cli("train", "k", "--json").stdout)
    assert Path(trained["checkpoint"], "model.txt").read_text() == "model"
    assert f"model:    {trained['checkpoint']}" in cli("train", "k").stdout
    assert "what it kept lies in" in cli("export", "k", "--out", "x").stderr


CONDITIONAL = """
objective = "MODULE:loss"
[model]
fixed = 3
[search]
x = { low = 0.0, high = 1.0, default = 0.25 }
kind = ["a", "b"]
only_a = { low = 1, high = 5, when = { kind = ["a"] } }
only_b = { choices = [2, 4], default = 4, when = { kind = ["b"] } }
layers = [1, 2]
width = { choices = [8, 16], per = "layer" }
[budget]
particles = 2
generations = 1
steps = 4
"""


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ("x = 0.3", {"kind": "a", "only_a": 3, "layers": 1, "width": [8]}),
        ('kind = "b"', {"x": 0.25, "only_b": 4, "layers": 1, "width": [8]}),
        ("layers = 2", {"x": 0.25, "kind": "a", "only_a": 3, "width": [8, 8]}),
        ("layers = 2\nwidth = [16, 8]", {"x": 0.25, "kind": "a", "only_a": 3}),
    ],
)
def test_what_given_settings_leave_out_has_the_default_of_the_space(
    module: str, given: str, completed: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "there" / "c.toml").write_text(CONDITIONAL.replace("MODULE", module))
    assert cli("search", "../there/c.toml", "--run", "c").exit_code == 0
    (tmp_path / "given.toml").write_text(given)
    trained = cli("train", "c", "--settings", tmp_path / "given.toml", "--json")
    assert trained.exit_code == 0, trained.stderr
    settings = json.loads(trained.stdout)["settings"]
    assert settings == {**tomllib.loads(given), **completed, "fixed": 3}


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("gone_away:loss", "there is no module gone_away in "),
        ("MODUL:loss", 'did you mean "MODULE"'),
        ("MODULE:los", 'MODULE has no los; did you mean "loss"'),
        (
            "MODULE:zzz",
            "MODULE has no zzz; choose one of broken, few, keeping, lists, loss, measured, n",
        ),
        ("MODULE:number", '"MODULE:number" is a int, which cannot be called'),
        ("MODULE:few", '"MODULE:few" cannot be called with (settings, trial)'),
        ("MODULE", 'expected "module:function"'),
        ("a b:c", 'is not of the form "module:Name"'),
    ],
)
def test_a_reference_that_leads_nowhere_is_one_sentence_and_leaves_nothing(
    module: str, reference: str, sentence: str
) -> None:
    reference = reference.replace("MODULE", module).replace("MODUL:", f"{module[:-1]}:")
    search = cli("search", OWN, "--set", f'objective="{reference}"')
    assert search.exit_code == 2
    assert sentence.replace("MODULE", module) in search.stderr
    assert search.stderr.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import gone_away", "failed with ModuleNotFoundError: No module named 'gone_away'"),
        ("def f(:", "failed with SyntaxError"),
        ("import sys; sys.exit(3)", "failed with SystemExit: 3"),
    ],
)
def test_a_module_that_does_not_import_is_one_sentence(
    module: str, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "there" / f"{module}.py").write_text(text)
    search = cli("search", OWN)
    assert search.exit_code == 2
    assert sentence in search.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("space", [OWN, NETS])
def test_no_import_refuses_before_anything_is_imported(module: str, space: str) -> None:
    search = cli("search", space, "--no-import")
    assert search.exit_code == 2
    assert "would import code, which --no-import refuses" in search.stderr
    assert module not in sys.modules


def test_a_factory_is_searched_confirmed_and_trained(module: str) -> None:
    search = cli("search", NETS, "--run", "n")
    assert search.exit_code == 0, search.stderr
    best = json.loads(cli("best", "n", "--json").stdout)
    assert best["metrics"]["parameters"] == 75 * best["settings"]["width"] + 10 <= 1200
    run = load_run("n")
    task = run.assembled().task
    model = sys.modules[module].net(best["settings"], task.info)
    model.load_state_dict(load_file("runs/n/checkpoints/best.safetensors"))
    answers = model.eval()(task.validation.inputs).detach()
    scores = task.score(answers[None], task.validation.targets[None])
    assert float(scores["loss"]) == pytest.approx(best["metrics"]["loss"], rel=1e-5)
    for command in (("verify",), ("confirm", "--seeds", "1"), ("train", "--steps", "40")):
        done = cli(command[0], "n", *command[1:])
        assert done.exit_code == 0, done.stderr
    endless = cli("train", "n", "--steps", "999999999999")
    assert endless.exit_code == 2
    assert "most of it is for 999999999999 steps, so choose fewer" in endless.stderr
    exported = cli("export", "n", "--out", "x")
    assert exported.exit_code == 2
    assert "whose code cannot be exported; load the weights in" in exported.stderr
    dry = json.loads(cli("search", NETS, "--dry-run", "--json").stdout)
    assert dry["batching_gain"] > 0


LAYERED = """

def layered(settings, info):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, info.outputs))


class Worn(nn.Sequential):
    calls = 0

    def forward(self, x):
        self.calls += self.training
        if self.calls > LAST:
            raise RuntimeError("worn out")
        return super().forward(x)


def worn(settings, info):
    return Worn(*net(settings, info))
"""


def searched(module: str, folder: Path, family: str, last: int) -> None:
    """Leave a run `n` of modules of that family, which wear out after so many steps."""
    more = LAYERED.replace("LAST", str(last))
    (folder / "there" / f"{module}.py").write_text(MINE + more)
    one = ("--generations", "1", "--set", f"model.family={module}:{family}")
    done = cli("search", NETS, "--run", "n", *one)
    assert done.exit_code == 0, done.stderr


def test_a_module_that_raises_while_it_is_trained_leaves_the_best_and_goes_on_once_mended(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(module, tmp_path, "worn", 10)
    said = f"{module}:worn's module raised RuntimeError: worn out ({module}.py, line "
    trained = json.loads(cli("train", "n", "--steps", "40", "--json").stdout)
    assert trained["stopped"].startswith(said)
    assert trained["steps_done"] == 10
    assert trained["loss"] == min(trained["curve"].values())
    assert load_file(trained["checkpoint"])
    at_once = cli("train", "n", "--steps", "800")  # the first scoring is after 20
    assert at_once.exit_code == 1
    assert said in at_once.stderr
    assert "unforeseen" not in at_once.stderr
    monkeypatch.setattr(sys.modules[module], "worn", sys.modules[module].net)
    mended = json.loads(cli("train", "n", "--steps", "40", "--json").stdout)
    assert mended["steps_done"] == 40
    ten = {step: value for step, value in mended["curve"].items() if int(step) <= 10}
    assert ten == trained["curve"]
    Path(trained["checkpoint"]).unlink()  # as who finds it damaged is told to
    assert json.loads(cli("train", "n", "--steps", "40", "--json").stdout) == mended


def test_what_a_module_that_raised_left_is_not_taken_for_the_whole_training(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(module, tmp_path, "worn", 10)
    assert json.loads(cli("train", "n", "--steps", "40", "--json").stdout)["steps_done"] == 10
    for path in Path("runs/n/checkpoints").glob("training-*"):
        path.unlink()  # as who changed the shapes is told to
    monkeypatch.setattr(sys.modules[module], "worn", sys.modules[module].net)
    assert json.loads(cli("train", "n", "--steps", "40", "--json").stdout)["steps_done"] == 40


def test_a_training_that_another_model_left_is_not_gone_on_with(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int, words: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    searched(module, tmp_path, "net", 10)
    with pytest.raises(KeyboardInterrupt):
        train_run(load_run("n"), steps=40, report=stop)
    monkeypatch.setattr(sys.modules[module], "net", sys.modules[module].layered)
    again = cli("train", "n", "--steps", "40")
    assert again.exit_code == 2
    assert "was left by a model of other shapes than the code makes now; remove it" in again.stderr
    for path in Path("runs/n/checkpoints").glob("training-*"):
        path.unlink()
    assert cli("train", "n", "--steps", "40").exit_code == 0


def test_a_factory_whose_modules_do_not_fit_the_task_is_refused_at_once(module: str) -> None:
    search = cli("search", NETS, "--set", f"model.family={module}:narrow")
    assert search.exit_code == 2
    assert "gives the shape (2, 16, 3) for 2 examples; task digits expects (2, 10)" in (
        search.stderr
    )
    assert not Path("runs").exists()


RESUMING = """

def resuming(settings, trial):
    file = trial.checkpoint_dir / "reached"
    if not file.exists():
        file.write_text(str(settings["x"]))
    return float(file.read_text())
"""


def test_other_settings_are_another_training_with_files_of_its_own(
    module: str, tmp_path: Path
) -> None:
    code = tmp_path / "there" / f"{module}.py"
    code.write_text(MINE + RESUMING)
    resuming = ("--set", f"objective={module}:resuming")
    assert cli("search", OWN, "--run", "r", "--generations", "1", *resuming).exit_code == 0
    losses = []
    for x in (0.9, 0.3, 0.9):
        (tmp_path / "given.toml").write_text(f'x = {x}\nkind = "a"\n')
        done = cli("train", "r", "--settings", tmp_path / "given.toml", "--json")
        losses.append(json.loads(done.stdout)["loss"])
    assert losses == [0.9, 0.3, 0.9]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--precision", "bf16"), "--precision is for models that are trained here"),
        (
            ("--set", 'objectives=["accuracy"]', "--set", 'maximize=["acuracy"]'),
            'and the objective is "accuracy"; did you mean "accuracy"?',
        ),
        (("--set", 'maximize=["accuracy"]'), 'say objectives = ["accuracy"] to maximise that'),
    ],
)
def test_what_would_have_no_effect_is_refused(
    module: str, more: tuple[str, ...], said: str
) -> None:
    refused = cli("search", OWN, "--run", "o", *more)
    assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr


def test_searches_begun_at_once_without_a_name_all_get_one(module: str, tmp_path: Path) -> None:
    slow = f"import time\ntime.sleep(1)\n{MINE}"
    (tmp_path / "there" / f"{module}.py").write_text(slow)
    command = [sys.executable, "-m", "pso_attn", "search", OWN, "-q", "--generations", "1"]
    begun = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(one.wait(), one.communicate()[1]) for one in begun] == [(0, "")] * 3
    assert sorted(path.name for path in Path("runs").iterdir()) == ["own", "own-2", "own-3"]
