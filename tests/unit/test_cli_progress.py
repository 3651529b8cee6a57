import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.cli.progress import SearchProgress
from pso_attn.cli.summary import endings
from pso_attn.evaluate import Progress
from pso_attn.testing.driving import finished
from pso_attn.types import Budget, History, Objective, Outcome, State

BUDGET = Budget(particles=2, batch=2, generations=3)
INFINITY = float("inf")


def outcome(trial: int, value: float | None, state: State = State.COMPLETE) -> Outcome:
    return Outcome(trial, state, None if value is None else (value,), {}, {}, 0.0, 1.0)


def progress(direction: str = "minimize", quiet: bool = False) -> tuple[SearchProgress, History]:
    history = History((Objective("score", direction),))  # type: ignore[arg-type]  # one of the two
    return SearchProgress(BUDGET, history, INFINITY, quiet), history


def test_a_line_per_generation_is_written_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown, history = progress()
    with shown.shown():
        shown.observe(outcome(0, 0.5), history)
        shown.observe(outcome(1, 0.25), history)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("1/3 generations · 2/6 particles · best score 0.2500 · ")
    assert said.err.count("\n") == 1


def test_a_search_says_how_it_trains_before_it_has(tmp_path: Path) -> None:
    tiny = ("--particles", "3", "--generations", "2", "--set", "budget.steps=2")
    done = CliRunner().invoke(app, ["search", "digits", *tiny, "--runs-dir", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    plan = "3 trainings at once on 1 thread"
    assert [line for line in done.stderr.splitlines() if "trainings" in line] == [plan]
    assert done.stderr.index(plan) < done.stderr.index("1/2 generations")


def test_each_way_to_train_a_chunk_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown, _ = progress()
    one, other = "2 trainings at once on 1 thread", "1 training at once on 1 thread"
    first, *again = (f"{one}: predicted 1.{digit} times as fast as one by one" for digit in "34")
    for plan in (first, *again, other, other):
        shown.planned(plan)
    assert capsys.readouterr().err.splitlines() == [first, other]


def test_the_best_of_a_maximised_metric_is_the_largest_and_shown_as_itself() -> None:
    shown, history = progress("maximize")
    shown.observe(outcome(0, 0.5), history)
    shown.observe(outcome(1, 0.75), history)
    assert "best score 0.7500" in shown.line()


def test_what_did_not_complete_is_never_the_best() -> None:
    shown, history = progress()
    shown.observe(outcome(0, 0.1, State.PRUNED), history)
    shown.observe(outcome(1, None, State.FAIL), history)
    assert "best" not in shown.line()


def test_time_left_is_unknown_before_anything_was_done_and_ends_at_the_deadline() -> None:
    shown, history = progress()
    assert "left" not in shown.line()
    shown.training(Progress(0, 0, 1, 5, 10, 2))
    assert shown.left_s() >= 0
    late = SearchProgress(BUDGET, history, 0.0, True)
    late.observe(outcome(0, 0.5), history)
    assert late.left_s() == 0


def test_the_best_score_of_the_chunks_that_train_is_shown_until_they_end() -> None:
    shown, _ = progress("maximize")
    shown.training(Progress(0, 0, 2, 5, 10, 2, 0.25))
    shown.training(Progress(0, 1, 2, 2, 10, 2, 0.75))
    shown.training(Progress(0, 1, 2, 3, 10, 2))
    assert "in training 0.7500 at step 2" in shown.line()
    shown.training(Progress(0, 1, 2, 0, 10, 0))
    assert "in training 0.2500 at step 5" in shown.line()
    shown.training(Progress(0, 0, 2, 0, 10, 0))
    assert "in training" not in shown.line()


@pytest.mark.parametrize(
    ("width", "said", "left_out"),
    [
        (120, ("particles", "best score 1.355", "in training 1.977 at step 22"), ()),
        (80, ("particles", "best score 1.355"), ("in training",)),
        (60, ("best score 1.355",), ("in training", "particles")),
        (40, (), ("in training", "particles", "best")),
    ],
)
def test_the_live_line_is_whole_on_a_terminal_of_any_width(
    width: int,
    said: tuple[str, ...],
    left_out: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    shown, history = progress()
    monkeypatch.setattr(shown, "left_s", lambda: 3785.0)
    with shown.shown():
        shown.observe(outcome(0, 1.355), history)
        shown.training(Progress(0, 0, 2, 22, 100, 2, 1.977))
        assert shown._live is not None
        shown._live[0].refresh()
    drawn = re.sub(r"\x1b\[[0-9;?]*\w", "\n", capsys.readouterr().err)
    line = next(line for line in drawn.split("\r")[::-1] if "generations" in line)
    text = "".join(line.split("\n"))
    assert text.startswith("0/3 generations ")
    assert text.rstrip().endswith("1 h 03 min left")
    assert "…" not in text
    assert all(word in text for word in said)
    assert not any(word in text for word in left_out)


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown, history = progress(quiet=True)
    with shown.shown():
        shown.observe(outcome(0, 0.5), history)
        shown.observe(outcome(1, 0.5), history)
    assert capsys.readouterr().err == ""


def test_a_stderr_that_has_gone_away_does_not_stop_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    shown, history = progress()
    with shown.shown():
        shown.observe(outcome(0, 0.5), history)
        shown.observe(outcome(1, 0.5), history)
    assert "2/6 particles" in shown.line()


def test_a_best_that_was_stored_before_an_interruption_is_the_best_still() -> None:
    shown, empty = progress()
    shown.observe(outcome(1, 0.5), empty)  # trial 0, of .1, was stored before
    one, two = (finished(0, k, k, np.zeros(1), loss) for k, loss in enumerate((0.1, 0.5)))
    shown.observe(outcome(2, 0.7), History(empty.objectives, ((one, two),)))
    assert "best score 0.1000" in shown.line()


def test_a_summary_tells_infeasible_settings_from_failed_trainings() -> None:
    objective = Objective("score", "minimize")
    trials = []
    for k, error in enumerate((None, "infeasible: heads > 2", "diverged at step 3")):
        done = finished(0, k, k, np.zeros(1), 0.5)
        state = State.COMPLETE if error is None else State.FAIL
        trials.append(replace(done, outcome=replace(done.outcome, state=state, error=error)))
    (counted, *_) = endings("trials", History((objective,), (tuple(trials),)))
    assert counted == "trials: 1 complete, 1 failed, 1 infeasible"
