import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pso_attn.confirm import _baselines, _of_whole, ahead, finalists, measure_gain, verdict
from pso_attn.report.words import plus_minus
from pso_attn.space import Coordinate, Knob, Space
from pso_attn.types import Candidate, Direction, History, Objective, Outcome, State, Trial

LOSS = Objective("loss", "minimize")
KNOBS = (
    Knob("heads", "categorical", "", choices=(1, 2, 4, 8, 16)),
    Knob("rank", "int", "", low=1, high=1000),
    Knob("lr", "float", "", low=1e-4, high=1e-1, log=True),
    Knob("decay", "float", "", low=0.0, high=1.0),
)
SPACE = Space(
    tuple(Coordinate(knob.name, knob, (knob.name, None, None)) for knob in KNOBS),
    starts=np.empty((0, len(KNOBS))),
    anchors=np.empty((0, len(KNOBS))),
)


def trial(number: int, heads: int, value: float | None, state: State = State.COMPLETE) -> Trial:
    candidate = Candidate(number, number, np.zeros(1), {"heads": heads}, {"heads": heads}, (1,))
    values = None if value is None else (value,)
    return Trial(0, candidate, Outcome(number, state, values, {}, {}, 0.0, 1.0))


def test_finalists_are_distinct_full_and_best_first_with_ties_to_the_earlier() -> None:
    history = History(
        (LOSS,),
        (
            (
                trial(0, 1, 0.9),
                trial(1, 2, 0.5),
                trial(2, 4, 0.5),
                trial(3, 2, 0.4),
                trial(4, 8, 0.1, State.PRUNED),
                trial(5, 16, None, State.FAIL),
            ),
        ),
    )
    assert [found.number for found in finalists(history, 3, SPACE)] == [3, 2, 0]
    assert [found.number for found in finalists(history, 1, SPACE)] == [3]


BASE = {"heads": 2, "rank": 7, "lr": 0.03, "decay": 0.5}


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"lr": 0.029993, "decay": 0.505}, 1),
        ({"lr": 0.03 * 1.06}, 1),  # .0084 of three decades
        ({"lr": 0.03 * 1.08}, 2),
        ({"decay": 0.52}, 2),
        ({"rank": 8}, 2),  # an integer is another one however wide its range
        ({"heads": 4}, 2),
    ],
)
def test_settings_that_are_all_but_the_same_are_one_finalist(
    changed: dict[str, Any], count: int
) -> None:
    trials = []
    for number, params in enumerate((BASE, {**BASE, **changed})):
        candidate = Candidate(number, number, np.zeros(1), params, params, (1,))
        outcome = Outcome(number, State.COMPLETE, (0.5,), {}, {}, 0.0, 1.0)
        trials.append(Trial(0, candidate, outcome))
    found = finalists(History((LOSS,), (tuple(trials),)), 3, SPACE)
    assert [one.number for one in found] == list(range(count))


def test_the_gain_is_paired_by_seed_and_positive_where_the_winner_is_better() -> None:
    gain = measure_gain(LOSS, [1.0, 2.0, 3.0], [0.5, 1.4, 2.6])
    assert gain["per_seed"] == pytest.approx([0.5, 0.6, 0.4])
    assert gain["mean"] == pytest.approx(0.5)
    assert gain["standard_error"] == pytest.approx(0.1 / 3**0.5)
    assert gain["significant"]


def test_the_seed_noise_is_pooled_over_defaults_and_winner() -> None:
    defaults, winner = [2.0, 2.001, 1.999], [1.0, 1.3, 0.7]
    gain = measure_gain(LOSS, defaults, winner)
    assert gain["seed_noise"] == pytest.approx(((0.001**2 + 0.3**2) / 2) ** 0.5)
    said = verdict([row("defaults", 1, 2.0), row("finalist", 2, 1.0)], gain)
    assert said.endswith("a difference of 1, 4.7 times the seed noise.")


def test_what_differs_by_rounding_alone_does_not_differ() -> None:
    third = 1 / 3
    near = [third, np.nextafter(third, 1), third]
    gain = measure_gain(LOSS, near, [2e-6, 2e-6 + 4e-22, 2e-6])
    assert gain["seed_noise"] == 0
    assert measure_gain(LOSS, near, [third] * 3)["per_seed"] == [0, 0, 0]
    assert not measure_gain(LOSS, near, [third] * 3)["significant"]
    assert plus_minus(1.787e-6, 2e-22) == "1.79e-6 ± 0"
    assert plus_minus(1.0, 1.2e-16) == "1 ± 0"
    rows = [row("defaults", 1, third), row("finalist", 2, 1.787e-6)]
    assert "test loss 1.79e-6 against 0.3333 of" in verdict(rows, gain)


def test_the_gain_of_a_maximised_metric_is_positive_where_it_rose() -> None:
    accuracy = Objective("accuracy", "maximize")
    assert measure_gain(accuracy, [0.8, 0.7], [0.9, 0.81])["mean"] == pytest.approx(0.105)


def test_a_gain_that_seeds_alone_could_make_is_not_significant() -> None:
    assert not measure_gain(LOSS, [1.0, 2.0, 3.0], [2.5, 1.0, 2.0])["significant"]
    assert not measure_gain(LOSS, [1.0], [0.1])["significant"]


