"""Examples with a target each, read from a file: split, and encoded as the training rows have it.

Tables, series, images and labelled texts are of this kind; what differs is how their examples
become inputs, `Prepared`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.seeding import generator
from pso_attn.tasks.columns import ColumnOptions, as_words
from pso_attn.tasks.files import Table
from pso_attn.tasks.simple_methods import Methods, simple_scores
from pso_attn.tasks.splits import (
    NAMES,
    Parts,
    Rows,
    SplitOptions,
    check_groups,
    split_by_column,
    split_by_group,
    split_by_share,
)
from pso_attn.tasks.targets import Target, fit_target, labels_of
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.types import Direction


@dataclass(frozen=True, eq=False)
class Prepared:
    """Examples as inputs. info: all but its outputs, which the target has.

    learned: what the training rows told, as plain values. found: what a person should see, the
    same. methods: from the train and test split to the simple methods that are fitted beside.
    """

    inputs: Tensor
    info: TaskInfo
    learned: Mapping[str, Any]
    found: Mapping[str, Any]
    methods: Callable[[Target, Split, Split], Methods]


@dataclass(frozen=True, eq=False)
class LabelledTask:
    """A task on a file. found: what `describe` returns; learned: what `preprocessing` does."""

    name: str
    info: TaskInfo
    train: Split
    validation: Split
    test: Split
    target: Target
    learned: Mapping[str, Any]
    found: Mapping[str, Any]
    fingerprint: str
    methods: Callable[[Target, Split, Split], Methods]

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
        """Return how examples are read and what the training rows told, with the target."""
        return {**self.learned, "target": self.target.document()}

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what the commonest answer and simple methods reach on the test split."""
        methods = self.methods(self.target, self.train, self.test)
        return simple_scores(self.target, methods, self.train.targets, self.test.targets)


def labelled_task(
    name: str,
    table: Table,
    target: str,
    group: str | None,
    options: ColumnOptions,
    splitting: SplitOptions,
    prepare: Callable[[Rows], Prepared],
) -> LabelledTask:
    """Return the task whose examples are the rows of a table.

    prepare: called with the training rows. Raises DataError for a target or a split that cannot
    work.
    """
    values = table.require(target, "target")
    labels = labels_of(values, options, table.source)
    parts = split_rows(table, labels, group, splitting)
    fitted = fit_target(values, labels, parts[0], table.source)
    prepared = prepare(parts[0])
    wanted = fitted.encode(values, table.source)
    train, validation, test = (
        Split(prepared.inputs[torch.from_numpy(rows)], wanted[torch.from_numpy(rows)])
        for rows in parts
    )
    learned = {**prepared.learned, "target": fitted.document()}
    return LabelledTask(
        name=name,
        info=replace(prepared.info, outputs=fitted.outputs),
        train=train,
        validation=validation,
        test=test,
        target=fitted,
        learned=prepared.learned,
        found={
            "source": table.source,
            "licence": table.licence,
            "rows": len(values),
            **{part: len(rows) for part, rows in zip(NAMES, parts, strict=True)},
            "split": splitting.words(group),
            "target": target,
            **fitted.found(values),
            **prepared.found,
        },
        fingerprint=fingerprint_of((train, validation, test), learned),
        methods=prepared.methods,
    )


def target_column(task: str, given: str | None, data: str) -> str:
    """Return which column is predicted; ConfigurationError where nobody says it.

    Data of a library has it under the name "target", arrays under the name "y".
    """
    if given is not None:
        return given
    if data.startswith(("sklearn:", "aeon:")):
        return "target"
    if data.lower().endswith(".npz"):
        return "y"
    raise ConfigurationError(
        f'task "{task}" needs to know which column of {data} to predict; set target = "COLUMN"'
    )


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
