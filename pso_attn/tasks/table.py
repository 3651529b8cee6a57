"""Rows of a table: which class, or what number, from the row's other columns.

Each column is one token, as in FT-Transformer (`pso_attn.tasks.columns`); the model averages its
tokens where that one asks a [CLS] token.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.seeding import generator
from pso_attn.tasks.columns import (
    Column,
    ColumnOptions,
    as_words,
    columns_document,
    columns_from,
    encode_columns,
    fit_columns,
)
from pso_attn.tasks.files import Table, read_table
from pso_attn.tasks.new_rows import NewRows, right_answers
from pso_attn.tasks.simple_methods import (
    boosting_method,
    linear_method,
    neighbour_method,
    simple_scores,
)
from pso_attn.tasks.splits import (
    NAMES,
    Parts,
    SplitOptions,
    check_groups,
    split_by_column,
    split_by_group,
    split_by_share,
)
from pso_attn.tasks.targets import Target, fit_target, labels_of, target_from
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.types import Direction

_DEFAULT = ("sklearn:breast_cancer", "target")
_MOST_CODES = 255  # labels that gradient boosting tells apart; codes of more are numbers to it


@dataclass(frozen=True, eq=False)
class TableTask:
    """A column of a table, from the others.

    columns: those that are read. found: what `describe` returns.
    """

    train: Split
    validation: Split
    test: Split
    columns: tuple[Column, ...]
    target: Target
    found: Mapping[str, Any]
    fingerprint: str
    name: ClassVar[str] = "table"

    @property
    def info(self) -> TaskInfo:
        """One token a column."""
        return TaskInfo(
            tokens=sum(column.rows for column in self.columns),
            features=None,
            length=len(self.columns),
            outputs=self.target.outputs,
            causal=False,
            per_token=False,
            weighted=True,
        )

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The target's."""
        return self.target.metrics

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean cross-entropy, or squared error, (N,)."""
        return self.target.loss(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return every metric of each particle, (N,) each."""
        return self.target.score(logits, targets)

    def describe(self) -> dict[str, Any]:
        """Return what was found in the data, and how it is read."""
        return dict(self.found)

    def preprocessing(self) -> dict[str, Any]:
        """Return the columns and the target as the training rows have them."""
        return {"columns": columns_document(self.columns), "target": self.target.document()}

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what the commonest answer, a linear model, the neighbour and boosting reach."""
        sparse = [_sparse(part, self.info.tokens or 0) for part in (self.train, self.test)]
        plain = [_plain(part, self.columns) for part in (self.train, self.test)]
        labelled = np.array(
            [c.kind == "label" and len(c.labels) <= _MOST_CODES for c in self.columns]
        )
        methods = {}
        for (name, make), (train, test) in (
            (linear_method(self.target), sparse),
            (neighbour_method(self.target), sparse),
            (boosting_method(self.target, labelled), plain),
        ):
            methods[name] = (make, train, test)
        return simple_scores(self.target, methods, self.train.targets, self.test.targets)


def make_table(
    data: str | None = None,
    target: str | None = None,
    group: str | None = None,
    columns: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
) -> TableTask:
    """Return the task on a CSV or Parquet file, or on a table of scikit-learn's.

    data: a path, or "sklearn:breast_cancer", the default. target: the column to predict. group: a
    column whose rows of one value stay in one split. columns, split: the tables of the space file.
    """
    if data is None:
        data, target = _DEFAULT[0], target or _DEFAULT[1]
    table = read_table(data)
    if target is None:
        target = "target" if data.startswith("sklearn:") else target
    if target is None:
        raise ConfigurationError(
            'task "table" needs to know which column to predict; set target = "COLUMN", one of '
            f"{', '.join(map(str, table.frame.columns[-8:]))}"
        )
    values = table.require(target, "target")
    options = ColumnOptions.read(columns or {}, [str(name) for name in table.frame.columns])
    splitting = SplitOptions.read(split or {})
    labels = labels_of(values, options, table.source)
    parts = split_rows(table, labels, group, splitting)
    fitted = fit_target(values, labels, parts[0], table.source)
    others = [name for name in (target, group, splitting.column) if name is not None]
    frame = table.frame.drop(columns=others)
    read, left_out = fit_columns(frame, parts[0], options, table.source)
    if not read:
        raise DataError(
            f"{table.source} has no column to predict {target} from; "
            + "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        )
    inputs = torch.from_numpy(encode_columns(frame, read, table.source).astype(np.float32))
    wanted = fitted.encode(values, table.source)
    train, validation, test = (
        Split(inputs[torch.from_numpy(rows)], wanted[torch.from_numpy(rows)]) for rows in parts
    )
    learned = {"columns": columns_document(read), "target": fitted.document()}
    return TableTask(
        train=train,
        validation=validation,
        test=test,
        columns=read,
        target=fitted,
        found={
            "source": table.source,
            "licence": table.licence,
            "rows": len(frame),
            **{name: len(rows) for name, rows in zip(NAMES, parts, strict=True)},
            "split": splitting.words(group),
            "target": target,
            **fitted.found(values),
            "columns": {column.name: _words(column, frame[column.name]) for column in read},
            "left_out": left_out,
        },
        fingerprint=fingerprint_of((train, validation, test), learned),
    )


def read_new_table(learned: Mapping[str, Any], data: str) -> NewRows:
    """Return the rows of a file, encoded as `TableTask.preprocessing` says."""
    table, target = read_table(data), target_from(learned["target"])
    encoded = encode_columns(table.frame, columns_from(learned["columns"]), table.source)
    inputs = torch.from_numpy(encoded.astype(np.float32))
    return NewRows(inputs, target, right_answers(table.frame, target, table.source))


def split_rows(
    table: Table, labels: NDArray[Any] | None, group: str | None, options: SplitOptions
) -> Parts:
    """Return the rows of each split; labels: classes that share out alike, None for a number.

    Raises DataError for a column that is not there or has gaps, and for a group in two splits.
    """
    groups = None if group is None else _whole_words(table, group, "group")
    if options.column is not None:
        words = _whole_words(table, options.column, "split.column")
        parts = split_by_column(words, options)
    elif groups is not None:
        parts = split_by_group(groups, options)
    else:
        alike = np.zeros(len(table.frame)) if labels is None else labels
        parts = split_by_share(alike, options.borders, generator(0, "split", "rows"))
    if groups is not None:
        check_groups(groups, parts)
    return parts


def fingerprint_of(splits: Sequence[Split], learned: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a model sees, and of what was learned to make it."""
    digest = hashlib.sha256(json.dumps(learned, sort_keys=True).encode())
    for part in splits:
        for tensor in (part.inputs, part.targets):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _whole_words(table: Table, column: str, key: str) -> NDArray[Any]:
    values = table.require(column, key)
    absent = np.flatnonzero(values.isna().to_numpy())
    if len(absent):
        raise DataError(
            f'{table.source}: column "{column}", which {key} names, is empty in row '
            f"{absent[0] + 1}; fill it in every row"
        )
    return as_words(values).to_numpy()


