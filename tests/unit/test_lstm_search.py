"""The LSTM family from the command line: searched, confirmed, trained, exported, verified."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.config.schema import _FAMILIES
from pso_attn.models import FAMILIES

SPACE = """
task = "{task}"
[model]
family = "lstm"
hidden = 8
{model}
[search]
score = ["additive", "dot", "general", "concat"]
local = ["none", "monotonic", "predictive"]
window_tokens = {{ low = 1, high = 4 }}
sentinel = [false, true]
lr = {{ low = 1e-3, high = 3e-2, log = true }}
{search}
[constraints]
expressions = ["parameters <= 3000", "flops > 0"]
[budget]
particles = 4
generations = 2
steps = 8
"""
REVERSING = '''
import hashlib

import torch

from pso_attn.models import TaskInfo
from pso_attn.seeding import generator
from pso_attn.tasks.classification import cross_entropy
from pso_attn.tasks.task import Split


class Reversing:
    """Random words, to be said backwards: the decoder reads what it should have said last."""

    name = "reversing"
    info = TaskInfo(6, None, 9, 6, causal=True, per_token=True, horizon=4)
    metrics = {"loss": "minimize"}
    fingerprint = hashlib.sha256(b"reversing").hexdigest()

    def __init__(self):
        self.train, self.validation, self.test = (self.drawn(k) for k in range(3))

    def drawn(self, split):
        words = torch.from_numpy(generator(split, "words").integers(1, 6, (64, 5)))
        said = words.flip(1)[:, :4]
        read = torch.cat([torch.zeros_like(said[:, :1]), said[:, :-1]], 1)
        return Split(torch.cat([words, read], 1), said)

    def describe(self):
        return {}

    def preprocessing(self):
        return {}

    def loss(self, logits, targets):
        return cross_entropy(logits, targets)

    def score(self, logits, targets):
        return {"loss": cross_entropy(logits, targets)}

    def baselines(self):
        return {}
'''


def cli(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize(
    ("task", "model", "search"),
    [
        ("digits", "", "bidirectional = [false, true]\nlast_state = [false, true]"),
        ("reversing_task:Reversing", "layers = 2", "bidirectional_attention = [false, true]"),
    ],
)
def test_a_search_goes_all_the_way_to_a_model_that_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, model: str, search: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("reversing_task.py").write_text(REVERSING)
    Path("my.toml").write_text(SPACE.format(task=task, model=model, search=search))
    cli("search", "my.toml", "--run", "mine")
    written = tomllib.loads(Path("runs/mine/config.toml").read_text())
    assert written["model"]["recurrence"] in ("batched", "one_by_one")  # as it was measured
    assert "float for float" in cli("verify", "mine").stdout
    best = json.loads(cli("best", "mine", "--json").stdout)
    assert best["settings"]["family"] == "lstm"
    cli("confirm", "mine", "--top", "1", "--seeds", "2")
    cli("report", "mine")
    cli("train", "mine", "--steps", "12")
    cli("export", "mine", "--out", "out")
    command = [sys.executable, "-I", "out/load.py"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["loss"] == pytest.approx(found["expected"], abs=1e-5)


def test_a_stated_recurrence_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = SPACE.format(task="digits", model='recurrence = "one_by_one"', search="")
    Path("my.toml").write_text(asked)
    cli("search", "my.toml", "--run", "mine", "--timeout", "0")
    written = tomllib.loads(Path("runs/mine/config.toml").read_text())
    assert written["model"]["recurrence"] == "one_by_one"
    assert not (tmp_path / "cache").exists()


def test_the_families_that_a_space_file_may_name_are_those_that_there_are() -> None:
    assert tuple(FAMILIES) == _FAMILIES


def test_the_list_of_knobs_says_in_which_family_each_acts() -> None:
    listed = json.loads(cli("knobs", "--json").stdout)["knobs"]
    families = {(knob["name"], knob["family"]) for knob in listed}
    assert {("hops", "lstm"), ("mechanism", "transformer"), ("lr", None)} <= families
    assert {("heads", "lstm"), ("heads", "transformer")} <= families
    assert "hops (lstm)" in cli("knobs").stdout
