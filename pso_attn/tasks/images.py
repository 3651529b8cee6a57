"""Images in an array: which class, or what number, from square patches of pixels.

Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1. Pixels are standardised by channel.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.tasks.arrays import read_arrays, refuse_bare_array
from pso_attn.tasks.columns import ColumnOptions
from pso_attn.tasks.files import Table
from pso_attn.tasks.labelled import LabelledTask, Prepared, labelled_task, target_column
from pso_attn.tasks.new_rows import NewRows, labelled_rows
from pso_attn.tasks.shown import Shown, patches_shown
from pso_attn.tasks.simple_methods import Methods, linear_method, neighbour_method
from pso_attn.tasks.splits import Rows, SplitOptions
from pso_attn.tasks.targets import Target, target_from
from pso_attn.tasks.task import Split, TaskInfo

MOST_PATCHES = 49  # by default: those of 4 x 4 in 28 x 28
_DEFAULT = "sklearn:digits"
_KEYS = ("patch",)  # of the table [columns], beside those of any table


def make_images(
    data: str | None = None,
    target: str | None = None,
    group: str | None = None,
    columns: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
) -> LabelledTask:
    """Return the task on an npz file: x (n, height, width) or (…, channels), and y.

    columns.patch: the side of a patch in pixels, by default the smallest that leaves few of them.
    """
    data, columns = data or _DEFAULT, columns or {}
    refuse_bare_array(data)
    pixels, table = _read(data)
    wanted, splitting = target_column("images", target, data), SplitOptions.read(split or {})
    options = ColumnOptions.read(columns, list(table.frame.columns), more=_KEYS)
    height, width = pixels.shape[1:3]
    sides = range(1, min(height, width) + 1)
    few = [p for p in sides if -(-height // p) * -(-width // p) <= MOST_PATCHES]
    patch = columns.get("patch", few[0] if few else sides[-1])
    if isinstance(patch, bool) or not isinstance(patch, int) or patch not in sides:
        raise ConfigurationError(
            f"columns.patch is {patch!r}; expected the pixels of a patch's side, 1 to {sides[-1]}"
        )

    def prepare(train: Rows) -> Prepared:
        return _prepared(pixels, train, patch, table.source)

    return labelled_task("images", table, wanted, group, options, splitting, prepare)


def read_new_images(learned: Mapping[str, Any], data: str) -> NewRows:
    """Return the images of a file, encoded as the task's `preprocessing` says."""
    pixels, table = _read(data)
    if list(pixels.shape[1:]) != learned["image"]:
        raise DataError(
            f"{data} has images of {list(pixels.shape[1:])} (height, width, channels), and the "
            f"model was trained on {learned['image']}"
        )
    target = target_from(learned["target"])
    _check_finite(pixels, data)
    return labelled_rows(_patches(pixels, learned), target, table.frame, data)


def show_image(learned: Mapping[str, Any], inputs: Tensor) -> Shown:
    """Return an image (patches, patch² · channels) for people, channels averaged."""
    _, width, channels = learned["image"]
    grey = inputs.unflatten(-1, (-1, channels)).mean(-1).numpy()
    return patches_shown(grey, -(-width // learned["patch"]), learned["patch"])


def _read(data: str) -> tuple[Any, Table]:
    """Return pixels (n, height, width, channels), and what is known of each image."""
    if data == _DEFAULT:
        from sklearn.datasets import load_digits

        images = load_digits()
        frame = pd.DataFrame({"target": images.target})
        table = Table(frame, "sklearn.datasets.load_digits", "BSD-3-Clause")
        return images.images[..., None], table
    if not data.lower().endswith(".npz"):
        raise DataError(f'{data} is no npz file; write images with numpy.savez("images.npz", x=…)')
    arrays = read_arrays(Path(data))
    pixels = arrays.inputs[..., None] if arrays.inputs.ndim == 3 else arrays.inputs
    if pixels.ndim != 4:
        raise DataError(
            f"{data}: x has shape {arrays.inputs.shape}; expected (images, height, width), or "
            "(images, height, width, channels)"
        )
    return pixels, Table(arrays.frame, data, "the file's own")


def _prepared(pixels: Any, train: Rows, patch: int, source: str) -> Prepared:
    _check_finite(pixels, source)
    seen = pixels[train].astype(np.float64)
    varies = np.ptp(seen, axis=(0, 1, 2)) > 0  # else a deviation is rounding
    learned = {
        "image": list(pixels.shape[1:]),
        "patch": patch,
        "mean": seen.mean(axis=(0, 1, 2)).tolist(),
        "deviation": np.where(varies, seen.std(axis=(0, 1, 2)), 1.0).tolist(),
    }
    inputs = _patches(pixels, learned)
    return Prepared(
        inputs=inputs,
        info=TaskInfo(
            tokens=None,
            features=inputs.shape[2],
            length=inputs.shape[1],
            outputs=1,
            causal=False,
            per_token=False,
        ),
        learned=learned,
        found={
            "image": " x ".join(map(str, learned["image"])),
            "tokens": f"{inputs.shape[1]} patches of {patch} x {patch}",
        },
        methods=_methods,
    )


def _patches(pixels: Any, learned: Mapping[str, Any]) -> Tensor:
    """Return (n, patches, patch² · channels), row by row; what an edge lacks is as the mean."""
    side = learned["patch"]
    scaled = (pixels - np.array(learned["mean"])) / np.array(learned["deviation"])
    down, across = -scaled.shape[1] % side, -scaled.shape[2] % side
    whole = np.pad(scaled, ((0, 0), (0, down), (0, across), (0, 0))).astype(np.float32)
    count, height, width, channels = whole.shape
    grid = whole.reshape(count, height // side, side, width // side, side, channels)
    tokens = grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, side * side * channels)
    return torch.from_numpy(np.ascontiguousarray(tokens))


def _check_finite(pixels: Any, source: str) -> None:
    odd = np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))
    if len(odd):
        raise DataError(f"{source}: image {odd[0] + 1} has pixels that are no numbers; mend it")


def _methods(target: Target, train: Split, test: Split) -> Methods:
    """A linear model and the neighbour see all pixels side by side."""
    flat = [part.inputs.flatten(1).numpy() for part in (train, test)]
    return {**linear_method(target, *flat), **neighbour_method(target, *flat)}
