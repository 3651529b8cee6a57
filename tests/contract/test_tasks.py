"""Every built-in task keeps the contract."""

from pathlib import Path

import pytest

from pso_attn.seeding import generator
from pso_attn.tasks import Task, make_task
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
        return make_task("text", str(self.path), context=32)
