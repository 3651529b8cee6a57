"""Texts become ids by the words of the training rows alone."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.models import SwarmTransformer, read_transformer
from pso_attn.tasks import Task, make_task
from pso_attn.tasks.text_labels import read_new_texts

TEXTS = ["The cat sat.", "the dog ran, the cat ran", "A dog!", "a cat", "dog sat", ""] * 2
FRAME = pd.DataFrame(
    {
        "title": list("uvwxyz") * 2,
        "review": TEXTS,
        "kind": ["a", "b"] * 6,
        "fold": ["train"] * 6 + ["validation"] * 3 + ["test"] * 3,
    }
)


def made(folder: Path, frame: pd.DataFrame = FRAME, **options: Any) -> Task:
    path = folder / "data.csv"
    frame.to_csv(path, index=False)
    given = {"target": "kind", "split": {"column": "fold"}, **options}
    return make_task("text_labels", str(path), **given)


def test_words_that_training_rows_have_twice_are_known_and_others_are_not(
    tmp_path: Path,
) -> None:
    frame = FRAME.copy()
    frame.loc[6, "review"] = "violet violet violet cat"
    task = made(tmp_path, frame)
    learned = task.preprocessing()
    assert learned["text"] == "review"
    assert set(learned["words"]) == {"the", "cat", "dog", "sat", "ran", "a"}
    assert learned["words"][:3] == ["the", "cat", "dog"]  # the commonest first
    assert task.validation.inputs[0].tolist() == [1, 1, 1, 3, 0, 0, 0]
    assert task.train.inputs[0].tolist()[:4] == [2, 3, learned["words"].index("sat") + 2, 1]
    assert task.train.inputs[5].tolist() == [1, 0, 0, 0, 0, 0, 0]  # a text without words


def test_a_text_is_cut_at_the_tokens_asked_for_and_that_is_said(tmp_path: Path) -> None:
    task = made(tmp_path, columns={"tokens": 3})
    assert task.info.length == 3
    assert task.describe()["cut"] == "4 texts at 3 tokens"


def test_padding_changes_no_answer(tmp_path: Path) -> None:
    task = made(tmp_path)
    swarm = SwarmTransformer.started([read_transformer({"heads": 2}, task.info)], task.info, [0])
    before = swarm.forward(task.train.inputs[None])
    with torch.no_grad():
        swarm.storage.whole("embedding")[:, 0] += 5.0  # the row that stands for padding
    assert torch.equal(before, swarm.forward(task.train.inputs[None]))


def test_new_texts_are_read_by_the_models_own_words(tmp_path: Path) -> None:
    learned = made(tmp_path).preprocessing()
    path = tmp_path / "new.csv"
    path.write_text('review\n"cat, the unheard"\n""\n')
    rows = read_new_texts(learned, str(path))
    assert rows.inputs.tolist() == [[3, 1, 2, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]]
    assert rows.metrics is None
    path.write_text("reviews\ncat\n")
    with pytest.raises(DataError, match='no column "review", which the model names; did you'):
        read_new_texts(learned, str(path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"columns": {"text": "revew"}}, 'no column "revew", which columns.text names; did you'),
        ({"columns": {"tokens": 0}}, "columns.tokens is 0; expected a whole number from 1"),
        ({"columns": {"token": 5}}, 'columns.token is not a key; did you mean "tokens"'),
        ({"target": "kid"}, 'no column "kid", which target names; did you mean "kind"'),
        ({"columns": {"drop": ["review", "title"]}}, "has no column of texts; name one as"),
    ],
)
def test_keys_that_do_not_fit_are_one_sentence(
    options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, DataError)) as raised:
        made(tmp_path, **options)
    assert sentence in str(raised.value)
