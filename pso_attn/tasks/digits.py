"""Handwritten digits as short sequences: 8 x 8 images, read as 16 patches of 2 x 2 pixels.

Data: scikit-learn's `load_digits`, the test part of UCI's "Optical Recognition of Handwritten
Digits" (Alpaydin & Kaynak 1998). scikit-learn is imported when a task is made: it takes over a
second, and a run on another task needs none of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.seeding import generator
from pso_attn.tasks.classification import accuracy, cross_entropy
from pso_attn.tasks.shown import Shown, patches_shown
from pso_attn.tasks.splits import split_by_share
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.types import Direction

_SIDE, _PATCH = 8, 2  # pixels
_CLASSES = 10
_SHARES = (0.6, 0.8)  # where validation and test begin, as fractions of each class


@dataclass(frozen=True, eq=False)
class DigitsTask:
    """Which digit an image shows, from its patches; the mean loss is in nats per image.

    mean, deviation: of the training split's pixels; all inputs are shifted and scaled by them.
    """

    train: Split
    validation: Split
    test: Split
    fingerprint: str
    mean: float
    deviation: float
    name: ClassVar[str] = "digits"
    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "minimize", "accuracy": "maximize"}
    info: ClassVar[TaskInfo] = TaskInfo(
        tokens=None,
        features=_PATCH**2,
        length=(_SIDE // _PATCH) ** 2,
        outputs=_CLASSES,
        causal=False,
        per_token=False,
    )

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean cross-entropy, (N,); logits (N, B, 10)."""
        return cross_entropy(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss and accuracy, (N,) each; logits (N, B, 10)."""
        return {"loss": cross_entropy(logits, targets), "accuracy": accuracy(logits, targets)}

    def describe(self) -> dict[str, Any]:
        """Return the sizes, the source and its licence."""
        return {
            "source": "sklearn.datasets.load_digits",
            "licence": "BSD-3-Clause",
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
            "classes": self.info.outputs,
            "length": self.info.length,
            "features": self.info.features,
            "pixel_mean": self.mean,
            "pixel_deviation": self.deviation,
        }

    def preprocessing(self) -> dict[str, Any]:
        """Return how 8 x 8 pixels become patches: (pixel − mean) / deviation, row by row."""
        return {
            "image": [_SIDE, _SIDE],
            "patch": [_PATCH, _PATCH],
            "pixel_mean": self.mean,
            "pixel_deviation": self.deviation,
        }

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what logistic regression and the nearest neighbour reach on the test split.

        Both have scikit-learn's default settings; the nearest neighbour gives no probabilities,
        and therefore no loss.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss
        from sklearn.neighbors import KNeighborsClassifier

        inputs, targets = _flat(self.train)
        test_inputs, test_targets = _flat(self.test)
        linear = LogisticRegression(max_iter=1000).fit(inputs, targets)
        neighbour = KNeighborsClassifier(n_neighbors=1).fit(inputs, targets)
        return {
            "logistic regression": {
                "loss": float(log_loss(test_targets, linear.predict_proba(test_inputs))),
                "accuracy": float(linear.score(test_inputs, test_targets)),
            },
            "1-nearest neighbour": {"accuracy": float(neighbour.score(test_inputs, test_targets))},
        }


def make_digits(data: str | None = None) -> DigitsTask:
    """Return the digits in a fixed stratified split, 60 / 20 / 20, the same in every run.

    Raises DataError if `data` is given: the images come with scikit-learn.
    """
    if data is not None:
        raise DataError(
            f'task "digits" was given data = "{data}", but it brings its own images; '
            "take the key away, or choose a task that reads a file"
        )
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = split_by_share(labels, _SHARES, generator(0, "digits", "split"))
    pixels = images[rows[0]]
    mean, deviation = float(pixels.mean()), float(pixels.std())
    patches = _patches((images - mean) / deviation)
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes())
    splits = []
    for part in rows:
        digest.update(part.astype("<i8").tobytes())
        inputs = torch.from_numpy(patches[part].astype(np.float32))
        splits.append(Split(inputs, torch.from_numpy(labels[part].astype(np.int64))))
    train, validation, test = splits
    return DigitsTask(train, validation, test, digest.hexdigest(), mean, deviation)


def show_digit(_learned: Mapping[str, Any], inputs: Tensor) -> Shown:
    """Return an image (16, 4) for people."""
    return patches_shown(inputs.numpy(), _SIDE // _PATCH, _PATCH)


def _patches(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 64) pixels, row by row, as (n, 16, 4) patches, row by row."""
    side = _SIDE // _PATCH
    grid = images.reshape(-1, side, _PATCH, side, _PATCH)
    return grid.transpose(0, 1, 3, 2, 4).reshape(-1, side**2, _PATCH**2)


def _flat(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a split as scikit-learn takes it: one row of features an example."""
    return split.inputs.flatten(1).numpy(), split.targets.numpy()
