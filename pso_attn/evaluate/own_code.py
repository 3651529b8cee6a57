"""How code of a user's own is run: on random numbers of its own, with a sentence when it fails."""

import contextlib
import random
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError, PsoAttnError, is_interrupt, nearest
from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.tasks.task import Task

LONGEST = 300  # characters of somebody's message that are kept


class OwnCodeError(PsoAttnError):
    """What a user's own code did that fails its particle."""


@contextlib.contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch, numpy and Python draw from `seed` within the block, and then as before it."""
    theirs = random.getstate(), np.random.get_state()  # noqa: NPY002 - put back below
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        draw_from(seed)
        try:
            yield
        finally:
            random.setstate(theirs[0])
            np.random.set_state(theirs[1])  # noqa: NPY002 - as it was found


def draw_from(seed: int) -> None:
    """Let torch, numpy and Python draw from `seed`, until somebody says otherwise."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for code that draws from the global generator


def host_generators() -> tuple[Any, ...]:
    """Return where Python's and NumPy's global generators stand, to be compared."""
    drawn: Any = np.random.get_state()  # noqa: NPY002 - what somebody's code draws from
    name, keys, *rest = drawn
    return random.getstate(), name, keys.tobytes(), *rest


@contextlib.contextmanager
def own_code(seed: int, device: torch.device) -> Iterator[None]:
    """Run a user's code on its seed; what it prints goes to stderr, for stdout holds results.

    An interrupt is raised as that, and not as the failure that it is made into on its way.
    """
    with random_numbers(seed, device), contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        except Exception as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            raise


@contextlib.contextmanager
def in_one_sentence(name: str) -> Iterator[None]:
    """Say in one sentence, as OwnCodeError, what the code of that name raises within the block.

    What is raised on purpose, what memory did not hold and an interrupt are raised as they are.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        if isinstance(error, PsoAttnError) or is_out_of_memory(error) or is_interrupt(error):
            raise
        raise OwnCodeError(why(name, error)) from error


def task_loss(task: Task, logits: Tensor, targets: Tensor) -> Tensor:
    """Return what `Task.loss` gives, (N,); OwnCodeError where a task of a user's own fails."""
    with _asked(task):
        losses = task.loss(logits, targets)
        if not _is_one_each(losses, logits):
            raise OwnCodeError(_misshapen("loss", task, losses, logits))
        return losses


def task_score(task: Task, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return what `Task.score` gives, (N,) each; OwnCodeError where one of a user's own fails."""
    with _asked(task):
        scores = task.score(logits, targets)
        for name in getattr(task, "metrics", ()):
            if name not in scores:
                raise OwnCodeError(
                    f'{_called(task)} gives no "{name}" as a score, though its metrics name it'
                    f"{nearest(name, scores)}"
                )
        for name, value in scores.items():
            if not _is_one_each(value, logits):
                raise OwnCodeError(_misshapen(f'score "{name}"', task, value, logits))
        return scores


def is_of_own_code(error: Exception) -> bool:
    """Tell whether an error is of a user's code or of the memory it wanted, not of the run."""
    return not isinstance(error, PsoAttnError) or isinstance(
        error, OwnCodeError | ConfigurationError
    )


def why(name: str, error: BaseException) -> str:
    """Return in one sentence what the code of that name raised, and where."""
    if isinstance(error, OwnCodeError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not _is_ours(frame.filename)]
    theirs = [frame for frame in others if not _is_librarys(frame.filename)] or others
    words = " ".join(str(error).split())[:LONGEST]
    said = f"{name} raised {type(error).__name__}" + (f": {words}" if words else "")
    first = next(iter(theirs), None)
    return f"{said} ({Path(first.filename).name}, line {first.lineno})" if first else said


def read_number(value: Any) -> float | None:
    """Return a number as a float, a tensor or array of one element as well; None for no number."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        size = value.numel() if isinstance(value, Tensor) else value.size
        value = value.item() if size == 1 else None
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_number else None


def is_ours(task: Task) -> bool:
    """Tell whether a task is one of this package's."""
    return type(task).__module__.partition(".")[0] == __name__.partition(".")[0]


def _is_one_each(values: Any, logits: Tensor) -> bool:
    return isinstance(values, Tensor) and values.shape == logits.shape[:1]


def _misshapen(what: str, task: Task, values: Any, logits: Tensor) -> str:
    is_tensor = isinstance(values, Tensor)
    came = f"the shape {tuple(values.shape)}" if is_tensor else f"a {type(values).__name__}"
    return (
        f"{_called(task)} gives {came} as {what}; expected a tensor of shape "
        f"{tuple(logits.shape[:1])}, one value for each training"
    )


def _called(task: Task) -> str:
    return f"task {getattr(task, 'name', type(task).__name__)}"


def _asked(task: Task) -> contextlib.AbstractContextManager[None]:
    """Return a block to ask a task in; one of this package's raises what nobody foresaw."""
    return contextlib.nullcontext() if is_ours(task) else in_one_sentence(_called(task))


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parents[1])


def _is_librarys(filename: str) -> bool:
    """Tell whether a file is Python's own, or of an installed package such as torch."""
    folders = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return any(Path(filename).is_relative_to(folder) for folder in folders)
