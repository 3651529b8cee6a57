"""The one place that imports transformers: a callback that lets a Trainer be pruned.

    trainer = Trainer(…, callbacks=[PruningCallback(trial)])

inside an objective of one's own: see `examples/fine_tune.py`.
"""

from typing import Any, Protocol

from pso_attn.errors import ConfigurationError

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ConfigurationError(
        f'transformers cannot be imported ({error}); pip install "pso-attn[transformers]"'
    ) from error


class Trial(Protocol):
    """What an objective of one's own is handed."""

    def report(self, step: int, value: Any) -> None:
        """Say how good the training is after so many steps."""
        ...

    def should_prune(self) -> bool:
        """Tell whether to stop here."""
        ...


class PruningCallback(TrainerCallback):
    """Reports a metric at each evaluation of a Trainer, and stops it when its trial should leave.

    The Trainer evaluates at the rungs where `eval_steps` divides them; any evaluation beyond a
    rung counts for it otherwise.
    """

    def __init__(self, trial: Trial, metric: str = "eval_loss") -> None:
        """metric: as `Trainer.evaluate` names it, the objective of the search."""
        self.trial, self.metric = trial, metric
        self._reported, self._others = -1, set[str]()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """Report, and ask; a step that is evaluated again is not reported again.

        An evaluation that lacks the metric is of something else, as of a test split.
        """
        if metrics is None or self.metric not in metrics:
            self._others |= set(metrics or {})
            return
        if state.global_step > self._reported:
            self._reported = state.global_step
            self.trial.report(state.global_step, metrics[self.metric])
        if self.trial.should_prune():
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise ConfigurationError where what was evaluated never had the metric."""
        if self._others and self._reported < 0:
            raise ConfigurationError(
                f'the Trainer evaluates no "{self.metric}"; it gave '
                f"{', '.join(sorted(self._others))}"
            )
