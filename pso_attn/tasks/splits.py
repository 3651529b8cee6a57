"""Which rows are for training, validation and test: by share, by group, or as a column says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError, DataError, nearest
from pso_attn.seeding import generator

NAMES = ("train", "validation", "test")
Rows = NDArray[np.int64]
Parts = tuple[Rows, Rows, Rows]


@dataclass(frozen=True)
class SplitOptions:
    """The table [split]. validation, test: shares of the rows, or of the groups.

    column: of the data, which says "train", "validation" or "test" in every row.
    """

    validation: float = 0.2
    test: float = 0.2
    column: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "SplitOptions":
        """Return the table, checked; ConfigurationError for what it cannot hold."""
        for name in given:
            if name not in cls.__dataclass_fields__:
                raise ConfigurationError(
                    f"split.{name} is not a key{nearest(name, cls.__dataclass_fields__)}"
                )
        options = cls(**given)
        for name in NAMES[1:]:
            share = getattr(options, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise ConfigurationError(
                    f"split.{name} is {share!r}; expected a share of the rows between 0 and 1"
                )
        if options.validation + options.test >= 1:
            raise ConfigurationError(
                f"split.validation {options.validation} and split.test {options.test} leave "
                "nothing to train on; lower them"
            )
        if options.column is not None and not isinstance(options.column, str):
            raise ConfigurationError(f"split.column is {options.column!r}; expected a name")
        return options

    def words(self, group: str | None) -> str:
        """Return in words how the rows are split."""
        if self.column is not None:
            return f"as column {self.column} says"
        shares = f"{self.validation:.0%} validation, {self.test:.0%} test"
        return shares if group is None else f"{shares} of the groups in {group}"

    @property
    def borders(self) -> tuple[float, float]:
        """Where validation and test begin, as fractions of all."""
        return (1 - self.validation - self.test, 1 - self.test)


def split_by_column(words: NDArray[Any], options: SplitOptions) -> Parts:
    """Return the rows of each split as a column has them; DataError for other words."""
    said = np.array([str(word).strip().lower() for word in words])
    for row, word in enumerate(said):
        if word not in NAMES:
            raise DataError(
                f'split.column "{options.column}" holds "{words[row]}" in row {row + 1}; expected '
                '"train", "validation" or "test"'
            )
    train, validation, test = (np.flatnonzero(said == name) for name in NAMES)
    return _filled((train, validation, test))


def split_by_group(groups: NDArray[Any], options: SplitOptions) -> Parts:
    """Return a split by shares of the groups in which no group is in two parts."""
    from sklearn.model_selection import GroupShuffleSplit

    if len(np.unique(groups)) < len(NAMES):
        raise DataError(
            f"group names a column with {len(np.unique(groups))} groups; train, validation and "
            "test need one each"
        )
    seed = int(generator(0, "split", "groups").integers(2**31))
    rows = np.arange(len(groups))
    rest, test = _halves(GroupShuffleSplit(1, test_size=options.test, random_state=seed), groups)
    share = options.validation / (1 - options.test)
    again = GroupShuffleSplit(1, test_size=share, random_state=seed)
    train, validation = (rest[part] for part in _halves(again, groups[rest]))
    return _filled((rows[train], rows[validation], rows[test]))


def split_by_share(
    labels: NDArray[Any], borders: Sequence[float], rng: np.random.Generator
) -> Parts:
    """Return a split in which every label has the same share, as far as its rows allow.

    borders: where the second and third part begin, as fractions of each label's rows.
    """
    parts: list[list[Rows]] = [[], [], []]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = [round(share * len(rows)) for share in borders]
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.append(piece)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return _filled((train, validation, test))


def check_groups(groups: NDArray[Any], parts: Parts) -> None:
    """Raise DataError for a group that stands in two splits."""
    seen: dict[Any, str] = {}
    for name, rows in zip(NAMES, parts, strict=True):
        for group in np.unique(groups[rows]):
            if group in seen:
                raise DataError(
                    f'group "{group}" stands in {seen[group]} and in {name}, so that {name} would '
                    "not be new data; give the whole group to one of them"
                )
            seen[group] = name


def _halves(splitter: Any, groups: NDArray[Any]) -> tuple[Rows, Rows]:
    try:
        first, second = next(splitter.split(groups, groups=groups))
    except ValueError:  # it leaves none for the first
        raise DataError(
            "split.validation and split.test leave one split without any group; make them "
            "smaller, or give more groups"
        ) from None
    return np.sort(first), np.sort(second)


def _filled(parts: Parts) -> Parts:
    """Return the parts; DataError where one has no row."""
    for name, rows in zip(NAMES, parts, strict=True):
        if not len(rows):
            raise DataError(
                f"no row is left for {name}; give more rows, or other shares in [split]"
            )
    return parts
