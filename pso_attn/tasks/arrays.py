"""Arrays in an npz file: x, one example a row, and what is known of each."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pso_attn.errors import DataError
from pso_attn.tasks.files import check_file, check_size

_KEYS = ("x", "y", "lengths", "group", "split")  # x must be there, y to train


@dataclass(frozen=True, eq=False)
class Arrays:
    """inputs: (n, …), numbers. lengths: (n,), or None. frame: y, group and split, if given."""

    inputs: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any] | None
    frame: pd.DataFrame


def refuse_bare_array(data: str) -> None:
    """Raise DataError for an npy file, whose one array has no name and no targets beside it."""
    if data.lower().endswith(".npy"):
        raise DataError(
            f"{data} holds one array without a name; write it, and its targets beside it, with "
            'numpy.savez("data.npz", x=…, y=…)'
        )


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of an npz file; DataError for keys or shapes that are not expected."""
    refuse_bare_array(str(path))
    check_file(path)
    try:
        # opened here, since numpy leaves a file that it cannot read open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            check_size(path, sum(part.file_size for part in file.zip.infolist()))
            found = {name.lower(): file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(
            f"{path} is not an npz file of plain arrays ({str(error).splitlines()[0]}); write it "
            "with numpy.savez(path, x=…, y=…)"
        ) from error
    unknown = [name for name in found if name not in _KEYS]
    if "x" not in found or unknown:
        raise DataError(
            f"{path} has the keys {', '.join(found) or 'of nothing'}; expected x and y, and if "
            "you like lengths, group and split"
        )
    inputs = found["x"]
    if inputs.dtype.kind not in "fiub" or inputs.ndim < 2 or not len(inputs):
        raise DataError(
            f"{path}: x has shape {inputs.shape} of {inputs.dtype}; expected numbers, one example "
            "a row"
        )
    named = [name for name in ("y", "group", "split") if name in found]
    frame = {name: _column(path, name, found[name], len(inputs)) for name in named}
    lengths = found.get("lengths")
    if lengths is not None:
        lengths = _column(path, "lengths", lengths, len(inputs))
    return Arrays(inputs, lengths, pd.DataFrame(frame, index=range(len(inputs))))


def _column(path: Path, name: str, values: Any, rows: int) -> Any:
    if values.shape != (rows,):
        raise DataError(
            f"{path}: {name} has shape {values.shape}, and x {rows} examples; expected ({rows},)"
        )
    return values
