"""Digits: how the images are cut, split and scaled."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pso_attn.errors import DataError
from pso_attn.tasks.digits import DigitsTask, make_digits


@pytest.fixture(scope="module")
def task() -> DigitsTask:
    return make_digits()


def unscaled(task: DigitsTask, split: str) -> np.ndarray:
    """Return a split's pixels as they were, (n, 16, 4)."""
    inputs = getattr(task, split).inputs.double().numpy()
    return np.round(inputs * task.deviation + task.mean)


def test_every_image_is_in_exactly_one_split(task: DigitsTask) -> None:
    parts = [unscaled(task, split) for split in ("train", "validation", "test")]
    found = np.concatenate(parts).reshape(1797, 64)
    images = load_digits().data
    patches = images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 64)
    assert np.array_equal(np.unique(found, axis=0), np.unique(patches, axis=0))


def test_patch_number_five_is_the_second_of_the_second_row(task: DigitsTask) -> None:
    images, labels = load_digits().images, load_digits().target
    first = unscaled(task, "train")[0]
    image = next(
        image
        for image in images
        if all(
            np.array_equal(
                image[2 * (n // 4) : 2 * (n // 4) + 2, 2 * (n % 4) : 2 * (n % 4) + 2].ravel(), p
            )
            for n, p in enumerate(first)
        )
    )
    assert np.array_equal(first[5], image[2:4, 2:4].ravel())
    row = np.flatnonzero((images == image).all(axis=(1, 2)))[0]
    assert labels[row] == task.train.targets[0]


def test_the_split_is_60_20_20_in_every_class(task: DigitsTask) -> None:
    totals = np.bincount(load_digits().target)
    for split, share in ((task.train, 0.6), (task.validation, 0.2), (task.test, 0.2)):
        counts = np.bincount(split.targets.numpy(), minlength=10)
        assert np.abs(counts - share * totals).max() <= 1


def test_the_scale_is_that_of_the_training_pixels_alone(task: DigitsTask) -> None:
    assert abs(float(task.train.inputs.double().mean())) < 1e-6
    assert abs(float(task.train.inputs.double().std(correction=0)) - 1) < 1e-6
    assert abs(float(task.test.inputs.double().mean())) > 1e-4


def test_the_split_does_not_depend_on_what_was_drawn_before(task: DigitsTask) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  the global generator is what must not matter
    assert make_digits().fingerprint == task.fingerprint


def test_simple_methods_reach_what_is_known_of_them(task: DigitsTask) -> None:
    baselines = task.baselines()
    assert 0.94 < baselines["logistic regression"]["accuracy"] < 0.99
    assert 0.05 < baselines["logistic regression"]["loss"] < 0.25
    assert 0.96 < baselines["1-nearest neighbour"]["accuracy"] < 1.0


def test_a_file_is_refused_because_the_images_come_with_the_library() -> None:
    with pytest.raises(DataError, match=r'"digits" was given data = "a\.csv"'):
        make_digits("a.csv")
