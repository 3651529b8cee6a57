"""The callback that reports a Trainer's evaluations, without the library that it extends."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pso_attn.errors import ConfigurationError


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A callback over a trial that notes what is reported."""
    library: Any = ModuleType("transformers")
    library.TrainerCallback = object
    monkeypatch.setitem(sys.modules, "transformers", library)
    monkeypatch.delitem(sys.modules, "pso_attn.hugging_face", raising=False)
    reported = list[tuple[int, float]]()
    trial = SimpleNamespace(
        reported=reported,
        report=lambda step, value: reported.append((step, value)),
        should_prune=lambda: len(reported) > 1,
    )
    yield importlib.import_module("pso_attn.hugging_face").PruningCallback(trial)
    sys.modules.pop("pso_attn.hugging_face", None)


def evaluated(callback: Any, step: int, **metrics: float) -> bool:
    control = SimpleNamespace(should_training_stop=False)
    callback.on_evaluate(None, SimpleNamespace(global_step=step), control, metrics)
    return control.should_training_stop


def test_evaluations_are_reported_once_a_step_and_those_of_others_are_not(callback: Any) -> None:
    assert not evaluated(callback, 10, eval_loss=1.0)
    assert not evaluated(callback, 10, eval_loss=1.0)
    assert not evaluated(callback, 20, test_loss=9.0)
    assert evaluated(callback, 20, eval_loss=0.5)
    assert callback.trial.reported == [(10, 1.0), (20, 0.5)]
    callback.on_train_end(None, None, None)


def test_a_metric_that_no_evaluation_has_is_named_at_the_end(callback: Any) -> None:
    evaluated(callback, 10, eval_accuracy=0.5)
    with pytest.raises(ConfigurationError, match='no "eval_loss"; it gave eval_accuracy'):
        callback.on_train_end(None, None, None)
