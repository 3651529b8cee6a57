"""Positions of a weight search: one `positions/<generation>.npy` for each generation.

Thousands of coordinates would swamp the study's attributes, so the plan names the file and its
SHA-256 instead. The file is written before the plan that names it. It holds float32: positions of
so many coordinates are rounded to that before anything is done with them. A hybrid adds a
`<generation>-moved-<trial>.npy` for each chunk: where training left its particles.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pso_attn.errors import StorageError
from pso_attn.store.atomic import write_atomically
from pso_attn.types import Array


def write_positions(folder: Path, name: str, positions: Array) -> dict[str, str]:
    """Write positions into a run's folder; return {"file": …, "sha256": …}.

    name: of the file. positions: (P, D), each of which float32 holds exactly.
    """
    buffer = io.BytesIO()
    single = np.asarray(positions, dtype=np.float32)
    assert (single == positions).all(), "positions of many coordinates are rounded to float32"
    np.save(buffer, single, allow_pickle=False)
    data = buffer.getvalue()
    file = f"positions/{name}.npy"
    write_atomically(folder / file, data)
    return {"file": file, "sha256": hashlib.sha256(data).hexdigest()}


def read_positions(folder: Path, reference: Mapping[str, str]) -> Array:
    """Return the (P, D) positions that a plan refers to, in single precision.

    They stay in their file until they are used: all generations of a search for millions of
    weights would fill the memory. Raises StorageError where the file is missing or is not the one
    that was written.
    """
    path = folder / reference["file"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"the positions {path} cannot be read ({error.strerror}); copy the run's folder "
            "to where it is resumed"
        ) from error
    if hashlib.sha256(data).hexdigest() != reference["sha256"]:
        raise StorageError(
            f"the positions {path} are not those that the run wrote; restore the file"
        )
    positions: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return positions
