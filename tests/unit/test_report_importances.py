"""Importances are Optuna's, and are left out where they would say nothing."""

import pytest

from pso_attn.baselines import RandomSearch
from pso_attn.report.importances import FEWEST, importances
from pso_attn.testing import drive
from pso_attn.testing.reporting import study_of
from pso_attn.testing.spaces import cube, mixed


def searched(space, function, trials=40):
    sampler = RandomSearch(seed=1, particles=10, batch=10, generations=trials // 10)
    return study_of(space, drive(sampler, space, function, trials // 10))


def test_the_setting_that_decides_the_loss_comes_first():
    found = importances(searched(cube(3), lambda params: (params["x1"] - 0.3) ** 2))
    assert next(iter(found.shares)) == "x1"
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert "PED-ANOVA" in found.note
    assert "40 complete trials" in found.note
    assert "hint at most" in found.note  # PED-ANOVA wants fifty


def test_a_conditional_setting_is_kept():
    def function(params):
        return params.get("slope", 2.0)

    found = importances(searched(mixed(), function, trials=60))
    assert "slope" in found.shares


@pytest.mark.parametrize(
    ("study", "says"),
    [
        (lambda: None, "not at hand"),
        (lambda: searched(cube(2), lambda p: p["x0"], trials=0), f"at least {FEWEST}"),
        (lambda: searched(cube(2), lambda p: 1.0), "same value"),
        (lambda: searched(cube(1), lambda p: p["x0"]), "Only one setting"),
    ],
)
def test_where_nothing_can_be_said_the_note_says_why(study, says):
    found = importances(study())
    assert found.shares == {}
    assert says in found.note


def test_as_many_are_the_best_as_optuna_sets_apart():
    def function(params):
        return params["x0"]

    space = cube(2)
    sampler = RandomSearch(seed=1, particles=8, batch=8, generations=13)
    found = importances(study_of(space, drive(sampler, space, function, 13)))
    assert "the best 11 apart among 104" in found.note  # a tenth, rounded up
