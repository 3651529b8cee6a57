"""HEBO, and nevergrad's NGOpt and PSO, from an environment of their own.

HEBO 0.3.6 wants numpy < 1.25, and nevergrad 1.0.12 fails with numpy 2.4. A worker there is talked
to by JSON lines over its pipes. What has an order is shown as whole numbers, labels as categories;
neither knows conditions, so inactive knobs are told at their defaults.
"""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from flattened import FlatPeer, at_defaults, kind, point, shown

from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.space import Coordinate, Space
from pso_attn.types import Array

HERE = Path(__file__).parent
INSTALL = (
    "python3.11 -m venv outside; outside/bin/pip install -r "
    "benchmarks/optimisers/outside-requirements.txt; export OUTSIDE_PYTHON=outside/bin/python"
)


class OutsidePeer(FlatPeer):
    """A peer behind the worker, with its defaults, told its budget and asked for whole batches.

    seconds_elsewhere: CPU seconds that the worker has spent on this search.
    """

    algorithm: ClassVar[str]

    def __init__(self, seed: int, particles: int, batch: int, generations: int) -> None:
        super().__init__(seed, particles, batch, generations)
        self.seconds_elsewhere = 0.0
        self._is_begun = False

    def ask(self, space: Space) -> Array:
        if not self._is_begun:
            self._begin(space)
        given = self._said({"ask": self.batch})
        return np.array(
            [
                [point(c, value) for c, value in zip(space.coordinates, row, strict=True)]
                for row in given
            ]
        )

    def tell(self, space: Space, positions: Array, losses: Array) -> None:
        rows = [_row(space, position) for position in at_defaults(space, positions)]
        self._said({"tell": rows, "losses": losses.tolist()})

    def _begin(self, space: Space) -> None:
        self._said(
            {
                "begin": self.algorithm,
                "parameters": [_parameter(coordinate) for coordinate in space.coordinates],
                "start": _row(space, space.encode({})),
                "seed": int(generator(self.seed, self.algorithm).integers(2**31)),
                "budget": self.batch * self.generations,
                "batch": self.batch,
            }
        )
        self._is_begun = True

    def _said(self, message: dict[str, Any]) -> Any:
        worker = _worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(message) + "\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
        if not line:
            raise ConfigurationError(
                f"the worker of {self.algorithm} ended; to set it up: {INSTALL}"
            )
        answer = json.loads(line)
        self.seconds_elsewhere += answer["seconds"]
        return answer["rows"]


class Hebo(OutsidePeer):
    """HEBO: Cowen-Rivers et al. (2022)."""

    algorithm = "HEBO"


class NGOpt(OutsidePeer):
    """Nevergrad's wizard, which chooses among its optimisers."""

    algorithm = "NGOpt"


class NevergradPSO(OutsidePeer):
    """Nevergrad's particle swarm."""

    algorithm = "PSO"


@cache
def _worker() -> "subprocess.Popen[str]":
    """Return the worker of this process; it ends with it, as its input does."""
    if "OUTSIDE_PYTHON" not in os.environ:
        raise ConfigurationError(f"this peer needs an environment of its own: {INSTALL}")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = os.environ["OUTSIDE_PYTHON"]
    try:
        return subprocess.Popen(
            [python, HERE / "outside_worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
    except OSError as error:
        raise ConfigurationError(
            f"OUTSIDE_PYTHON={python} does not start ({error.strerror}); to set it up: {INSTALL}"
        ) from error


def _row(space: Space, position: Array) -> list[float | int]:
    return [shown(c, at) for c, at in zip(space.coordinates, position.tolist(), strict=True)]


def _parameter(coordinate: Coordinate) -> tuple[str, int]:
    """Return what a coordinate is shown as, and how many values it has (0: a number)."""
    found = kind(coordinate)
    return found, 0 if found == "number" else coordinate.scale.levels