def _words(column: Column, values: pd.Series) -> str:
    """Return how a column is read, for people."""
    missing = int(values.isna().sum())
    kind = "number" if column.kind == "number" else f"{len(column.labels)} labels"
    return f"{kind}, {missing} missing" if missing else kind


def _sparse(part: Split, width: int) -> Any:
    """Return a split as a matrix (n, width): each row of the embedding is a feature."""
    from scipy.sparse import csr_matrix

    rows, weights = part.inputs[..., 0].long().numpy(), part.inputs[..., 1].numpy()
    examples = np.arange(len(rows))[:, None].repeat(rows.shape[1], axis=1)
    return csr_matrix(
        (weights.ravel().astype(np.float64), (examples.ravel(), rows.ravel())),
        shape=(len(rows), width),
    )


def _plain(part: Split, columns: tuple[Column, ...]) -> NDArray[np.float64]:
    """Return a split as a matrix (n, T): numbers, and codes of labels; missing ones NaN."""
    rows, weights = part.inputs[..., 0].numpy(), part.inputs[..., 1].numpy().astype(np.float64)
    features = []
    for index, column in enumerate(columns):
        place = rows[:, index] - column.first
        absent = place >= column.rows - column.missing
        if column.kind == "label":
            absent |= weights[:, index] == 0
        known = place if column.kind == "label" else weights[:, index]
        features.append(np.where(absent, np.nan, known))
    return np.stack(features, axis=1)
