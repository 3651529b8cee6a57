"""Where a report may lie: in its usual folder, unless another one's report lies there."""

import hashlib
import re
from collections.abc import Collection, Sequence
from itertools import count as counting
from pathlib import Path

from pso_attn.report.markup import OF

_HEAD = 1024  # bytes of a page in which its mark stands


def mark(sources: Sequence[str]) -> str:
    """Return what tells the report of these runs and studies from that of others.

    sources: `ReportInput.source` of each; empty where nobody said what one of them is.
    """
    if not all(sources):
        return ""
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:16]


def free_folder(wanted: Path, taken: Collection[Path], marked: str | None = None) -> Path:
    """Return the wanted folder, or the first of `wanted-2`, `wanted-3`, … that may be written.

    taken: folders that others of the same command have got. marked: the report's `mark`: a folder
    of anything else may not be written; None where any may.
    """
    names = (wanted.name if n == 1 else f"{wanted.name}-{n}" for n in counting(1))
    folders = (wanted.with_name(name) for name in names)
    return next(path for path in folders if path not in taken and _may_have(path, marked))


def _may_have(folder: Path, marked: str | None) -> bool:
    if marked is None or not folder.is_dir() or not any(folder.iterdir()):
        return True
    try:
        with open(folder / "index.html", "rb") as file:
            head = file.read(_HEAD).decode(errors="replace")
    except FileNotFoundError:
        return False
    found = re.search(f'<meta name="{OF}" content="([0-9a-f]+)">', head)
    return found is not None and found[1] == marked
