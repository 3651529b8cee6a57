"""Character n-grams: what counting reaches on a text, to be printed beside a language model.

Interpolated Witten-Bell smoothing (Witten & Bell 1991, method C; Chen & Goodman 1998, §2.4):

    P(c | h) = (count(h c) + types(h) * P(c | h')) / (count(h) + types(h))

where h' is the history h without its first character, types(h) is how many different
characters follow h, and the recursion ends at the uniform 1 / V. It has nothing to tune.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pso_attn.types import Array

Ids = NDArray[np.int64]
ORDERS = (2, 3, 4)


def ngram_losses(
    ids: Ids, symbols: int, fitted: int, scored: Ids, orders: Sequence[int] = ORDERS
) -> dict[int, float]:
    """Return n -> mean negative log-likelihood of the scored characters, in nats.

    ids: (L,) the text, in [0, symbols). fitted: the counts are of the first `fitted` characters
    alone. scored: positions in the text; each character is given the n - 1 before it, wherever a
    model's window begins, so that a model is never flattered by the comparison.
    """
    losses = {}
    probability = np.full(len(scored), 1.0 / symbols)
    histories = np.zeros(len(ids) + 1, dtype=np.int64)  # the n - 1 characters before position i
    for order in range(1, max(orders) + 1):
        grams = _extended(histories, ids, symbols)  # the n characters before position i
        probability = _interpolated(histories, grams, fitted, scored, probability)
        if order in orders:
            losses[order] = float(-np.log(probability).mean())
        histories = grams
    return losses


def _extended(histories: Ids, ids: Ids, symbols: int) -> Ids:
    """Return (L + 1,) numbers from 0 of the strings one longer that end before each position.

    Equal strings have equal numbers. The text's beginning, which has no character before it, is a
    string of its own.
    """
    codes = np.concatenate(([-1], histories[:-1] * symbols + ids))
    return np.unique(codes, return_inverse=True)[1]


def _interpolated(histories: Ids, grams: Ids, fitted: int, scored: Ids, shorter: Array) -> Array:
    """Return P(c | h) of each scored character; `shorter` is P(c | h') of each."""
    seen = np.bincount(grams[1 : fitted + 1], minlength=grams.max() + 1)  # count(h c)
    count = np.bincount(histories[:fitted], minlength=histories.max() + 1)
    history_of = np.zeros(len(seen), dtype=np.int64)
    history_of[grams[1:]] = histories[:-1]
    types = np.bincount(history_of[seen > 0], minlength=len(count))
    history, gram = histories[scored], grams[scored + 1]
    weight = count[history] + types[history]
    longer = (seen[gram] + types[history] * shorter) / np.maximum(weight, 1)
    return np.where(weight > 0, longer, shorter)  # a history never met says nothing
