"""Cut a search off at every single write: resumed, it has the uninterrupted search's trials."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pso_attn.baselines.random_search import RandomSearch
from pso_attn.search import Search, run_search
from pso_attn.seeding import generator, training_seed
from pso_attn.space import Knob, Space, read_space
from pso_attn.store import OptunaStore, RunFolder, load_study
from pso_attn.swarm.classic import ClassicSwarm
from pso_attn.types import (
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    Replan,
    Sampler,
    State,
)

LOSS = (Objective("loss", "minimize"),)
BATCH = 4
KNOBS = {
    "lr": Knob("lr", "float", "", low=1e-4, high=1e-1, log=True, default=1e-2),
    "heads": Knob("heads", "ordered", "", choices=(1, 2, 4), default=2),
    "kind": Knob("kind", "categorical", "", choices=("a", "b"), default="a"),
    "width": Knob("width", "int", "", low=2, high=9, default=4, when={"kind": ("b",)}),
}
SPACE = read_space({name: {} for name in KNOBS}, {}, KNOBS)


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


class Analytic:
    """Loss by formula from settings and seed; some of it pruned, failed, infeasible, replanned."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def plan(self, proposal: Proposal, history: History) -> Generation:
        number = len(history)
        pairs = enumerate(zip(proposal.positions, proposal.particles, strict=True))
        candidates = tuple(self._candidate(number, *pair, slot) for slot, pair in pairs)
        chunk = tuple(c.trial for c in candidates if not c.violations)
        return Generation(number, candidates, (chunk,))

    def _candidate(self, number: int, position: Any, particle: int, slot: int) -> Candidate:
        trial = number * BATCH + slot
        params = self.space.decode(position)
        settings = self.space.settings(params)
        violations = {"lr <= 0.01": params["lr"] - 0.01} if params["lr"] > 0.01 else {}
        seeds = (training_seed(5, 0), training_seed(5, 1))
        return Candidate(trial, particle, position, params, settings, seeds, violations)

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        by_trial = {c.trial: c for c in generation.candidates}
        for candidate in generation.candidates:
            if candidate.violations and candidate.trial not in generation.outcomes:
                error = f"infeasible: {next(iter(candidate.violations))}"
                yield Outcome(candidate.trial, State.FAIL, None, {}, {}, 0.0, 0.0, error)
        chunks = generation.chunks
        if generation.number % 2 and len(chunks) == 1:  # the memory did not do
            chunks = (chunks[0][:1], chunks[0][1:])
            yield Replan(generation.number, chunks)
        for chunk in chunks:
            if all(trial in generation.outcomes for trial in chunk):
                continue
            if stop():
                return
            for trial in chunk:  # finished members are trained again with the others
                yield self._outcome(by_trial[trial], len(chunk))

    def _outcome(self, candidate: Candidate, chunk: int) -> Outcome:
        noise = generator(candidate.seeds[0], candidate.trial).normal()
        position = np.asarray(candidate.position, dtype=np.float64)  # a file's are single
        loss = float(np.sum((position - 0.3) ** 2) + 0.1 * noise / chunk)
        curve = {step: loss + 1 / step for step in (10, 20, 40)}
        metrics = {"loss": loss, "parameters": 100 + candidate.trial}
        if noise > 0.5:
            return Outcome(candidate.trial, State.FAIL, None, {10: loss}, {}, 0.5, 0.25, "nan")
        if loss > 0.4:
            return Outcome(
                candidate.trial, State.PRUNED, (curve[10],), {10: curve[10]}, metrics, 0.5, 0.25
            )
        return Outcome(candidate.trial, State.COMPLETE, (curve[40],), curve, metrics, 0.5, 1.0)


def new_run(place: Path, url: str | None = None) -> RunFolder:
    return RunFolder.create(place / "runs", "demo", {"seed": 5}, {})


def classic() -> Sampler:
    return ClassicSwarm(seed=5, particles=6, batch=BATCH, generations=3)


def uniform() -> Sampler:
    return RandomSearch(seed=5, particles=6, batch=BATCH, generations=3)


def go_on(
    folder: RunFolder,
    url: str | None = None,
    sampler: Callable[[], Sampler] = classic,
    generations: int = 3,
    space: Space = SPACE,
) -> History:
    with OptunaStore.load(url, folder, space, LOSS) as store:
        return run_search(Search(space, generations), sampler(), Analytic(space), store)


def contents(history: History, folder: RunFolder, url: str | None = None) -> list[Any]:
    """Return everything exact resume speaks of, and Optuna's view of it."""
    ours = [
        (
            t.number,
            t.generation,
            t.candidate.particle,
            t.candidate.position.tobytes(),
            t.candidate.params,
            t.candidate.settings,
            t.candidate.seeds,
            t.candidate.violations,
            repr(t.outcome),
        )
        for t in history.trials
    ]
    theirs = [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs, t.constraints)
        for t in load_study(folder, url).trials
    ]
    return [ours, theirs]


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_the_search_under_test_meets_every_kind_of_outcome(tmp_path: Path) -> None:
    trials = go_on(new_run(tmp_path)).trials
    assert {t.outcome.state for t in trials} == set(State)
    assert any(t.candidate.violations for t in trials)


