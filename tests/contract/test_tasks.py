"""Every built-in task keeps the contract."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pso_attn.seeding import generator
from pso_attn.tasks import LoaderTask, Task, make_task
from pso_attn.testing.tasks import TaskContract


class TestDigits(TaskContract):
    def make(self) -> Task:
        return make_task("digits")


class TestTable(TaskContract):
    def make(self) -> Task:
        return make_task("table")


class TestTableOfNumbers(TaskContract):
    def make(self) -> Task:
        return make_task("table", "sklearn:diabetes")


class TestSeries(TaskContract):
    def make(self) -> Task:
        return make_task("series")


class TestSeriesOfManyLengths(TaskContract):
    @pytest.fixture(autouse=True)
    def _series(self, tmp_path: Path) -> None:
        rng = generator(0, "series")
        values, kinds = rng.normal(size=(90, 40)), np.repeat(["up", "down", "level"], 30)
        values += np.outer((kinds == "up") * 1.0 - (kinds == "down"), np.arange(40) / 4)
        self.path = tmp_path / "series.npz"
        np.savez(self.path, x=values, y=kinds, lengths=rng.integers(20, 41, size=90))

    def make(self) -> Task:
        return make_task("series", str(self.path), columns={"patch": 3})


class TestForecast(TaskContract):
    """Of two series in a wide table, with what is known ahead of both."""

    @pytest.fixture(autouse=True)
    def _series(self, tmp_path: Path) -> None:
        rng, hours = generator(0, "hours"), np.arange(400)
        open_hours = (hours % 24 > 7) * 1.0
        frame = pd.DataFrame({"hour": pd.date_range("2025-01-01", periods=400, freq="h")})
        frame["open"] = open_hours
        for name, size in (("a", 10.0), ("b", 3.0)):
            frame[name] = size * (open_hours + np.sin(hours / 24) + rng.normal(0, 0.2, 400))
        self.path = tmp_path / "wide.csv"
        frame.to_csv(self.path, index=False)

    def make(self) -> Task:
        forecast = {"horizon": 6, "context": 24}
        return make_task(
            "series", str(self.path), time="hour", columns={"known": ["open"]}, forecast=forecast
        )


class TestImages(TaskContract):
    def make(self) -> Task:
        return make_task("images")


class TestTextLabels(TaskContract):
    @pytest.fixture(autouse=True)
    def _texts(self, tmp_path: Path) -> None:
        self.path = tmp_path / "texts.csv"
        self.path.write_text(reviews(120), encoding="utf-8")

    def make(self) -> Task:
        return make_task("text_labels", str(self.path), target="verdict")


def reviews(count: int) -> str:
    """Return a table of texts that tell their class by a word, as CSV."""
    rng, lines = generator(0, "reviews"), ["number,text,verdict"]
    words = ["a", "the", "film", "plot", "was", "and", "with", "in", "long", "short", "new", "old"]
    for number in range(count):
        verdict = str(rng.choice(["good", "bad"]))
        told = rng.choice(words, size=rng.integers(8, 14)).tolist()
        told.insert(int(rng.integers(3)), {"good": "fine", "bad": "dull"}[verdict])
        lines.append(f'{number},"{" ".join(told)}, no {number}.",{verdict}')
    return "\n".join(lines)


class TestText(TaskContract):
    """On a text in which no window recurs, so that an example tells where it was cut."""

    @pytest.fixture(autouse=True)
    def _text(self, tmp_path: Path) -> None:
        rng = generator(0, "contract")
        letters = list("abcdefghij")
        words = ["".join(rng.choice(letters, size=5)) for _ in range(40)]
        self.path = tmp_path / "text.txt"
        self.path.write_text(" ".join(rng.choice(words, size=2000)), encoding="utf-8")

    def make(self) -> Task:
        return make_task("text", str(self.path), columns={"tokens": 32})


class TestLoadedVectors(TaskContract):
    """The class of the documentation, as it stands there."""

    @pytest.fixture(autouse=True)
    def _module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = (Path(__file__).parents[2] / "docs" / "own-code.md").read_text(encoding="utf-8")
        (shown,) = (
            block.partition("```")[0]
            for block in text.split("```python\n")
            if block.startswith("# flowers.py")
        )
        self.module: Any = ModuleType("flowers")
        exec(shown, vars(self.module))
        monkeypatch.setitem(sys.modules, "flowers", self.module)

    def make(self) -> Task:
        made: Task = self.module.Flowers()
        return made


class TestLoadedTokens(TaskContract):
    """A class for each id of a sequence, out of loaders that shuffle."""

    def make(self) -> Task:
        rng = generator(0, "labelled")
        ids = torch.from_numpy(rng.choice(12**5, size=300, replace=False))
        rows = torch.stack([ids // 12**k % 12 for k in range(5)], dim=1)
        examples = TensorDataset(rows, (rows == 3).long() + 2 * (rows == 4).long())
        parts = torch.utils.data.random_split(
            examples, [180, 60, 60], torch.Generator().manual_seed(0)
        )
        return LoaderTask(*(DataLoader(part, batch_size=60, shuffle=True) for part in parts))


class TestLoadedAnswers(TaskContract):
    """A sequence that answers a sequence: what five ids are of, turned around, one step late."""

    def make(self) -> Task:
        rng = generator(0, "turned")
        ids = torch.from_numpy(rng.choice(12**5, size=300, replace=False))
        rows = torch.stack([ids // 12**k % 12 for k in range(5)], dim=1)
        turned = (rows.flip(1) == 3).long() + 2 * (rows.flip(1) == 4).long()
        begun = torch.cat([torch.zeros(300, 1, dtype=torch.int64), turned[:, :-1]], dim=1)
        examples = TensorDataset(torch.cat([rows, begun], dim=1), turned)
        parts = torch.utils.data.random_split(
            examples, [180, 60, 60], torch.Generator().manual_seed(0)
        )
        return LoaderTask(*(DataLoader(part, batch_size=60) for part in parts), causal=True)
