"""A character language model: at every position of a window, which character comes next.

The text is cut by position: the first 80 % is for training, the next 10 % for validation and the
last 10 % for test, so that no window reaches over a border.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.tasks.classification import accuracy, cross_entropy
from pso_attn.tasks.corpus import Corpus, read_corpus
from pso_attn.tasks.ngrams import ORDERS, ngram_losses
from pso_attn.tasks.shown import Shown
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.types import Direction

_CONTEXT = 64  # characters of a window, by default
_TENTHS = (8, 9)  # where validation and test begin
_VALIDATION_WINDOWS, _TEST_WINDOWS = 128, 512
_FEWEST_WINDOWS = 4  # in validation and in test
_VISIBLE = {
    " ": "\N{OPEN BOX}",
    "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}",
    "\t": "\N{RIGHTWARDS ARROW}",
}
_MOST_COUNTED = 10_000_000  # characters that n-grams are counted in: a second a million


@dataclass(frozen=True, eq=False)
class TextTask:
    """Which character comes next; the mean loss is in nats per character.

    train: every window of the training part, one at each position, as views of one tensor.
    validation, test: windows that do not overlap, spread evenly over their part. They are few on
    purpose: the search scores every particle at every rung, and 128 windows cost a few training
    steps. On Python's documentation the standard error of an n-gram's loss is then .04 nats, and
    that of a difference between two n-grams .016, which is what counts, since all particles are
    scored on the same characters. Test, scored once, has 512 windows (.03 and .01). About 8 % of
    those windows stand word for word in the training part too: the topics quote one another.

    ids: (L,) the whole text as int64. symbols: the training part's characters; a character's id is
    its place in there, and any other character has the id len(symbols), "unknown".
    test_positions: (n, T) where in the text each of the test split's targets stands.
    """

    corpus: Corpus
    info: TaskInfo
    train: Split
    validation: Split
    test: Split
    ids: Tensor
    symbols: str
    test_positions: NDArray[np.int64]
    name: ClassVar[str] = "text"
    metrics: ClassVar[Mapping[str, Direction]] = {
        "loss": "minimize",
        "bits_per_character": "minimize",
        "accuracy": "maximize",
    }

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the training windows: for each view of them pickle would write `ids`."""
        return {name: value for name, value in vars(self).items() if name != "train"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take up what was pickled; the training windows are views again."""
        vars(self).update(state, train=_training(state["ids"], state["info"].length))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text as UTF-8."""
        return self.corpus.fingerprint

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean cross-entropy, (N,); logits (N, B, T, symbols)."""
        return cross_entropy(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss in nats and in bits, and its accuracy, (N,) each."""
        loss = cross_entropy(logits, targets)
        return {
            "loss": loss,
            "bits_per_character": loss / math.log(2),
            "accuracy": accuracy(logits, targets),
        }

    def describe(self) -> dict[str, Any]:
        """Return the sizes, the source and its licence."""
        unknown = int((self.ids == len(self.symbols)).sum())
        return {
            "source": self.corpus.source,
            "licence": self.corpus.licence,
            "characters": len(self.ids),
            "symbols": len(self.symbols),
            "unknown_characters": unknown,
            "context": self.info.length,
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }

    def preprocessing(self) -> dict[str, Any]:
        """Return the context and the symbols: a character's id is its place, or `unknown`."""
        return {
            "context": self.info.length,
            "symbols": self.symbols,
            "unknown": len(self.symbols),
        }

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what character n-grams reach on exactly the characters that `test` scores.

        Of a long text they are counted in the end of the training part alone.
        """
        ids, end = self.ids.numpy(), _border(len(self.ids), 0)
        counted = ids[max(0, end - _MOST_COUNTED) : end]
        before = np.arange(1 - max(ORDERS), 0) + self.test_positions[:, :1]
        windows = np.concatenate((before, self.test_positions), axis=1)
        scored = len(counted) + np.arange(windows.size).reshape(windows.shape)
        losses = ngram_losses(
            np.concatenate((counted, ids[windows].ravel())),
            self.info.outputs,
            fitted=len(counted),
            scored=scored[:, before.shape[1] :].ravel(),
        )
        return {
            f"{order}-gram": {"loss": loss, "bits_per_character": loss / math.log(2)}
            for order, loss in losses.items()
        }


def make_text(data: str | None = None, columns: Mapping[str, Any] | None = None) -> TextTask:
    """Return the task on the file `data`, or on Python's own documentation where it is None.

    columns.tokens: T, how many characters a window holds.

    Raises DataError if the text is missing, unreadable or too short, and ConfigurationError if
    the tokens are not a positive integer.
    """
    context = _context(columns or {})
    corpus = read_corpus(data)
    length = len(corpus.text)
    _check_length(corpus, context)
    begin_validation, begin_test = _border(length, 0), _border(length, 1)
    symbols = sorted(set(corpus.text[:begin_validation]))
    if len(symbols) < 2:
        raise DataError(
            f"{corpus.source} repeats one character, {symbols[0]!r}, in its first "
            f"{begin_validation}, and there is nothing to learn from that; choose another text"
        )
    ids = _encode(corpus.text, symbols)
    validation_starts = _spread(begin_validation, begin_test, context, _VALIDATION_WINDOWS)
    test_starts = _spread(begin_test, length, context, _TEST_WINDOWS)
    outputs = len(symbols) + 1
    return TextTask(
        corpus=corpus,
        info=TaskInfo(
            tokens=outputs,
            features=None,
            length=context,
            outputs=outputs,
            causal=True,
            per_token=True,
        ),
        train=_training(ids, context),
        validation=_gathered(_windows(ids, context), validation_starts),
        test=_gathered(_windows(ids, context), test_starts),
        ids=ids,
        symbols="".join(symbols),
        test_positions=test_starts[:, None] + 1 + np.arange(context),
    )


def _training(ids: Tensor, context: int) -> Split:
    """Return the windows that begin at each place of the training part, views of `ids`."""
    return _windows(ids[: _border(len(ids), 0)], context)


def show_text(learned: Mapping[str, Any], inputs: Tensor) -> Shown:
    """Return the characters of a window (T,) for people; those that have no sign get one."""
    symbols = [*learned["symbols"], "\N{REPLACEMENT CHARACTER}"]
    return Shown(tuple(_VISIBLE.get(symbols[one], symbols[one]) for one in inputs.tolist()))


def _context(columns: Mapping[str, Any]) -> int:
    """Return how many characters a window holds."""
    for key in columns:
        if key != "tokens":
            raise ConfigurationError(
                f"columns.{key} is not a key of task text, which has no columns; it takes "
                "columns.tokens, the characters of a window"
            )
    context = columns.get("tokens", _CONTEXT)
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise ConfigurationError(f"columns.tokens is {context!r}; expected a whole number from 1")
    return context


def _border(length: int, number: int) -> int:
    """Return where validation (0) or test (1) begins."""
    return length * _TENTHS[number] // 10


def _check_length(corpus: Corpus, context: int) -> None:
    """Raise DataError unless validation and test each hold a few windows and their targets."""
    needed = 10 * (_FEWEST_WINDOWS * context + 1)
    if len(corpus.text) < needed:
        raise DataError(
            f"{corpus.source} has {len(corpus.text)} characters, and windows of {context} need at "
            f"least {needed}; choose a longer text or a smaller columns.tokens"
        )


def _encode(text: str, symbols: list[str]) -> Tensor:
    """Return the id of every character, (L,) int64."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    table = np.full(points.max() + 1, len(symbols), dtype=np.int64)
    table[[ord(symbol) for symbol in symbols]] = np.arange(len(symbols))
    return torch.from_numpy(table[points])


def _windows(ids: Tensor, context: int) -> Split:
    """Return all windows of the ids and, one to the right, their targets: views, no copies."""
    return Split(ids[:-1].unfold(0, context, 1), ids[1:].unfold(0, context, 1))


def _spread(begin: int, end: int, context: int, most: int) -> NDArray[np.int64]:
    """Return the starts of at most `most` windows in [begin, end) that share no target."""
    available = (end - begin - 1) // context
    count = min(most, available)
    return begin + context * (np.arange(count) * available // count)


def _gathered(windows: Split, starts: NDArray[np.int64]) -> Split:
    """Return the windows that begin at `starts`, copied."""
    rows = torch.from_numpy(starts)
    return Split(windows.inputs.index_select(0, rows), windows.targets.index_select(0, rows))
