"""Where some particles learn what others are given: one tensor over all of them."""

from collections.abc import Sequence
from itertools import groupby

import torch


class Blend:
    """Joins what some particles of a group learn with constants of the others, in their order."""

    def __init__(self, learns: Sequence[bool], constants: torch.Tensor) -> None:
        """constants: (P, …), one row a particle; rows of those who learn are not used."""
        self._pieces: list[torch.Tensor | None] = []  # None: the next piece that is learned
        for learned, run in groupby(range(len(learns)), key=lambda row: learns[row]):
            rows = list(run)
            self._pieces.append(None if learned else constants[rows[0] : rows[-1] + 1])

    def __call__(self, learned: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (P, …); learned: one tensor for each run of particles that learn.

        Constants are repeated along axes in which they have one entry and what is learned more.
        """
        given = iter(learned)
        shape = learned[0].shape[1:] if learned else ()
        pieces = [
            next(given) if piece is None else piece.expand(-1, *shape) if learned else piece
            for piece in self._pieces
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
