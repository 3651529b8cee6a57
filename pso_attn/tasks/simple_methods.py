"""What simple methods of scikit-learn reach on a task's test split, fitted on train alone."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pso_attn.seeding import generator
from pso_attn.tasks.targets import Target

MOST_FITTED = 20_000  # training rows; of more, an even choice at random
Features = Any  # (n, F), whatever an estimator takes
# name -> a new estimator, and its features of the training and of the test rows
Methods = Mapping[str, tuple[Callable[[], Any], Features, Features]]


def simple_scores(
    target: Target, methods: Methods, train: Tensor, test: Tensor
) -> dict[str, dict[str, float]]:
    """Return method -> metric -> value on the test targets, the commonest answer first.

    train, test: targets, (n,). The nearest neighbour gives no probabilities, and so no loss.
    """
    rng = generator(0, "simple methods")
    chosen = np.sort(rng.permutation(len(train))[:MOST_FITTED])
    fewest = np.unique(train.numpy()[chosen], return_counts=True)[1].min()
    found = {_constant_name(target): _scored(target, _constant(target, train, len(test)), test)}
    for name, (make, features, asked) in methods.items():
        model = make()
        if "boosting" in name and target.outputs > 1 and fewest == 1:
            model.set_params(early_stopping=False)  # it would share each class out
        model.fit(features[chosen], train.numpy()[chosen])
        is_sure = "neighbour" in name
        scores = _scored(target, _answers(target, model, asked, is_sure), test)
        if is_sure and target.outputs > 1:
            scores.pop("loss")
        found[name] = scores
    return found


def linear_method(target: Target, train: Features, test: Features) -> Methods:
    """Return logistic regression for classes, ridge regression for a number."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if target.outputs > 1:
        return {"logistic regression": (lambda: LogisticRegression(max_iter=5000), train, test)}
    return {"ridge regression": (Ridge, train, test)}


def neighbour_method(target: Target, train: Features, test: Features) -> Methods:
    """Return the nearest neighbour."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    made = KNeighborsClassifier if target.outputs > 1 else KNeighborsRegressor
    return {"1-nearest neighbour": (lambda: made(n_neighbors=1), train, test)}


def boosting_method(target: Target, train: Features, test: Features, labelled: Any) -> Methods:
    """Return gradient boosting; labelled: (F,) bool, which features are codes of labels."""
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )

    made = HistGradientBoostingClassifier if target.outputs > 1 else HistGradientBoostingRegressor
    make = partial(made, categorical_features=labelled, random_state=0)
    return {"gradient boosting": (make, train, test)}


def _answers(target: Target, model: Any, asked: Features, is_sure: bool) -> Tensor:
    """Return logits (n, outputs) from an estimator."""
    if target.outputs == 1:
        return torch.from_numpy(np.asarray(model.predict(asked), dtype=np.float64))[:, None]
    if is_sure:
        shares = np.eye(target.outputs)[np.asarray(model.predict(asked))]
    else:
        shares = np.zeros((asked.shape[0], target.outputs))
        shares[:, model.classes_] = model.predict_proba(asked)
    return torch.from_numpy(np.log(np.clip(shares, np.finfo(np.float64).eps, 1)))


def _constant_name(target: Target) -> str:
    return "most frequent class" if target.outputs > 1 else "mean"


def _constant(target: Target, train: Tensor, count: int) -> Tensor:
    """Return the answers of one who knows only the training targets, (n, outputs)."""
    if target.outputs == 1:
        return train.double().mean().expand(count, 1)
    shares = torch.bincount(train, minlength=target.outputs).double() / len(train)
    return shares.log().expand(count, -1)


def _scored(target: Target, answers: Tensor, wanted: Tensor) -> dict[str, float]:
    scores = target.score(answers[None], wanted[None])
    return {name: float(value[0]) for name, value in scores.items()}
