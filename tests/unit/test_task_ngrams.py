"""n-grams against a textbook recursion over dictionaries, and against what is known."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from pso_attn.seeding import generator
from pso_attn.tasks.ngrams import ngram_losses


def by_the_book(text: list[int], symbols: int, fitted: int, at: int, order: int) -> float:
    """Return Witten-Bell's P(text[at] | the order - 1 before it), by explicit counting."""
    if order == 0:
        return 1 / symbols
    padded = [-1] * (order - 1) + text  # a character i stands at i + order - 1
    followers: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for i in range(fitted):
        followers[tuple(padded[i : i + order - 1])][text[i]] += 1
    counts = followers[tuple(padded[at : at + order - 1])]
    shorter = by_the_book(text, symbols, fitted, at, order - 1)
    if not counts:
        return shorter
    return (counts[text[at]] + len(counts) * shorter) / (counts.total() + len(counts))


def test_losses_are_those_of_the_definition() -> None:
    ids = generator(0, "ngrams").integers(0, 4, size=120)
    scored = np.concatenate((np.arange(3), np.arange(90, 120)))
    found = ngram_losses(ids, 5, 80, scored)
    for order in (2, 3, 4):
        losses = [-math.log(by_the_book(ids.tolist(), 5, 80, i, order)) for i in scored]
        assert found[order] == pytest.approx(np.mean(losses), rel=1e-12)


def test_probabilities_of_all_symbols_sum_to_one() -> None:
    ids = generator(1, "ngrams").integers(0, 4, size=100)
    for order in (2, 3, 4):
        total = 0.0
        for symbol in range(5):
            ids[-1] = symbol  # after the fitted part: counts stay as they are
            loss = ngram_losses(ids, 5, 80, np.array([99]), orders=(order,))[order]
            total += math.exp(-loss)
        assert total == pytest.approx(1.0)


def test_what_comes_after_the_fitted_part_teaches_nothing() -> None:
    ids = generator(2, "ngrams").integers(0, 4, size=200)
    other = ids.copy()
    other[150:190] = 3
    scored = np.arange(100, 140)
    assert ngram_losses(ids, 4, 100, scored) == ngram_losses(other, 4, 100, scored)


def test_a_repeating_text_is_predicted_almost_surely() -> None:
    ids = np.tile(np.arange(5), 400)
    losses = ngram_losses(ids, 6, 1800, np.arange(1900, 2000))
    assert losses[4] < 0.01
