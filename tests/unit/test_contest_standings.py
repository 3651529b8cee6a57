"""Who stands where in a comparison, and what of it chance may explain."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pso_attn.report.contest import Cell, Contest, quantile, standings, verdict
from pso_attn.report.contest_page import build_contest
from pso_attn.types import Candidate, History, Objective, Outcome, State, Trial


def history(values: Sequence[float | None], objective: Objective) -> History:
    """Return a history of one trial a generation; None is a failed one."""
    trials = []
    for number, value in enumerate(values):
        state = State.FAIL if value is None else State.COMPLETE
        outcome = Outcome(
            number,
            state,
            None if value is None else (value,),
            {},
            {},
            1.0,
            float(value is not None),
        )
        trials.append(Trial(number, Candidate(number, 0, np.zeros(1), {}, {}, (1,)), outcome))
    return History((objective,), tuple((trial,) for trial in trials))


def contest(direction: Any = "minimize", **values: Sequence[Sequence[float | None]]) -> Contest:
    """Return a contest: for each sampler the values of each seed's trials."""
    objective = Objective("loss", direction)
    cells = [
        Cell(sampler, seed, f"{sampler}{seed}", history(run, objective), 0.5)
        for sampler, runs in values.items()
        for seed, run in enumerate(runs)
    ]
    seeds = tuple(range(len(next(iter(values.values())))))
    return Contest("c", objective, tuple(values), seeds, tuple(cells))


def test_quartiles_ranks_and_duels_are_those_of_the_best_of_each_search() -> None:
    a, b = standings(contest(a=[[3, 1], [4, 2], [5, 3]], b=[[2, 9], [1, 9], [3, None]]))
    assert (a.median, a.better, a.worse, a.mean_rank) == (2, 1.5, 2.5, pytest.approx(4.5 / 3))
    assert (b.median, b.mean_rank) == (2, pytest.approx(4.5 / 3))
    assert a.duel is None
    assert b.duel is not None
    assert (b.duel.wins, b.duel.ties, b.duel.losses, b.duel.p) == (1, 1, 1, 1.0)


def test_a_maximised_objective_is_shown_as_itself_and_more_wins() -> None:
    a, b = standings(contest("maximize", a=[[0.5, 0.6]], b=[[0.9, 0.1]]))
    assert (a.median, b.median, b.mean_rank) == (0.6, 0.9, 1.0)
    assert b.duel is not None
    assert b.duel.wins == 1


def test_a_search_in_which_nothing_completed_is_last_and_breaks_no_quantile() -> None:
    found = contest(a=[[1.0], [None], [3.0]], b=[[2.0], [2.0], [None]])
    a, b = standings(found)
    assert (a.better, a.median, a.worse) == (2.0, 3.0, inf)
    assert b.duel is not None
    assert (b.duel.wins, b.duel.losses) == (1, 2)
    assert quantile(np.array([[1.0], [2.0], [4.0], [8.0]]), 0.25).tolist() == [1.75]


def test_seeds_that_all_agree_decide_from_six_on() -> None:
    five = contest(a=[[1.0]] * 5, b=[[2.0]] * 5)
    assert "at least 6 seeds" in verdict(five, standings(five))[1]
    six = contest(a=[[1.0]] * 6, b=[[2.0]] * 6)
    said, decided = verdict(six, standings(six))
    assert said.startswith("a ranks first: mean rank 1 of 2 over 6 seeds of 1 training each")
    assert decided == "By the sign test at p < .05, a is ahead of b."


def test_equal_searches_are_no_lead_and_have_no_p() -> None:
    same = contest(a=[[1.0]], b=[[1.0]])
    found = standings(same)
    assert found[1].duel is not None
    assert found[1].duel.p is None
    assert verdict(same, found)[0].startswith("a and b rank first: mean rank 1.5")


@pytest.mark.parametrize("value", [None, inf])
def test_where_nothing_completed_nobody_ranks_first(value: float | None) -> None:
    for samplers in ("a", "ab"):
        found = contest(**{sampler: [[value], [value]] for sampler in samplers})
        said, doubt = verdict(found, standings(found))
        assert said.startswith(
            f"Nothing completed in any search by {' and '.join(samplers)}, over 2 seeds of 1"
        )
        assert "rank first" not in said
        assert doubt == ""


def test_samplers_of_which_no_search_completed_anything_are_named() -> None:
    found = contest(a=[[1.0], [None]], b=[[None], [None]], c=[[None], [inf]])
    said = verdict(found, standings(found))[0]
    assert said.startswith("a ranks first: ")
    assert said.endswith(" Nothing completed in any search by b and c.")


@pytest.mark.parametrize("value", [None, 1.0])
def test_a_page_is_made_of_searches_that_failed_and_that_are_all_equal(
    value: float | None, tmp_path: Any
) -> None:
    page = build_contest(contest(a=[[value]], b=[[value]]), tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"index.html", "searches.csv", "best_so_far.png", "final.png"}
    assert "<h1>c</h1>" in page.read_text()


def test_a_search_that_completed_nothing_has_no_best(tmp_path: Path) -> None:
    build_contest(contest("maximize", a=[[0.5]], b=[[None]]), tmp_path)
    rows = pd.read_csv(tmp_path / "searches.csv")
    assert rows["best.loss"].tolist()[0] == 0.5
    assert rows["best.loss"].isna().tolist() == [False, True]
