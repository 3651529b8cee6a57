"""What memory a training takes at its height, from what its model keeps."""

from collections.abc import Sequence

BYTES = 4  # float32
SCORED_TOGETHER = 128  # examples per forward pass, where a model is scored
HELD = 4  # flat tensors of weights, gradients, and two moments
FLAT = HELD + 1  # in a step, with gradients as they are found
DRAFT = 3  # times a kernel's constants, which are made in float64
# times what tensors take: an allocator has holes that the next tensor does not fit into (glibc's
# is 1.1 to 1.5 times as large at its height, docs/log.md)
WITH_HOLES = 1.5


def footprint(
    parameters: int, batch: int, trained: int, scored: int, constants: Sequence[int] = ()
) -> int:
    """Return the bytes of one training at its height, by itself or as one of a batch.

    trained, scored: numbers in memory at once, for one example, while a step of `batch` examples
    is trained, beside flat tensors, and while `SCORED_TOGETHER` are scored. constants: numbers
    that each layer's kernel keeps, whatever the batch.
    """
    step = FLAT * parameters + batch * trained
    score = HELD * parameters + SCORED_TOGETHER * scored
    made = FLAT * parameters + DRAFT * max(constants, default=0)
    return with_holes(BYTES * (max(step, score, made) + sum(constants)))


def with_holes(held_bytes: int) -> int:
    """Return what a process takes for tensors of so many bytes."""
    return int(WITH_HOLES * held_bytes)
