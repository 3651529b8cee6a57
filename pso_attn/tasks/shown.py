"""One example as a person reads it: what each token is, and a picture where it is one."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Shown:
    """An example. tokens: a word or a sign each, padding left out.

    picture: (height, width) grey values, whose patches of patch (height, width) are the tokens,
    row by row; None where it is no picture.
    """

    tokens: tuple[str, ...]
    picture: NDArray[Any] | None = None
    patch: tuple[int, int] = (1, 1)


def patches_shown(patches: NDArray[Any], across: int, side: int) -> Shown:
    """Return patches (T, side · side), `across` in a row, as the picture that they make."""
    grid = patches.reshape(-1, across, side, side)  # (down, across, y, x)
    picture = grid.transpose(0, 2, 1, 3).reshape(-1, across * side)
    numbers = tuple(str(number) for number in range(1, len(patches) + 1))
    return Shown(numbers, picture, (side, side))
