"""Rows of a table: which class, or what number, from the row's other columns.

Each column is one token, as in FT-Transformer (`pso_attn.tasks.columns`); the model averages its
tokens where that one asks a [CLS] token.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.columns import (
    Column,
    ColumnOptions,
    columns_document,
    columns_from,
    encode_columns,
    fit_columns,
)
from pso_attn.tasks.files import Table, read_table
from pso_attn.tasks.labelled import LabelledTask, Prepared, labelled_task, target_column
from pso_attn.tasks.new_rows import NewRows, labelled_rows
from pso_attn.tasks.shown import Shown
from pso_attn.tasks.simple_methods import (
    Methods,
    boosting_method,
    linear_method,
    neighbour_method,
)
from pso_attn.tasks.splits import Rows, SplitOptions
from pso_attn.tasks.targets import Target, target_from
from pso_attn.tasks.task import Split, TaskInfo

_DEFAULT = "sklearn:breast_cancer"
_MOST_CODES = 255  # labels that gradient boosting tells apart; codes of more are numbers to it


def make_table(
    data: str | None = None,
    target: str | None = None,
    group: str | None = None,
    columns: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
) -> LabelledTask:
    """Return the task on a CSV or Parquet file, or on a table of scikit-learn's.

    data: a path, or "sklearn:breast_cancer", the default. target: the column to predict. group: a
    column whose rows of one value stay in one split. columns, split: the tables of the space file.
    """
    table = read_table(data or _DEFAULT)
    names = [str(name) for name in table.frame.columns]
    wanted = target_column("table", target, data or _DEFAULT)
    options, splitting = ColumnOptions.read(columns or {}, names), SplitOptions.read(split or {})
    aside = {wanted, group, splitting.column}
    frame = table.frame[[name for name in names if name not in aside]]

    def prepare(train: Rows) -> Prepared:
        return _prepared(Table(frame, table.source, table.licence), train, options)

    return labelled_task("table", table, wanted, group, options, splitting, prepare)


def read_new_table(learned: Mapping[str, Any], data: str) -> NewRows:
    """Return the rows of a file, encoded as the task's `preprocessing` says."""
    table, target = read_table(data), target_from(learned["target"])
    encoded = encode_columns(table.frame, columns_from(learned["columns"]), table.source)
    inputs = torch.from_numpy(encoded.astype(np.float32))
    return labelled_rows(inputs, target, table.frame, table.source)


def show_row(learned: Mapping[str, Any], _inputs: Tensor) -> Shown:
    """Return a row's columns for people."""
    return Shown(tuple(column.name for column in columns_from(learned["columns"])))


def _prepared(table: Table, train: Rows, options: ColumnOptions) -> Prepared:
    columns, left_out = fit_columns(table.frame, train, options, table.source)
    if not columns:
        why = [f"{name} is left out: {reason}" for name, reason in left_out.items()]
        said = "; ".join(why or ["give it columns beside the target"])
        raise DataError(f"{table.source} has no column to predict the target from; {said}")
    encoded = encode_columns(table.frame, columns, table.source)
    rows = sum(column.rows for column in columns)
    return Prepared(
        inputs=torch.from_numpy(encoded.astype(np.float32)),
        info=TaskInfo(
            tokens=rows,
            features=None,
            length=len(columns),
            outputs=1,
            causal=False,
            per_token=False,
            weighted=True,
        ),
        learned={"columns": columns_document(columns)},
        found={
            "columns": {
                column.name: _words(column, table.frame[column.name]) for column in columns
            },
            "left_out": left_out,
        },
        methods=partial(_methods, columns),
    )


def _methods(columns: Sequence[Column], target: Target, train: Split, test: Split) -> Methods:
    """A linear model and the neighbour see each row of the embedding, boosting the values."""
    rows = sum(column.rows for column in columns)
    sparse = (_sparse(train, rows), _sparse(test, rows))
    plain = (_plain(train, columns), _plain(test, columns))
    labelled = [c.kind == "label" and len(c.labels) <= _MOST_CODES for c in columns]
    return {
        **linear_method(target, *sparse),
        **neighbour_method(target, *sparse),
        **boosting_method(target, *plain, np.array(labelled)),
    }


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


def _plain(part: Split, columns: Sequence[Column]) -> NDArray[np.float64]:
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
