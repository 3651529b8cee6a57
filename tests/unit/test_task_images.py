"""Images become patches, row by row, scaled as the training images are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.seeding import generator
from pso_attn.tasks import make_task
from pso_attn.tasks.images import read_new_images

KINDS = np.array(["a", "b"] * 10)


def pixels(*shape: int) -> Any:
    return generator(0, "pixels").integers(256, size=(20, *shape)).astype(np.uint8)


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def test_digits_read_as_images_are_the_task_digits() -> None:
    images, digits = make_task("images"), make_task("digits")
    assert images.info == digits.info
    assert images.describe()["tokens"] == "16 patches of 2 x 2"
    assert float(images.train.inputs.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(images.train.inputs.std()) == pytest.approx(1.0, abs=1e-3)


def test_patches_go_row_by_row_with_channels_last_and_edges_filled(tmp_path: Path) -> None:
    found = pixels(3, 5, 2)
    split = np.repeat(["train", "validation", "test"], [12, 4, 4])
    data = saved(tmp_path, x=found, y=KINDS, split=split)
    task = make_task("images", data, columns={"patch": 2}, split={"column": "split"})
    assert task.train.inputs.shape == (12, 2 * 3, 2 * 2 * 2)
    train = found[:12].astype(float)
    scaled = (found - train.mean((0, 1, 2))) / train.std((0, 1, 2))
    second = scaled[0, 0:2, 2:4].ravel()
    np.testing.assert_allclose(task.train.inputs[0, 1], second, rtol=1e-5)
    last = np.zeros((2, 2, 2))
    last[0, 0] = scaled[13, 2, 4]
    np.testing.assert_allclose(task.validation.inputs[1, 5], last.ravel(), rtol=1e-5)


def test_new_images_are_scaled_as_the_models_own_and_have_their_size(tmp_path: Path) -> None:
    data = saved(tmp_path, x=pixels(6, 6), y=KINDS)
    task = make_task("images", data)
    rows = read_new_images(task.preprocessing(), data)
    assert rows.metrics is not None
    whole = torch.cat([task.train.inputs, task.validation.inputs, task.test.inputs])
    assert torch.equal(rows.inputs.sum((1, 2)).sort().values, whole.sum((1, 2)).sort().values)
    with pytest.raises(DataError, match=r"images of \[6, 7, 1\] .* trained on \[6, 6, 1\]"):
        read_new_images(task.preprocessing(), saved(tmp_path, x=pixels(6, 7)))


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({"x": pixels(4), "y": KINDS}, {}, "expected (images, height, width), or (images, "),
        ({"images": pixels(4, 4), "y": KINDS}, {}, "has the keys images, y; expected x and y"),
        ({"x": pixels(4, 4)}, {}, 'has no column "y", which target names'),
        ({"x": pixels(4, 4), "y": KINDS}, {"columns": {"patch": 5}}, "patch's side, 1 to 4"),
        ({"x": pixels(4, 4), "y": KINDS}, {"group": "group"}, 'no column "group", which group'),
        (
            {"x": np.full((20, 4, 4), np.inf), "y": KINDS},
            {},
            "image 1 has pixels that are no numbers",
        ),
    ],
)
def test_images_that_cannot_work_are_one_sentence(
    arrays: dict[str, Any], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, DataError)) as raised:
        make_task("images", saved(tmp_path, **arrays), **options)
    assert sentence in str(raised.value)


def test_pixels_that_never_change_in_training_have_no_deviation(tmp_path: Path) -> None:
    images = np.full((30, 7, 7), 0.1)
    images[25:] = 0.11
    fold = np.repeat(["train", "validation", "test"], [20, 5, 5])
    path = saved(tmp_path, x=images, y=np.array([0, 1] * 15), split=fold)
    task = make_task("images", path, split={"column": "split"})
    assert task.preprocessing()["deviation"] == [1.0]
