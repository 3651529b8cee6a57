"""Tables as files: CSV or Parquet read whole, or one sentence that says what is wrong."""

import csv
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pso_attn.errors import DataError, nearest

_MOST_BYTES = 1_000_000_000  # a frame, or a text's ids, take several times as much memory
_NUMBER_BYTES = 8
_DELIMITERS = (",", ";", "\t")
_BUNDLED = ("breast_cancer", "diabetes", "iris", "wine")


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns, rows numbered from 0; source and licence are for people."""

    frame: pd.DataFrame
    source: str
    licence: str

    def require(self, column: str, key: str) -> pd.Series:
        """Return a column that a key of the space file names; DataError if it is not there."""
        if column not in self.frame.columns:
            raise DataError(
                f'{self.source} has no column "{column}", which {key} names'
                f"{nearest(column, map(str, self.frame.columns))}"
            )
        return self.frame[column]


def read_table(data: str) -> Table:
    """Return the table in a file, or one that scikit-learn brings, as "sklearn:wine".

    A name that ends in .parquet or .pq is Parquet, any other CSV in UTF-8, with a header, its
    fields separated by whichever of comma, semicolon and tab the header has most of. Raises
    DataError for what cannot be read.
    """
    if data.startswith("sklearn:"):
        return _bundled(data.removeprefix("sklearn:"))
    path = Path(data)
    if path.suffix.lower() in (".npy", ".npz"):
        raise DataError(f"{path} holds arrays; expected a table, as CSV or Parquet")
    check_file(path)
    frame = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    if frame.empty:
        raise DataError(f"{path} has a header and no rows; give it at least ten")
    return Table(frame, data, "the file's own")


def check_file(path: Path) -> None:
    """Raise DataError unless the path is a file that can be read, not empty and not too large."""
    if os.path.isdir(path):
        raise DataError(f"{path} is a directory; name one file in it")
    if not os.path.exists(path):  # a Path raises where the name is too long
        raise DataError(f"{path} does not exist; data names a file")
    if not os.path.isfile(path):
        raise DataError(f"{path} is not an ordinary file; copy its contents into one")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path} cannot be read; check its rights")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path} is empty; put your data into it")
    check_size(path, size)


def check_size(path: Path, size_bytes: int) -> None:
    """Raise DataError where what a file holds, unpacked, is more than is read."""
    if size_bytes > _MOST_BYTES:
        raise DataError(
            f"{path} has {size_bytes / 1e9:.2f} GB, and at most {_MOST_BYTES / 1e9:.0f} GB are "
            "read, since it is held in memory; take a part of it"
        )


def _csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
        delimiter = max(_DELIMITERS, key=header.count)
        _check_shape(path, delimiter)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path, sep=delimiter, encoding="utf-8-sig", index_col=False, low_memory=False
            )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 at byte {error.start}; convert it, e.g. with iconv -t UTF-8"
        ) from None
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} is not CSV: {error}; mend it there") from error


def _check_shape(path: Path, delimiter: str) -> None:
    """Raise DataError unless every row has as many fields as the header, whose names differ."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(_MOST_BYTES)  # a text may be long
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        for name, count in Counter(header).items():
            if count > 1:
                raise DataError(f'{path} has {count} columns named "{name}"; rename all but one')
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, and the header has "
                    f"{len(header)}; mend that row"
                )


def _parquet(path: Path) -> pd.DataFrame:
    try:
        from pyarrow.parquet import read_metadata

        size = read_metadata(path)
        check_size(path, size.num_rows * size.num_columns * _NUMBER_BYTES)
        frame = pd.read_parquet(path)
        if any(isinstance(level, pd.DatetimeIndex) for level in _levels(frame.index)):
            frame = frame.reset_index()  # else times that somebody made the index would be lost
        return frame.set_axis([str(name) for name in frame.columns], axis=1)
    except ImportError as error:
        raise DataError(
            f"{path} is Parquet, which needs a package that is not installed: pip install "
            '"pso-attn[parquet]", or write it as CSV'
        ) from error
    except (OSError, ValueError) as error:  # pyarrow's own errors are of both kinds
        raise DataError(f"{path} is not Parquet: {error}") from error


def _levels(index: pd.Index) -> list[pd.Index]:
    """Return the parts of an index."""
    return list(index.levels) if isinstance(index, pd.MultiIndex) else [index]


def _bundled(name: str) -> Table:
    """Return one of scikit-learn's tables: its features, and "target", in words if classes."""
    if name not in _BUNDLED:
        raise DataError(f'scikit-learn brings no table "{name}"{nearest(name, _BUNDLED)}')
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = loaded.frame
    if "target_names" in loaded:
        frame = frame.assign(target=loaded.target_names[loaded.target])
    return Table(frame, f"sklearn.datasets.load_{name}", "BSD-3-Clause")
