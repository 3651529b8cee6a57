"""What this package raises on purpose.

    PsoAttnError
    ├── ConfigurationError   a space file, flag or setting that cannot work     (exit code 2)
    │   ├── ConstraintError  an expression that does not parse or cannot hold   (exit code 2)
    │   └── StudyError       an Optuna study that a sampler is not for          (exit code 2)
    ├── DataError            data that is missing, unreadable or changed        (exit code 2)
    ├── DeviceError          a device that is absent, too small or lost         (exit code 2)
    ├── OwnCodeError         own code that fails its particle (in evaluate)     (exit code 1)
    ├── RunError             a run that is missing, taken, locked or damaged    (exit code 2)
    │   └── NotBegunError    a run that was stopped before it had a study       (exit code 2)
    ├── StorageError         a storage that does not answer                     (exit code 1)
    │   └── AddressError     a URL that is none, or of a file that is not there (exit code 2)
    └── TrainingError        a training that left no model, or could not go on  (exit code 1)

Every message is one sentence that says what came, what was expected and what to do.
"""

import difflib
from collections.abc import Iterable


class PsoAttnError(Exception):
    """Base of everything raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigurationError(PsoAttnError):
    """A space file, flag or setting that cannot work."""

    exit_code = 2


class ConstraintError(ConfigurationError):
    """A constraint expression that does not parse, names nothing known, or cannot hold."""


class StudyError(ConfigurationError, ValueError):
    """An Optuna study that a sampler is not for; a ValueError, as Optuna's own samplers raise."""


class DataError(PsoAttnError):
    """Data that is missing, unreadable, too short, or not what the run started with."""

    exit_code = 2


class DeviceError(PsoAttnError):
    """A device that is absent, too small for one particle, or lost to this process."""

    exit_code = 2


class RunError(PsoAttnError):
    """A run that does not exist, exists already, is in use, or is not one."""

    exit_code = 2


class NotBegunError(RunError):
    """A run whose folder was made and whose study was not."""


class StorageError(PsoAttnError):
    """A storage that does not answer or does not hold what it should."""


class AddressError(StorageError):
    """A storage's URL that is none, or that names a file which does not exist."""

    exit_code = 2


class TrainingError(PsoAttnError):
    """A training that left no model, or could not go on."""


def is_interrupt(error: BaseException) -> bool:
    """Tell whether a signal is behind an error.

    An extension module that is interrupted while it loads makes an ImportError of it.
    """
    origin: BaseException | None = error
    while origin is not None and not isinstance(origin, KeyboardInterrupt):
        origin = origin.__cause__ or origin.__context__
    return origin is not None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest known name, or the list of them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; choose one of {', '.join(names)}" if names else ""
