"""Texts in a table: which class, or what number, from a column's words.

A token is a word or a sign. Id 0 is padding, 1 a word that the training rows have less than twice
or that is not among their commonest, and the others are those.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.tasks.columns import ColumnOptions
from pso_attn.tasks.files import Table, read_table
from pso_attn.tasks.labelled import LabelledTask, Prepared, labelled_task, target_column
from pso_attn.tasks.new_rows import NewRows, labelled_rows
from pso_attn.tasks.shown import Shown
from pso_attn.tasks.simple_methods import Methods, linear_method, neighbour_method
from pso_attn.tasks.splits import Rows, SplitOptions
from pso_attn.tasks.targets import Target, target_from
from pso_attn.tasks.task import Split, TaskInfo

MOST_TOKENS = 64  # by default; texts are cut there
MOST_WORDS = 2000
PADDING, UNKNOWN, FIRST = 0, 1, 2  # ids
_KEYS = ("text", "tokens")  # of the table [columns], beside those of any table


def make_text_labels(
    data: str | None = None,
    target: str | None = None,
    group: str | None = None,
    columns: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
) -> LabelledTask:
    """Return the task on a CSV or Parquet file.

    columns.text: the column that is read, by default the one whose texts are longest;
    columns.tokens: how many of a text's words are read at most.
    """
    if data is None:
        raise ConfigurationError('task "text_labels" reads a file; set data = "FILE.csv"')
    columns, splitting = columns or {}, SplitOptions.read(split or {})
    table, wanted = read_table(data), target_column("text_labels", target, data)
    names = [str(name) for name in table.frame.columns]
    options = ColumnOptions.read(columns, names, more=_KEYS)
    aside = {wanted, group, splitting.column, *options.drop}
    text = columns.get("text") or _longest(table, [name for name in names if name not in aside])
    texts = table.require(text, "columns.text")
    tokens = columns.get("tokens", MOST_TOKENS)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise ConfigurationError(f"columns.tokens is {tokens!r}; expected a whole number from 1")

    def prepare(train: Rows) -> Prepared:
        return _prepared(texts, train, tokens)

    return labelled_task("text_labels", table, wanted, group, options, splitting, prepare)


def read_new_texts(learned: Mapping[str, Any], data: str) -> NewRows:
    """Return the texts of a file, encoded as the task's `preprocessing` says."""
    table, target = read_table(data), target_from(learned["target"])
    texts = table.require(learned["text"], "the model")
    inputs = _encoded(_split(texts), learned["words"], learned["tokens"])
    return labelled_rows(inputs, target, table.frame, table.source)


def show_words(learned: Mapping[str, Any], inputs: Tensor) -> Shown:
    """Return the words of a text (T,) for people, padding left out."""
    words = {UNKNOWN: "(unknown)", **dict(enumerate(learned["words"], start=FIRST))}
    return Shown(tuple(words[one] for one in inputs.tolist() if one != PADDING))


def _longest(table: Table, names: Sequence[str]) -> str:
    """Return the column of texts that are longest by their mean; DataError where there is none."""
    lengths = {
        name: table.frame[name].dropna().str.len().mean()
        for name in names
        if pd.api.types.is_string_dtype(table.frame[name])
    }
    if not lengths:
        raise DataError(f"{table.source} has no column of texts; name one as columns.text")
    return max(lengths, key=lambda name: lengths[name])


def _prepared(texts: pd.Series, train: Rows, most: int) -> Prepared:
    split = _split(texts)
    counts = Counter(word for row in train for word in split[row])
    words = [word for word, count in counts.most_common(MOST_WORDS) if count > 1]
    tokens = min(most, max(len(split[row]) for row in train) or 1)
    lengths = [len(row) for row in split]
    inputs = _encoded(split, words, tokens)
    real = inputs != PADDING
    return Prepared(
        inputs=inputs,
        info=TaskInfo(
            tokens=len(words) + FIRST,
            features=None,
            length=tokens,
            outputs=1,
            causal=False,
            per_token=False,
            padded=True,
        ),
        learned={"text": str(texts.name), "words": words, "tokens": tokens},
        found={
            "text": str(texts.name),
            "missing": int(texts.isna().sum()),
            "words": len(words),
            "unknown": f"{float((inputs[real] == UNKNOWN).float().mean()):.1%}",
            "tokens": sorted({min(lengths), max(lengths)}),
            "cut": f"{sum(length > tokens for length in lengths)} texts at {tokens} tokens",
        },
        methods=partial(_methods, len(words) + FIRST),
    )


def _split(texts: pd.Series) -> list[list[str]]:
    """Return each text's words and signs, in small letters."""
    return [re.findall(r"\w+|[^\w\s]", text.lower()) for text in texts.fillna("").astype(str)]


def _encoded(split: Sequence[Sequence[str]], words: Sequence[str], tokens: int) -> Tensor:
    """Return ids (n, tokens); a text without words is one unknown word."""
    ids = {word: number for number, word in enumerate(words, start=FIRST)}
    encoded = np.full((len(split), tokens), PADDING, dtype=np.int64)
    for row, text in enumerate(split):
        found = [ids.get(word, UNKNOWN) for word in text[:tokens]] or [UNKNOWN]
        encoded[row, : len(found)] = found
    return torch.from_numpy(encoded)


def _methods(ids: int, target: Target, train: Split, test: Split) -> Methods:
    """A linear model and the neighbour see how often each word stands in a text."""
    counts = (_counts(train, ids), _counts(test, ids))
    return {**linear_method(target, *counts), **neighbour_method(target, *counts)}


def _counts(part: Split, ids: int) -> Any:
    """Return how often each word stands in each text, (n, ids), padding left out."""
    from scipy.sparse import csr_matrix

    rows, places = np.nonzero(part.inputs.numpy() != PADDING)
    words = part.inputs.numpy()[rows, places]
    return csr_matrix((np.ones(len(rows)), (rows, words)), shape=(len(part), ids))
