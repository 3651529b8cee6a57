"""Where a text comes from: a UTF-8 file, or the documentation that comes with Python."""

import hashlib
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pso_attn.errors import DataError

_MOST_BYTES = 2_000_000_000


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
    try:
        if path.is_dir():
            raise DataError(f"{path} is a directory; name one text file in it")
        if not path.exists():
            raise DataError(f"{path} does not exist; data names a UTF-8 text file")
        if not path.is_file():
            raise DataError(f"{path} is not an ordinary file; copy its text into one")
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(
                f"{path} has {size / 1e9:.1f} GB, and at most {_MOST_BYTES / 1e9:.0f} GB are "
                "read; cut a part out of it"
            )
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 at byte {error.start}; "
            "convert it, e.g. with iconv -t UTF-8, or choose another file"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its rights") from None
