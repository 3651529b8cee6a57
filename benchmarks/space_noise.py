"""Measures how far one training can be trusted on a space, on this machine.

    python benchmarks/space_noise.py text
    python benchmarks/space_noise.py my_space.toml --set model.layers=1 --json

Trains the defaults on several seeds and random settings on two seeds each, at the space's full
number of steps, and scores them on the validation split. Prints a row for docs/spaces.md, which
says what the columns mean. One thread; what stood where is in the JSON.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from pso_attn.assembly import assemble
from pso_attn.config import read_configuration
from pso_attn.errors import PsoAttnError
from pso_attn.evaluate import resolve_device, train_swarm
from pso_attn.parts import Parts
from pso_attn.seeding import generator, training_seed
from pso_attn.types import Array, Settings

HEADER = """\
| space | s alone | s in a batch | defaults ± noise | best / median / worst | SNR | r, all / top |
|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Spread:
    """How random settings differ, and how much of that a single training shows.

    settings: that finished on both seeds. best, median, worst: of their losses, means of two
    seeds. snr: spread between settings over noise of one seed, both on the logarithm of the loss.
    rank_all, rank_top: Spearman's correlation between the seeds, of all settings and of the half
    with the lower mean.
    """

    settings: int
    best: float
    median: float
    worst: float
    snr: float
    rank_all: float
    rank_top: float


def spread_of(losses: Array) -> Spread:
    """Return the spread of losses, (settings, 2), one column a seed.

    With y the log loss: noise² = mean of (y1 - y2)² / 2, the variance of one training around its
    setting's mean; spread² = variance of the settings' means - noise² / 2, what is left of it
    once the noise of a mean of two is taken out, and 0 if nothing is.
    """
    logs, means = np.log(losses), losses.mean(axis=1)
    noise = float(np.sqrt(((logs[:, 0] - logs[:, 1]) ** 2).mean() / 2))
    spread = float(np.sqrt(max(0.0, logs.mean(axis=1).var(ddof=1) - noise**2 / 2)))
    top = losses[np.argsort(means)[: len(losses) // 2]]
    return Spread(
        settings=len(losses),
        best=float(means.min()),
        median=float(np.median(means)),
        worst=float(means.max()),
        snr=spread / noise,
        rank_all=float(spearmanr(losses[:, 0], losses[:, 1]).statistic),
        rank_top=float(spearmanr(top[:, 0], top[:, 1]).statistic),
    )


def random_settings(parts: Parts, count: int, seed: int) -> list[Settings]:
    """Return settings drawn uniformly from the unit cube and repaired to the constraints."""
    found: list[Settings] = []
    for draw in range(20 * count):
        position = generator(seed, draw, "space noise").random(parts.space.dimension)
        repaired = parts.space.repair(position, seed, 0, draw)
        if not repaired.violations:
            found.append(parts.space.settings(repaired.params))
        if len(found) == count:
            break
    return found


def train(
    parts: Parts, settings: Sequence[Settings], seeds: Sequence[int], together: int
) -> tuple[list[float], float]:
    """Return each training's validation loss (NaN where it failed), and the seconds of all."""
    configuration = parts.configuration
    device = resolve_device(configuration.device)
    losses: list[float] = []
    start = time.perf_counter()
    for first in range(0, len(settings), together):
        chunk = slice(first, first + together)
        results = train_swarm(
            parts.task,
            list(settings[chunk]),
            list(seeds[chunk]),
            configuration.budget.steps,
            device,
            split="validation",
        )
        losses += [found.metrics["loss"] if found.metrics else math.nan for found in results]
    return losses, time.perf_counter() - start


def measure(parts: Parts, count: int, repeats: int, together: int, seed: int) -> dict[str, Any]:
    """Return all figures of a space as a document for JSON."""
    space, budget = parts.space, parts.configuration.budget
    defaults = space.settings(space.decode(space.starts[0]))
    seeds = [training_seed(seed, k) for k in range(repeats)]
    (_, alone_s) = train(parts, [defaults], seeds[:1], 1)
    default_losses, _ = train(parts, [defaults] * repeats, seeds, together)
    drawn = random_settings(parts, count, seed)
    losses, seconds = train(
        parts,
        [settings for settings in drawn for _ in range(2)],
        seeds[:2] * len(drawn),
        together,
    )
    pairs = np.array(losses).reshape(-1, 2)
    finished = pairs[np.isfinite(pairs).all(axis=1)]
    return {
        "schema": 1,
        "space": parts.configuration.source,
        "steps": budget.steps,
        "data": parts.task.describe(),
        "fingerprint": parts.task.fingerprint,
        "seconds_alone": alone_s,
        "seconds_in_a_batch": seconds / len(losses),
        "trained_together": together,
        "default_losses": default_losses,
        "default_loss": float(np.mean(default_losses)),
        "noise": float(np.std(default_losses, ddof=1)),
        "spread": asdict(spread_of(finished)),
        "failed": len(pairs) - len(finished),
        "losses": pairs.tolist(),
        "machine": machine(parts),
    }


def machine(parts: Parts) -> dict[str, Any]:
    """Return what the figures depend on beside the space."""
    device = resolve_device(parts.configuration.device)
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    """Return the processor's name where Linux tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def row(found: Mapping[str, Any]) -> str:
    """Return the figures as a row of the table in docs/spaces.md."""
    spread = Spread(**found["spread"])
    cells = [
        found["space"],
        f"{found['seconds_alone']:.2g}",
        f"{found['seconds_in_a_batch']:.2g}",
        f"{found['default_loss']:.3f} ± {found['noise']:.3f}",
        f"{spread.best:.3f} / {spread.median:.3f} / {spread.worst:.3f}",
        f"{spread.snr:.1f}",
        f"{spread.rank_all:.2f} / {spread.rank_top:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("space", help="a built-in name or a space file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument("--settings", type=int, default=20, help="random settings")
    parser.add_argument("--repeats", type=int, default=8, help="seeds of the defaults, from 2")
    parser.add_argument("--together", type=int, default=16, help="trainings in one batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        parts = assemble(read_configuration(given.space, given.sets, {"device": given.device}))
    except PsoAttnError as error:
        parser.error(str(error))
    found = measure(parts, given.settings, given.repeats, given.together, given.seed)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{HEADER}\n{row(found)}\n")
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))
    if found["failed"]:
        print(f"{found['failed']} of {given.settings} random settings diverged; they are left out")


if __name__ == "__main__":
    main()
