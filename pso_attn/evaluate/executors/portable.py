"""What a trainer is made of has to travel to workers; what cannot is named."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.jobs import Trainer

Dumps = Callable[[Any], bytes]


def pickled(trainer: Trainer, dumps: Dumps = pickle.dumps) -> bytes:
    """Return a trainer as bytes; ConfigurationError, with who cannot be pickled and why."""
    try:
        return dumps(trainer)
    except Exception as error:  # of somebody's own __reduce__, it may be any
        said = " ".join(str(error).split())
        raise ConfigurationError(
            f"{_culprit(trainer, dumps)} cannot be pickled, and so not be sent to workers: "
            f"{said}; define it, and what it holds, at the top level of a module, or use "
            "--executor local"
        ) from error


def unpickled(load: bytes) -> Any:
    """Return what was pickled; ConfigurationError where it is not to be found here."""
    try:
        return pickle.loads(load)
    except (AttributeError, ImportError) as error:
        raise ConfigurationError(
            f"a worker does not find what it should train: {error}; put it into a module that "
            'can be imported, and a script\'s call under `if __name__ == "__main__":`'
        ) from error


def portable(error: BaseException) -> Exception:
    """Return the error, or one that says the same, such that it can be pickled and read."""
    error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of somebody else's making
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


def _culprit(trainer: Trainer, dumps: Dumps) -> str:
    """Return the name of what of the trainer cannot be pickled."""
    for part in vars(trainer).values():
        try:
            dumps(part)
        except Exception:  # as above
            if hasattr(part, "asks_for_less"):  # a trainer inside another
                return _culprit(part, dumps)
            return str(getattr(part, "name", type(part).__name__))
    return type(trainer).__name__
