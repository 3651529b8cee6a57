"""Where a text comes from: a UTF-8 file, or the documentation that comes with Python."""

import hashlib
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pso_attn.errors import DataError
from pso_attn.tasks.files import check_file


@dataclass(frozen=True)
class Corpus:
    """A text, and what is known of it."""

    text: str
    source: str
    licence: str

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the text as UTF-8, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_corpus(data: str | None) -> Corpus:
    """Return the text of the file `data`, or Python's documentation topics where it is None.

    The topics differ between Python's patch releases, and so does their fingerprint.

    Raises DataError if there is no such text, or if it is not UTF-8.
    """
    if data is not None:
        return Corpus(_read(Path(data)), source=data, licence="the file's own")
    try:
        from pydoc_data import topics  # absent from some cut-down installations of Python
    except ImportError:
        raise DataError(
            "this Python lacks its documentation topics, pydoc_data.topics; "
            "name a text of your own: --set data=FILE"
        ) from None
    return Corpus(
        " ".join(topics.topics.values()),
        source=f"pydoc_data.topics of Python {platform.python_version()}",
        licence="PSF-2.0",
    )


def _read(path: Path) -> str:
    """Return the file's text, line ends as they are."""
    check_file(path)
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 at byte {error.start}; "
            "convert it, e.g. with iconv -t UTF-8, or choose another file"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its rights") from None
