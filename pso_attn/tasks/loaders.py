"""A task out of three loaders of labelled examples: what a class of one's own inherits.

class MyTask(LoaderTask):
    def __init__(self, data=None):
        super().__init__(train_loader, validation_loader, test_loader)
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.classification import accuracy, cross_entropy
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.types import Direction

Loader = Iterable[Any]  # of (inputs, targets), batches of tensors; a torch DataLoader is one


class LoaderTask:
    """Classification, of whole examples, of each token, or of the last tokens alone.

    Inputs are (B, T) int64 ids or (B, T, features) float32 vectors; targets (B,), or (B, T) for a
    class of each token, or (B, H) with H below T for a class of each of the last H, int64 from 0.
    These H then are a sequence that answers the T - H before, and say what is known when they are
    answered: the answers so far, each one token late, if `causal`. All of it is held in memory,
    and our trainer draws batches.
    """

    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "minimize", "accuracy": "maximize"}

    def __init__(
        self,
        train: Loader,
        validation: Loader,
        test: Loader,
        causal: bool = False,
        padded: bool = False,
        source: str = "its own code",
        licence: str = "unknown",
    ) -> None:
        """Read the loaders once; causal: whether a token may not see later ones.

        padded: whether sequences, or the sources before answers, end in padding to which nobody
        attends: ids of 0, or vectors whose last entry is 0 and not 1.
        Loaders that shuffle are read in an order that is always the same. DataError for examples
        that do not fit together.
        """
        self.name = type(self).__name__
        self.train, self.validation, self.test = (
            _read(loader, f"{self.name}'s {split} split")
            for split, loader in (("train", train), ("validation", validation), ("test", test))
        )
        found = _info(self.name, (self.train, self.validation, self.test), causal)
        self.info = replace(found, padded=padded)
        self._source, self._licence = source, licence
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.inputs.numpy().tobytes() + split.targets.numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean cross-entropy, (N,)."""
        return cross_entropy(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss and accuracy, (N,) each."""
        return {"loss": cross_entropy(logits, targets), "accuracy": accuracy(logits, targets)}

    def describe(self) -> dict[str, Any]:
        """Return the sizes, the source and its licence."""
        sizes = {split: len(getattr(self, split)) for split in ("train", "validation", "test")}
        shape = {"classes": self.info.outputs, "length": self.info.length}
        asked = {"answers": f"the last {self.info.horizon} tokens"} if self.info.horizon else {}
        return {"source": self._source, "licence": self._licence, **sizes, **shape, **asked}

    def preprocessing(self) -> dict[str, Any]:
        """Return what was learned to make inputs: nothing that this class knows of."""
        return {}

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what logistic regression reaches, over the vectors or over how often ids occur.

        Of a class for each token, what the class frequencies of the training split reach.
        """
        if not self.info.per_token:
            return {"logistic regression": self._logistic()}
        counts = np.bincount(self.train.targets.flatten().numpy(), minlength=self.info.outputs)
        share = (counts + 1) / (counts + 1).sum()
        right = self.test.targets.flatten().numpy()
        return {
            "class frequencies": {
                "loss": float(-np.log(share[right]).mean()),
                "accuracy": float((right == counts.argmax()).mean()),
            }
        }

    def _logistic(self) -> dict[str, float]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(self._rows(self.train))
        rows, test_rows = (
            scaler.transform(self._rows(split)) for split in (self.train, self.test)
        )
        model = LogisticRegression(max_iter=1000).fit(rows, self.train.targets.numpy())
        right = self.test.targets.numpy()
        known = model.predict_proba(test_rows)  # of the classes that training has
        answers = np.zeros((len(right), self.info.outputs), known.dtype)
        answers[:, model.classes_] = known
        return {
            "loss": float(log_loss(right, answers, labels=np.arange(self.info.outputs))),
            "accuracy": float(model.score(test_rows, right)),
        }

    def _rows(self, split: Split) -> NDArray[Any]:
        """Return one row of figures for each example."""
        if self.info.tokens is None:
            return split.inputs.flatten(1).numpy()
        tokens = self.info.tokens
        return np.stack([np.bincount(ids, minlength=tokens) for ids in split.inputs.numpy()])


def _read(loader: Loader, what: str) -> Split:
    """Return all examples of a loader; DataError, beginning with `what`, where they do not fit."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)  # for a loader that shuffles
        batches = [tuple(batch) for batch in loader]
    if not batches or any(len(batch) != 2 for batch in batches):
        raise DataError(f"{what} gives no pairs of (inputs, targets); give a loader of such")
    try:
        inputs, targets = (torch.cat([torch.as_tensor(b[k]) for b in batches]) for k in (0, 1))
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{what} has batches that do not fit together: {error}") from error
    inputs = inputs.float() if inputs.is_floating_point() else inputs.long()
    if targets.is_floating_point() or inputs.dim() != (3 if inputs.is_floating_point() else 2):
        raise DataError(
            f"{what} has inputs of shape {tuple(inputs.shape)} and targets of {targets.dtype}; "
            "expected (n, T) ids or (n, T, features) vectors, and whole numbers as targets"
        )
    per_token = targets.dim() == 2 and 1 <= targets.shape[1] <= inputs.shape[1]
    if targets.shape[:1] != inputs.shape[:1] or not (targets.dim() == 1 or per_token):
        raise DataError(
            f"{what} has targets of shape {tuple(targets.shape)} for inputs of shape "
            f"{tuple(inputs.shape)}; expected one for each example, one for each token, or one "
            "for each of the last tokens"
        )
    return Split(inputs, targets.long())


def _info(name: str, splits: tuple[Split, ...], causal: bool) -> TaskInfo:
    shapes = {(s.inputs.shape[1:], s.targets.shape[1:], s.inputs.dtype) for s in splits}
    if len(shapes) != 1:
        raise DataError(f"{name}'s splits have examples of different shapes; make them alike")
    inputs, targets = (
        torch.cat([getattr(split, part) for split in splits]) for part in ("inputs", "targets")
    )
    if int(targets.min()) < 0:
        raise DataError(f"{name} has a target of {int(targets.min())}; number classes from 0")
    is_ids = not inputs.is_floating_point()
    asked = targets.shape[1] if targets.dim() == 2 else 0
    return TaskInfo(
        tokens=int(inputs.max()) + 1 if is_ids else None,
        features=None if is_ids else inputs.shape[2],
        length=inputs.shape[1],
        outputs=int(targets.max()) + 1,
        causal=causal,
        per_token=asked > 0,
        horizon=asked if asked < inputs.shape[1] else 0,
    )
