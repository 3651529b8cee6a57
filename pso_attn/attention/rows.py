"""Copies of what lies in short rows, several floats at a time.

PyTorch copies from one order of axes to another row by row, and rows as wide as a head are so
short that most of the time goes into the turns of its loops. In words of 8 or 16 bytes a row is
one entry or two, and the loop runs along a longer axis.
"""

import torch

WORDS = {8: torch.float64, 16: torch.complex128, 32: torch.complex128}  # by bytes of a row
MANY = 2**16  # entries from which rows of two words are worth two operations


def contiguous(x: torch.Tensor) -> torch.Tensor:
    """Return x with its axes in order in memory: itself, or a copy."""
    if x.is_contiguous():
        return x
    found = x.new_empty(x.shape)
    copy_rows(x, found)
    return found


def copy_rows(source: torch.Tensor, into: torch.Tensor) -> None:
    """Copy `source` into a tensor of its shape and dtype; rows are along the last axis."""
    row = source.shape[-1] * source.element_size()
    is_quick = source.is_cpu and (row <= 16 or source.numel() >= MANY)
    word = WORDS.get(row) if is_quick else None
    if word is None or not (_lies_in(word, source) and _lies_in(word, into)):
        into.copy_(source)
        return
    source, into = source.view(word), into.view(word)
    for index in range(source.shape[-1]):
        into.select(-1, index).copy_(source.select(-1, index))


def _lies_in(word: torch.dtype, x: torch.Tensor) -> bool:
    """Tell whether each row of x, on a CPU, starts at a border between words."""
    strides, borders = x.stride(), x.storage_offset()
    for stride in strides[:-1]:
        borders |= stride
    return strides[-1] == 1 and not borders * x.element_size() % word.itemsize