def test_a_journal_cut_off_in_any_line_resumes_to_the_same_trials(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    whole = contents(go_on(folder), folder)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 90
    for k, line in enumerate(lines):
        place = tmp_path / str(k)
        shutil.copytree(folder.path, place / "demo")
        cut = RunFolder.open("demo", place)
        cut.journal.write_bytes(b"".join(lines[:k]) + line[: len(line) * (k % 5) // 4])
        assert contents(go_on(cut), cut) == whole, f"cut off in line {k}"


@pytest.mark.parametrize("sampler", [classic, uniform])
def test_a_search_killed_at_any_append_resumes_to_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Callable[[], Sampler]
) -> None:
    folder = new_run(tmp_path)
    append = JournalFileBackend.append_logs
    appended: list[int] = []

    def count(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        appended.append(len(logs))
        append(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", count)
        whole = contents(go_on(folder, sampler=sampler), folder)
    for n in range(len(appended)):
        cut = new_run(tmp_path / str(n))
        left = [n]

        def die(self: JournalFileBackend, logs: list[dict[str, Any]], left: Any = left) -> None:
            if left[0] == 0:
                with open(self._file_path, "ab") as file:
                    file.write(b'{"op_code":')
                raise Killed
            left[0] -= 1
            append(self, logs)

        with monkeypatch.context() as patch:
            patch.setattr(JournalFileBackend, "append_logs", die)
            with pytest.raises(Killed):
                go_on(cut, sampler=sampler)
        assert contents(go_on(cut, sampler=sampler), cut) == whole, f"killed at append {n}"


def test_a_search_killed_again_and_again_resumes_to_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_run(tmp_path / "whole")
    whole = contents(go_on(folder), folder)
    cut = new_run(tmp_path / "cut")
    append = JournalFileBackend.append_logs
    left: list[int] = []

    def die(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        append(self, logs)

    killed = 0
    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", die)
        while True:
            left[:] = [2]  # two writes, then the end
            try:
                history = go_on(cut)
            except Killed:
                killed += 1
                continue
            break
    assert killed > 5
    assert contents(history, cut) == whole


def test_positions_in_files_survive_a_cut_journal(tmp_path: Path) -> None:
    knobs = {
        f"w{k}": Knob(f"w{k}", "float", "", low=-1.0, high=1.0, default=0.0) for k in range(257)
    }
    wide = read_space({name: {} for name in knobs}, {"lr": 0.01}, {**knobs, "lr": KNOBS["lr"]})
    folder = new_run(tmp_path)

    class Plain(Analytic):
        def _candidate(self, number: int, position: Any, particle: int, slot: int) -> Candidate:
            position = self.space.rounded(position)
            params = self.space.decode(position)
            trial = number * BATCH + slot
            return Candidate(trial, particle, position, params, {}, (trial,))

    def resume(run: RunFolder) -> History:
        with OptunaStore.load(None, run, wide, LOSS) as store:
            return run_search(Search(wide, 2), uniform(), Plain(wide), store)

    whole = contents(resume(folder), folder)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    plan = next(k for k, line in enumerate(lines) if b"generation:1" in line)
    for k in (plan, plan + 1, plan + 3):
        place = tmp_path / str(k)
        shutil.copytree(folder.path, place / "demo")
        cut = RunFolder.open("demo", place)
        cut.journal.write_bytes(b"".join(lines[:k]))
        (cut.path / "positions" / ".1.npy.left-behind").write_bytes(b"half")
        assert contents(resume(cut), cut) == whole


class Commits:
    """Counts commits that write, and kills at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self.last, self.wrote = 0, last, False

    def executed(self, *arguments: Any) -> None:
        self.wrote = self.wrote or arguments[2].startswith(("INSERT", "UPDATE"))

    def committing(self, _: object) -> None:
        if self.wrote:
            if self.count == self.last:
                raise Killed
            self.wrote, self.count = False, self.count + 1

    def __enter__(self) -> "Commits":
        self.hooks = (("before_cursor_execute", self.executed), ("commit", self.committing))
        for name, hook in self.hooks:
            event.listen(Engine, name, hook)
        return self

    def __exit__(self, *_: object) -> None:
        for name, hook in self.hooks:
            event.remove(Engine, name, hook)


@pytest.mark.slow
def test_a_search_killed_at_any_commit_of_a_database_resumes_to_the_same_trials(
    tmp_path: Path,
) -> None:
    def run(name: str) -> tuple[RunFolder, str]:
        (tmp_path / name).mkdir()
        return new_run(tmp_path / name), f"sqlite:///{tmp_path / name}/a.db"

    folder, url = run("whole")
    OptunaStore.load(url, folder, SPACE, LOSS).close()
    shutil.copyfile(tmp_path / "whole" / "a.db", tmp_path / "begun.db")
    with Commits() as commits:
        history = go_on(folder, url, generations=2)
    whole = contents(history, folder, url)
    assert commits.count == 10
    for n in range(commits.count):
        cut, url = run(str(n))
        shutil.copyfile(tmp_path / "begun.db", tmp_path / str(n) / "a.db")
        with Commits(last=n), pytest.raises(Killed):
            go_on(cut, url, generations=2)
        assert contents(go_on(cut, url, generations=2), cut, url) == whole, f"at commit {n}"
