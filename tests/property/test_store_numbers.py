"""Any number that an evaluation may give is stored and read back as itself."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pso_attn.space import Knob, read_space
from pso_attn.store import OptunaStore, RunFolder
from pso_attn.store.records import plan_document
from pso_attn.types import Candidate, Generation, Objective, Outcome, State

LOSS = (Objective("loss", "minimize"),)
KNOBS = {
    "lr": Knob("lr", "float", "", low=1e-7, high=3.0, log=True, default=1e-2),
    "scale": Knob("scale", "float", "", low=-1.5, high=2.25, step=0.25, default=0.0),
    "width": Knob("width", "int", "", low=1, high=999, log=True, default=4),
    "rank": Knob("rank", "int", "", low=3, high=20, step=4, default=7),
    "kind": Knob("kind", "categorical", "", choices=("a", "b"), default="a"),
    "ratio": Knob("ratio", "ordered", "", choices=(0.1, 0.3, 1), default=0.3),
    "bias": Knob("bias", "bool", "", choices=(False, True), default=True),
}
SPACE = read_space({name: {} for name in KNOBS}, {}, KNOBS)

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(st.floats(), st.integers(-(2**53), 2**53))
coordinates = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])),
    min_size=SPACE.dimension,
    max_size=SPACE.dimension,
)
outcomes = st.builds(
    Outcome,
    trial=st.just(0),
    state=st.just(State.COMPLETE),
    values=st.tuples(finite),
    curve=st.dictionaries(st.integers(0, 10**6), st.floats(), max_size=4),
    metrics=st.dictionaries(st.text(min_size=1, max_size=5), numbers, max_size=4),
    seconds=st.floats(0, 1e9),
    fidelity=st.floats(0, 1),
)


def described(candidate: Candidate, outcome: Outcome) -> list[Any]:
    """Return all that a trial holds, with NaN and the types of numbers told apart."""
    return [
        candidate.position.tobytes(),
        repr(dict(candidate.params)),
        candidate.settings,
        candidate.seeds,
        repr((outcome.values, outcome.metrics, outcome.seconds, outcome.fidelity)),
        repr(sorted(outcome.curve.items())),
    ]


@settings(max_examples=40, deadline=None)
@given(position=coordinates, outcome=outcomes)
def test_what_is_stored_is_what_was_given(position: list[float], outcome: Outcome) -> None:
    point = np.array(position)
    params = SPACE.decode(point)
    candidate = Candidate(0, 0, point, params, SPACE.settings(params), (1, 2))
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(Path(place), "demo", {}, {})
        with OptunaStore.create(None, folder, SPACE, LOSS, {}) as store:
            store.begin(Generation(0, (candidate,), ((0,),)))
            store.record(outcome)
            (kept,) = store.history().trials
        with OptunaStore.load(None, folder, SPACE, LOSS) as store:
            (trial,) = store.history().trials
    assert described(trial.candidate, trial.outcome) == described(candidate, outcome)
    assert described(kept.candidate, kept.outcome) == described(candidate, outcome)
    assert repr(kept.outcome) == repr(trial.outcome)


@settings(max_examples=40, deadline=None)
@given(position=coordinates, amount=st.floats(), seed=st.integers(0, 2**31 - 1))
def test_a_plan_is_what_its_text_reads_back_as(
    position: list[float], amount: float, seed: int
) -> None:
    point = np.array(position)
    params = {name: np.asarray(value)[()] for name, value in SPACE.decode(point).items()}
    nested = {"layers": (1, (np.float64(amount), seed)), "shape": np.arange(3), **params}
    candidate = Candidate(0, 0, point, params, nested, (seed,), {"lr <= 1": np.float64(amount)})
    plan = plan_document(Generation(0, (candidate,), ((0,),)), None)
    assert repr(json.loads(json.dumps(plan))) == repr(plan)
