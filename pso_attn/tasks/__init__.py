"""Tasks: data in three splits, a loss, metrics with directions, and simple baselines.

`TASKS` holds the built-in ones. Adding one is a file with a factory, and a line here.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.tasks.digits import make_digits, show_digit
from pso_attn.tasks.images import make_images, read_new_images, show_image
from pso_attn.tasks.loaders import LoaderTask
from pso_attn.tasks.new_rows import NewRows
from pso_attn.tasks.series import make_series, read_new_series, show_series
from pso_attn.tasks.shown import Shown
from pso_attn.tasks.table import make_table, read_new_table, show_row
from pso_attn.tasks.task import Split, Task, TaskInfo
from pso_attn.tasks.text import make_text, show_text
from pso_attn.tasks.text_labels import make_text_labels, read_new_texts, show_words

__all__ = [
    "TASKS",
    "LoaderTask",
    "Split",
    "Task",
    "TaskInfo",
    "make_task",
    "shown_example",
]


@dataclass(frozen=True)
class BuiltIn:
    """A task that a space file may name: how it is made, and one line for people.

    make: called with `data` (a path, or None) and the options by keyword. read_new: called with
    what `preprocessing` gave and a file, to predict its rows; None where a model is not for that.
    show: called with what `preprocessing` gave and one example's inputs, for people; None where
    its tokens have no names.
    """

    make: Callable[..., Task]
    summary: str
    read_new: Callable[[Mapping[str, Any], str], NewRows] | None = None
    show: Callable[[Mapping[str, Any], Tensor], Shown] | None = None


TASKS: Mapping[str, BuiltIn] = MappingProxyType(
    {
        "digits": BuiltIn(
            make_digits,
            "which digit an 8 x 8 image shows, read as 16 patches (scikit-learn)",
            show=show_digit,
        ),
        "table": BuiltIn(
            make_table,
            "a column of a table from the others; data = CSV or Parquet, target = COLUMN",
            read_new_table,
            show_row,
        ),
        "series": BuiltIn(
            make_series,
            "a class, a number or the next steps of a series; data = CSV, Parquet or npz",
            read_new_series,
            show_series,
        ),
        "text_labels": BuiltIn(
            make_text_labels,
            "a class or a number from a text; data = CSV or Parquet, target = COLUMN",
            read_new_texts,
            show_words,
        ),
        "images": BuiltIn(
            make_images,
            "a class or a number from an image, read as patches; data = npz",
            read_new_images,
            show_image,
        ),
        "text": BuiltIn(
            make_text,
            "the next character of a text; data = any UTF-8 file, else Python's manual",
            show=show_text,
        ),
    }
)


def shown_example(task: Task, row: int) -> Shown:
    """Return a validation example as a person reads it; its tokens' numbers where nobody says."""
    inputs, known = task.validation.inputs[row], TASKS.get(task.name)
    if known is None or known.show is None:
        return Shown(tuple(str(number) for number in range(1, task.info.length + 1)))
    return known.show(task.preprocessing(), inputs)


def make_task(name: str, data: str | None = None, **options: Any) -> Task:
    """Return the built-in task of that name, on the file `data` or on its own data.

    Raises ConfigurationError for an unknown name or option, DataError for data that cannot work.
    """
    if name not in TASKS:
        raise ConfigurationError(f'"{name}" is not a task{nearest(name, TASKS)}')
    make = TASKS[name].make
    known = [option for option in inspect.signature(make).parameters if option != "data"]
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else "; it has none, take the key away"
            raise ConfigurationError(f'task "{name}" has no option "{option}"{hint}')
    return make(data, **options)