def test_seeds_at_which_one_side_failed_are_left_out_of_the_pairs() -> None:
    assert measure_gain(LOSS, [1.0, None, 3.0], [0.5, 0.1, 2.0])["per_seed"] == [0.5, 1.0]
    assert measure_gain(LOSS, [None], [1.0])["mean"] is None


def row(role: str, heads: int, mean: float | None) -> dict[str, Any]:
    test = {"loss": {"mean": mean, "per_seed": [mean] * 3}}
    return {"role": role, "settings": {"heads": heads}, "test": test, "error": None}


@pytest.mark.parametrize(
    ("winner", "scores", "said"),
    [
        (1, [0.5, 1.4, 2.6], "The defaults themselves did best"),
        (2, [0.5, 1.4, 2.6], "The winner is better: test loss 1.500 against 2"),
        (2, [1.5, 2.6, 3.4], "The winner is worse"),
        (2, [2.5, 1.0, 2.0], "Seeds alone"),
        (2, [None, None, None], "Nothing can be said"),
    ],
)
def test_the_verdict_says_what_the_figures_say(
    winner: int, scores: list[float | None], said: str
) -> None:
    gain = measure_gain(LOSS, [1.0, 2.0, 3.0], scores)
    present = [score for score in scores if score is not None]
    rows = [
        row("defaults", 1, 2.0),
        row("finalist", winner, np.mean(present) if present else None),
    ]
    assert verdict(rows, gain).startswith(said)


@pytest.mark.parametrize(
    ("direction", "mean", "said"),
    [
        ("minimize", 0.2, "3-gram, with 0.1000."),
        ("minimize", 0.05, ""),
        ("maximize", 0.2, "2-gram"),
    ],
)
def test_a_simple_method_that_the_winner_does_not_reach_is_named(
    direction: Direction, mean: float, said: str
) -> None:
    winner = {"test": {"loss": {"mean": mean}}}
    baselines = {"2-gram": {"loss": 0.3}, "3-gram": {"loss": 0.1}, "1-nearest": {"accuracy": 0.9}}
    sentence = ahead(Objective("loss", direction), winner, baselines)
    assert said in sentence
    assert bool(sentence) == bool(said)


def test_defaults_that_give_the_same_at_every_seed_have_no_noise_to_speak_of() -> None:
    gain = measure_gain(LOSS, [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    said = verdict([row("defaults", 1, 1.0), row("finalist", 2, 0.5)], gain)
    assert said == (
        "The winner is better: test loss 0.5000 against 1 of the defaults, over 3 seeds, a "
        "difference of 0.5000."
    )


def test_means_in_the_verdict_are_over_the_seeds_that_both_finished() -> None:
    defaults, winner = [1.0, None, 3.0], [0.5, 9.0, 2.5]
    gain = measure_gain(LOSS, defaults, winner)
    rows = [row("defaults", 1, 2.0), row("finalist", 2, 4.0)]
    for one, values in zip(rows, (defaults, winner), strict=True):
        one["test"]["loss"]["per_seed"] = values
    assert "test loss 1.500 against 2 of the defaults, over 2 seeds" in verdict(rows, gain)


def test_a_gain_over_parts_is_said_of_the_whole_split_where_both_point_one_way() -> None:
    gain = measure_gain(LOSS, [1.0, 2.0, 3.0], [0.9, 1.89, 2.9], "test part")
    assert gain["significant"]
    assert _of_whole(gain, 2.1, 1.9, LOSS) == {**gain, "mean": pytest.approx(0.2)}
    assert not _of_whole(gain, 1.9, 2.1, LOSS)["significant"]
    assert _of_whole(gain, None, 2.1, LOSS) == gain


def test_a_task_whose_simple_methods_raise_loses_no_training() -> None:
    class Task:
        def baselines(self) -> Any:
            raise ValueError("no\nsuch thing")

    found, said = _baselines(Task())
    assert found == {}
    assert said.startswith(
        " Simple methods are not beside it: the baselines raised ValueError: no such"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ridge": {"loss": torch.tensor([1.0, 2.0])}}, 'TypeError: "loss" of ridge is no number'),
        ({"ridge": None}, "AttributeError"),
        (None, "AttributeError"),
    ],
)
def test_simple_methods_of_no_numbers_lose_no_training(given: Any, told: str) -> None:
    found, said = _baselines(SimpleNamespace(baselines=lambda: given))
    assert found == {}
    assert said.startswith(f" Simple methods are not beside it: the baselines raised {told}")


def test_simple_methods_may_give_scalars_of_torch_and_numpy_and_may_not_end_the_program() -> None:
    given = {"ridge": {"loss": np.float32(0.5), "mae": torch.tensor(2.0)}}
    found, _ = _baselines(SimpleNamespace(baselines=lambda: given))
    assert json.loads(json.dumps(found)) == {"ridge": {"loss": 0.5, "mae": 2.0}}
    found, said = _baselines(SimpleNamespace(baselines=lambda: sys.exit(0)))
    assert (found, "SystemExit" in said) == ({}, True)
