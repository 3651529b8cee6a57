"""A sequence that answers a sequence: a task out of loaders, by an encoder and a decoder."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.errors import DataError
from pso_attn.tasks import LoaderTask

SYMBOLS, LENGTH = 4, 5  # of what is turned around; SYMBOLS itself is the id that begins
MINE = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from pso_attn.tasks import LoaderTask


class Turned(LoaderTask):
    def __init__(self, data=None):
        random, loaders = torch.Generator().manual_seed(0), []
        for rows in (400, 100, 100):
            source = torch.randint(4, (rows, 5), generator=random)
            turned = source.flip(1)
            begun = torch.cat([torch.full((rows, 1), 4), turned[:, :-1]], 1)
            examples = TensorDataset(torch.cat([source, begun], 1), turned)
            loaders.append(DataLoader(examples, batch_size=100))
        super().__init__(*loaders, causal=True)
"""
PADDED = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from pso_attn.tasks import LoaderTask


class Turned(LoaderTask):
    def __init__(self, data=None):
        random, loaders = torch.Generator().manual_seed(0), []
        for rows in (400, 100, 100):
            source = torch.randint(1, 5, (rows, 5), generator=random)
            lengths = torch.randint(2, 6, (rows, 1), generator=random)
            turned = torch.cat([source.gather(1, lengths - 1), source.gather(1, lengths - 2)], 1)
            source[torch.arange(5) >= lengths] = 0
            begun = torch.cat([torch.full((rows, 1), 5), turned[:, :-1]], 1)
            examples = TensorDataset(torch.cat([source, begun], 1), turned - 1)
            loaders.append(DataLoader(examples, batch_size=100))
        super().__init__(*loaders, causal=True, padded=True)
"""
SPACE = """
task = "turning:Turned"
[model]
family = "FAMILY"
[search]
lr = [0.01, 0.03]
[budget]
particles = 2
generations = 1
steps = 200
rungs = [1.0]
"""
LSTM = """family = "lstm"
hidden = 16
score = "general"
bidirectional = true
bidirectional_attention = true"""


@pytest.mark.parametrize("code", [MINE, PADDED], ids=["of one length", "padded"])
@pytest.mark.parametrize("family", ['family = "transformer"', LSTM], ids=["transformer", "lstm"])
def test_a_sequence_is_answered_by_a_sequence_and_the_model_stands_alone(
    family: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("turning.py").write_text(code)
    Path("space.toml").write_text(SPACE.replace('family = "FAMILY"', family))

    def cli(*arguments: str) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    cli("search", "space.toml", "--run", "turned")
    assert cli("best", "turned")["metrics"]["accuracy"] > 0.5  # a guess is right in .25
    cli("export", "turned", "--out", "model")
    check = runpy.run_path("model/load.py")["check"]()
    assert check["loss"] == pytest.approx(check["expected"], rel=1e-5)


@pytest.mark.parametrize("asked", [LENGTH + 1, 0])
def test_more_answers_than_tokens_or_none_are_refused(asked: int) -> None:
    inputs, targets = torch.zeros(4, LENGTH).long(), torch.zeros(4, asked).long()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=4)
    with pytest.raises(DataError, match="or one for each of the last tokens"):
        LoaderTask(loader, loader, loader)


def test_the_last_tokens_are_what_is_asked() -> None:
    inputs, targets = torch.zeros(4, LENGTH).long(), torch.zeros(4, 2).long()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=4)
    info = LoaderTask(loader, loader, loader).info
    assert (info.per_token, info.horizon, info.length) == (True, 2, LENGTH)


def test_simple_methods_meet_a_class_that_training_has_not() -> None:
    def part(*classes: int) -> list[Any]:
        targets = torch.tensor(classes * 10)
        return [(torch.randn(len(targets), 4, 2), targets)]

    scores = LoaderTask(part(0, 1), part(0, 1), part(0, 1, 2)).baselines()["logistic regression"]
    assert 0 <= scores["accuracy"] <= 2 / 3
    assert scores["loss"] > 1
