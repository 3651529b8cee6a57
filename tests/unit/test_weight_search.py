"""A search for weights from start to end, held against plain modules one by one."""

import json
import re
from itertools import pairwise
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from typer.testing import CliRunner

from pso_attn.assembly import assemble
from pso_attn.checkpoints import load_checkpoint
from pso_attn.cli.app import app
from pso_attn.config import read_configuration
from pso_attn.confirm_weights import _parts
from pso_attn.controls import row_of
from pso_attn.evaluate.weights import Descent
from pso_attn.evaluate.weights import descent as descent_module
from pso_attn.evaluate.weights import fitness as fitness_module
from pso_attn.evaluate.weights.control import _loss
from pso_attn.evaluate.weights.descent import descended
from pso_attn.evaluate.weights.fitness import Score
from pso_attn.models import Transformer, read_model
from pso_attn.runs import LoadedRun, load_run
from pso_attn.samplers import SAMPLERS
from pso_attn.testing import drive
from pso_attn.testing.samplers import stored_positions
from pso_attn.types import Objective

SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
feedforward_ratio = 1
lr = 1e-2
[weights]
{weights}
[budget]
particles = 6
batch = {batch}
generations = 3
steps = 20
"""
KINDS = {
    "full": "examples = 40",
    "quantised": 'start = "trained"\nquantise = "ternary"\nexamples = 40',
    "subspace": 'coordinates = "subspace"\ndimensions = 300',
    "few": 'coordinates = "low_rank"\nrank = 1\nmatrices = ["Wq", "Wv"]\nexamples = 40',
    "joint": 'mode = "joint"\nexamples = 40\n[search]\nheads = [1, 2, 4]\ndecay = {{}}',
    "hybrid": 'mode = "hybrid"\ngradient_steps = 2\nexamples = 40',
}


MANY = ("--particles", "100000")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (("--set", "model.d_model=3000000"), "the model takes at least"),
        (MANY, "a swarm of 100000 particles with 1,024 weights each takes at least"),
        (
            (*MANY, "--batch", "100000", "--sampler", "random"),
            "a batch of 100000 positions with 1,024 weights each takes at least",
        ),
    ],
)
def test_what_the_machine_can_never_hold_is_refused_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr("pso_attn.evaluate.room.machine_bytes", lambda: 2**30)
    file = tmp_path / "space.toml"
    file.write_text(SPACE.format(weights="examples = 40", batch=6))
    refused = CliRunner().invoke(app, ["search", str(file), *own, "--runs-dir", str(tmp_path)])
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert "of memory, and the machine has 1024" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["space.toml"]
    cli("search", file, *MANY, "--sampler", "random", "--generations", "1", "--runs-dir", tmp_path)


def cli(*arguments: str | Path) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


def space(folder: Path, kind: str, batch: int = 6) -> Path:
    path = folder / f"{kind}.toml"
    path.write_text(SPACE.format(weights=KINDS[kind].format(), batch=batch))
    return path


def stored(run: LoadedRun) -> list[tuple[Any, ...]]:
    return [
        (
            trial.number,
            trial.candidate.params,
            trial.candidate.seeds,
            trial.outcome.values,
            dict(trial.outcome.metrics),
            trial.candidate.position.tobytes(),
            trial.position.tobytes(),
        )
        for trial in run.history.trials
    ]


@pytest.fixture(scope="module", params=KINDS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a finished run of every kind, and its space file."""
    runs = tmp_path_factory.mktemp(request.param)
    file = space(runs, request.param)
    where = ("--sampler", "pso-classic", "--runs-dir", runs, "-q")
    cli("search", file, "--run", "whole", *where)
    return load_run("whole", runs), file, runs


def test_a_search_cut_anywhere_goes_on_to_the_same_floats(finished: Any) -> None:
    whole, file, runs = finished
    for cut in range(3):
        name = f"cut-{cut}"
        if (runs / name).exists():
            continue
        where = ("--runs-dir", runs, "-q")
        cli("search", file, "--run", name, "--sampler", "pso-classic", *where)
        folder = load_run(name, runs).folder
        lines = folder.journal.read_bytes().splitlines(keepends=True)
        kept = len(lines) * (cut + 1) // 4
        folder.journal.write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
        if cut == 1:
            (folder.checkpoints / "start.safetensors").unlink()  # killed while it was written
        assert stored(load_run(name, runs)) != stored(whole)
        cli("resume", name, *where)
        assert stored(load_run(name, runs)) == stored(whole)
    assert "matches" in cli("verify", "cut-0", "--runs-dir", runs).stdout


def test_what_the_first_model_took_of_a_gpu_is_free_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[str]()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("back"))
    parts = assemble(read_configuration(str(space(tmp_path, "full")), (), {}))
    assert parts.weights is not None
    parts.weights.begin(torch.device("cpu"), tmp_path)
    assert given == ["back"]


def test_losses_are_those_of_plain_modules_one_by_one(finished: Any) -> None:
    run, _, _ = finished
    parts = run.assembled("cpu")
    fitness = parts.weight_trainer().fitness(run.folder.checkpoints)
    knobs = len(parts.space.coordinates)
    for trial in run.history.trials[::5]:
        position = torch.from_numpy(trial.position[knobs:]).float()
        weights = fitness.parts(trial.candidate.settings, position)
        typed = read_model(trial.candidate.settings, parts.task.info)
        model = Transformer(typed, parts.task.info).eval()
        model.load_swarm_parameters(weights)
        examples = fitness.examples(trial.candidate.seeds)
        with torch.no_grad():
            loss = functional.cross_entropy(model(examples.inputs), examples.targets)
        assert trial.outcome.values[0] == pytest.approx(float(loss), abs=2e-5)


def test_the_rest_of_the_model_is_the_trained_one(finished: Any) -> None:
    run, _, _ = finished
    start = load_checkpoint(run.folder.checkpoints / "start.safetensors")
    best = load_checkpoint(run.folder.checkpoints / "best.safetensors")
    assert start is not None
    assert best is not None
    searched = {m.name for m in run.assembled("cpu").weights.start.matrices}
    changed = {n for n, part in start.tensors.items() if not torch.equal(part, best.tensors[n])}
    assert changed == searched


def test_controls_stand_beside_the_best(finished: Any) -> None:
    run, _, runs = finished
    control = json.loads((run.folder.path / "control.json").read_text())
    assert control["trials"] == 18
    assert {"untouched", "gradient", "best"} <= control.keys()
    assert control["gradient"]["fitness"] < control["untouched"]["fitness"]
    parts = run.assembled("cpu")
    table, batch = parts.weights.start.table, parts.weights.start.settings.get("batch_size", 32)
    step = 3 * batch  # forward passes, where a backward one counts for two
    seen = table.examples or len(parts.task.train)
    passes = 18 * (seen + table.gradient_steps * step)
    assert control["gradient"]["steps"] == round(passes / step)
    best = control["best"]
    assert best["trial"] == run.best().number
    document = json.loads(cli("confirm", "whole", "--runs-dir", runs, "--json").stdout)
    assert document["rows"][0]["role"] == "defaults"
    assert document["gain"]["unit"] == "test part"
    assert len(document["rows"][1]["test"]["loss"]["per_seed"]) == 10
    assert "gradient" in document["baselines"]
    fitness = parts.weight_trainer().fitness(run.folder.checkpoints)
    best, settings = run.best(), run.best().candidate.settings
    (found,) = fitness.score_part(
        [settings], row_of(parts, fitness, best), "test", slice(0, None, 10)
    )
    first = document["rows"][1]["test"]["loss"]["per_seed"][0]
    assert first == pytest.approx(found.metrics["loss"], abs=2e-5)
    cli("export", "whole", "--runs-dir", runs, "--out", runs / "out")


def test_a_control_that_comes_too_late_is_left_to_who_takes_the_run_up_again(
    tmp_path: Path,
) -> None:
    file, where = space(tmp_path, "full"), ("--runs-dir", tmp_path)
    cli("search", file, "--run", "w", "--generations", "1", *where, "-q")
    (tmp_path / "w" / "control.json").unlink()
    late = cli("resume", "w", *where, "--timeout", "0")
    said = " ".join(late.stderr.split()).partition(
        "the time was over before the gradient control;"
    )
    assert said[2].startswith(" make it by pso-attn resume w --runs-dir")
    assert "--timeout" not in said[2]
    assert not (tmp_path / "w" / "control.json").exists()
    assert "gradient control" not in cli("resume", "w", *where, "-q").stderr
    assert (tmp_path / "w" / "control.json").exists()


def test_a_first_model_that_memory_does_not_hold_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("pso_attn.evaluate.training.SwarmTraining.advance", fails)
    file = space(tmp_path, "full")
    failed = CliRunner().invoke(app, ["search", str(file), "--runs-dir", str(tmp_path)])
    assert failed.exit_code != 0
    assert re.search(r"the model whose weights are searched needs about \d+ MiB", failed.stderr)


def test_a_forecasts_parts_of_the_test_split_share_no_asked_step(tmp_path: Path) -> None:
    day = 2 * np.pi * np.arange(400) / 24
    table = pd.DataFrame({"hour": np.arange(400), "load": np.sin(day), "wind": np.cos(day)})
    table.to_csv(tmp_path / "hours.csv", index=False)
    file = tmp_path / "space.toml"
    series = f'task = "series"\ndata = "{tmp_path / "hours.csv"}"\n'
    asked = 'target = "load"\ntime = "hour"\n[forecast]\nhorizon = 6\ncontext = 8\n'
    searched = SPACE.format(weights='mode = "weights"', batch=6)
    file.write_text(searched.replace('task = "digits"', series + asked))
    where = ("--runs-dir", tmp_path)
    cli("search", file, "--run", "w", "--generations", "1", *where, "-q")
    run = load_run("w", tmp_path)
    fitness = run.assembled("cpu").weight_trainer().fitness(run.folder.checkpoints)
    windows = np.arange(len(fitness.split("test")))
    parts = [windows[part] for part in _parts(fitness)]
    count = 6  # each window asks for six steps, and of ten parts some would keep too few
    assert len(parts) == count
    assert parts[0][0] == 0
    for earlier, later in pairwise(parts):
        assert earlier[-1] + 6 == later[0]
        assert len(earlier) >= windows.size / count / 2
    document = json.loads(cli("confirm", "w", *where, "--json").stdout)
    assert len(document["rows"][1]["test"]["loss"]["per_seed"]) == count


def test_the_summary_says_that_its_tables_are_of_other_examples(finished: Any) -> None:
    _, _, runs = finished
    said = cli("resume", "whole", "--runs-dir", runs).stdout
    first, between, second = (
        said.index(words)
        for words in ("untouched", "below, all rows are of the same", "gradient ")
    )
    assert first < between < second


def test_positions_lie_in_files_of_single_floats(finished: Any) -> None:
    run, _, _ = finished
    dimension = run.assembled("cpu").space.dimension
    study = optuna.load_study(
        study_name="whole",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(run.folder.journal))
        ),
    )
    if dimension > 256:
        kept = np.load(run.folder.path / "positions" / "1.npy")
        assert kept.shape == (6, dimension)
        assert kept.dtype == np.float32
        assert "position" not in study.trials[0].user_attrs
    else:
        assert len(study.trials[0].user_attrs["position"]) == dimension


def test_the_first_particle_is_the_start(finished: Any) -> None:
    run, _, _ = finished
    parts = run.assembled("cpu")
    fitness = parts.weight_trainer().fitness(run.folder.checkpoints)
    first = run.history.trials[0].candidate.position[len(parts.space.coordinates) :]
    rows = fitness.searched.rows(fitness.searched.vectors(torch.tensor(first)[None]))
    used = fitness.searched.used(fitness.searched.untouched[None])
    torch.testing.assert_close(rows, used, atol=2e-6, rtol=1e-5)


FITNESS = """
import threading

import torch

def share(model, batch):
    with torch.no_grad():
        return (model(batch.inputs).argmax(-1) == batch.targets).float().mean()

def broken(model, batch):
    return float("nan")

def raises(model, batch):
    raise ValueError("no")

seen = []

def picky(model, batch):
    seen.append(len(batch))
    if seen.count(len(batch)) == 3 and len(batch) != 40:  # in the search there are 40
        raise ValueError("one class")
    return share(model, batch)

def of_few(model, batch):
    if len(batch) != 40:  # as in the search
        raise ValueError("too many")
    return share(model, batch)

def greedy(model, batch):
    assert threading.current_thread() is threading.main_thread()
    seen = float(batch.inputs.sum() + torch.rand(()))
    batch.inputs.zero_()
    return seen


def exits(model, batch):
    raise SystemExit(0)
"""


def own(folder: Path, name: str, more: str = "") -> Path:
    (folder / "mine.py").write_text(FITNESS)
    path = folder / "own.toml"
    weights = f'examples = 40\nfitness = "mine:{name}"\n{more}'
    path.write_text(SPACE.format(weights=weights, batch=6))
    return path


def test_a_fitness_of_ones_own_is_maximised_where_the_file_says_so(tmp_path: Path) -> None:
    file = own(tmp_path, "share", "maximize = true")
    where = ("--runs-dir", tmp_path, "--sampler", "random")
    cli("search", file, "--run", "w", *where, "-q")
    run = load_run("w", tmp_path)
    values = [trial.outcome.values[0] for trial in run.history.trials]
    best = run.best()
    assert best is not None
    assert best.outcome.values is not None
    assert best.outcome.values[0] == max(values) > min(values)
    document = json.loads(cli("confirm", "w", "--runs-dir", tmp_path, "--json").stdout)
    assert document["objective"] == "fitness"
    accuracy = document["rows"][1]["test"]["accuracy"]["per_seed"]
    assert document["rows"][1]["test"]["fitness"]["per_seed"] == pytest.approx(accuracy)


def test_a_fitness_without_a_number_fails_its_particle_alone(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["search", str(own(tmp_path, "broken")), "--run", "w", "--runs-dir", str(tmp_path)],
    )
    assert done.exit_code == 3
    assert "mine:broken returned fitness = nan, not a finite number" in done.output
    raising = own(tmp_path, "raises")
    done = CliRunner().invoke(
        app, ["search", str(raising), "--run", "v", "--runs-dir", str(tmp_path)]
    )
    assert done.exit_code == 3, done.output
    assert "mine:raises raised ValueError: no (mine.py, line 14)" in done.output
    done = CliRunner().invoke(app, ["search", str(raising), "--dry-run"])
    assert done.exit_code == 1, done.output
    assert "the first generation fails as a whole: mine:raises raised ValueError" in done.output
    done = CliRunner().invoke(
        app, ["search", str(own(tmp_path, "exits")), "--run", "u", "--runs-dir", str(tmp_path)]
    )
    assert done.exit_code == 3, done.output
    assert "mine:exits raised SystemExit: 0" in done.output


def test_what_a_fitness_does_to_its_batch_or_draws_reaches_no_other_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness_module, "TILE_FLOATS", 1)  # each model a tile of its own
    monkeypatch.setattr(fitness_module, "idle_threads", lambda device: 4)
    where = ("--runs-dir", tmp_path, "--generations", "1", "-q")
    cli("search", own(tmp_path, "greedy"), "--run", "w", *where)
    values = {trial.outcome.values for trial in load_run("w", tmp_path).history.trials}
    assert len(values) == 1
    assert values != {(0.0,)}


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["weights.layers=[3]"], "names layer 3, and the model has only layer 0"),
        (["weights.start=gone.safetensors"], "does not exist; check weights.start"),
        (["weights.coordinates=subspace", "weights.dimensions=9999"], "at most as wide as"),
        (["weights.fitness=nothing:here"], "nothing"),
        (["weights.mode=joint", "search.beta1={}"], "search.beta1 acts while a model trains"),
        (["weights.mode=joint", "search.dropout={}"], "search.dropout acts while a model trains"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, sets: list[str], said: str
) -> None:
    more = [word for one in sets for word in ("--set", one)]
    done = CliRunner().invoke(
        app, ["search", str(space(tmp_path, "full")), "--runs-dir", str(tmp_path / "r"), *more]
    )
    assert done.exit_code == 2, done.output
    assert said in done.output.replace("\n", " ")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("kind", ["full", "subspace", "joint"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_searches_weights_or_is_refused_before_anything_is_written(
    tmp_path: Path, sampler: str, kind: str
) -> None:
    file, runs = space(tmp_path, kind), tmp_path / "runs"
    refusal = None
    if sampler in ("tpe", "gp", "nsga2"):
        refusal = f"sampler {sampler} searches knobs by name, and "
    elif sampler == "pso-consensus":
        refusal = 'takes none; choose pso, or mode = "hybrid"'
    elif sampler == "cmaes" and kind == "joint":
        refusal = "up to 1024 coordinates, and this space has 1026; choose pso, "
    if refusal:
        flags = ("--sampler", sampler, "--runs-dir", str(runs))
        done = CliRunner().invoke(app, ["search", str(file), *flags])
        assert done.exit_code == 2
        assert refusal in done.output
        assert not runs.exists()
        return
    parts = assemble(read_configuration(str(file), (), {"sampler": sampler}))
    history = drive(parts.sampler(), parts.space, lambda params: 1.0, 3)
    assert history.trials[-1].position.shape == (parts.space.dimension,)
    assert len(np.unique(stored_positions(history), axis=0)) > 6


def test_a_dry_run_counts_in_what_comes_before_and_after_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pso_attn.evaluate.weights.rehearsal._step_seconds", lambda *_: 100.0)
    found = {}
    for kind in ("full", "hybrid"):
        dry = ("search", space(tmp_path, kind), "--dry-run")
        found[kind] = json.loads(cli(*dry, "--json").stdout)
        said = cli(*dry).stdout
        assert "training the model first" in said
        assert "the gradient control at the end" in said
        assert "the whole search, about" in said
        assert "at most" not in said
    for one in found.values():
        around = one["first_training_seconds"] + one["control_seconds"]
        searched = 3 * 6 * one["seconds_per_evaluation"]
        assert one["search_seconds"] == pytest.approx(searched + around)
        assert 0 < one["first_training_seconds"] < 100
    full, hybrid = found["full"], found["hybrid"]
    assert hybrid["seconds_per_evaluation"] > 2 * 100 / 6 > full["seconds_per_evaluation"]
    batch = read_configuration(str(space(tmp_path, "full"))).model.get("batch_size", 32)
    for one, each in ((full, 40), (hybrid, 40 + 2 * 3 * batch)):  # passes of an evaluation
        assert one["control_seconds"] // 100 == round(18 * each / (3 * batch))


def test_chunks_in_processes_resume_here_to_the_same_floats(tmp_path: Path) -> None:
    where = ("--sampler", "pso-classic", "--runs-dir", tmp_path, "-q")
    file = space(tmp_path, "hybrid")
    cli("search", file, "--run", "w", *where, "--executor", "processes", "--workers", "2")
    run = load_run("w", tmp_path)
    whole = stored(run)
    lines = run.folder.journal.read_bytes().splitlines(keepends=True)
    run.folder.journal.write_bytes(b"".join(lines[: len(lines) * 2 // 3]))
    assert len(stored(load_run("w", tmp_path))) < len(whole)
    cli("resume", "w", "--runs-dir", tmp_path, "-q", "--executor", "local")
    assert stored(load_run("w", tmp_path)) == whole


def test_a_warm_start_brings_settings_and_says_how_to_start_from_weights(finished: Any) -> None:
    run, file, runs = finished
    done = CliRunner().invoke(
        app, ["search", str(file), "--warm-start", "whole", "--runs-dir", str(runs), "--dry-run"]
    )
    if run.assembled("cpu").configuration.search:
        assert done.exit_code == 0, done.output
    else:
        assert done.exit_code == 2, done.output
        assert "start from weights by" in done.output.replace("\n", " ")


def test_soups_are_chosen_among_models_as_they_are_used(tmp_path: Path) -> None:
    where = ("--runs-dir", tmp_path, "-q")
    cli("search", space(tmp_path, "full"), "--run", "source", *where)
    kept = tmp_path / "source" / "checkpoints"
    first = load_file(kept / "start.safetensors")
    rng = torch.Generator().manual_seed(1)
    files = []
    for number in range(3):  # one model, disturbed so that rounding changes which is best
        files.append(str(tmp_path / f"{number}.safetensors"))
        noise = {n: 0.2 * torch.randn(p.shape, generator=rng) for n, p in first.items()}
        save_file({name: part + noise[name] for name, part in first.items()}, files[-1])
    weights = f'mode = "checkpoints"\nstart = {json.dumps(files)}\nquantise = "ternary"'
    path = tmp_path / "soup.toml"
    path.write_text(SPACE.format(weights=weights, batch=6))
    cli("search", path, "--run", "soup", *where)
    run = load_run("soup", tmp_path)
    control = json.loads((run.folder.path / "control.json").read_text())
    fitness = run.assembled("cpu").weight_trainer().fitness(run.folder.checkpoints)
    rows = fitness.searched.used(fitness.searched.checkpoints)
    settings = run.best().candidate.settings
    losses = [score.value for score in fitness.score_rows([settings] * 3, rows)]
    assert control["best single model"]["fitness"] == pytest.approx(min(losses))
    assert control["greedy soup"]["fitness"] <= control["best single model"]["fitness"] + 1e-6
    searched = fitness.searched
    mean = searched.used(searched.checkpoints.mean(0, keepdim=True))
    (uniform,) = fitness.score_rows([settings], mean)
    assert control["uniform soup"]["fitness"] == pytest.approx(uniform.value)
    begun = [trial.outcome.values[0] for trial in run.history.trials[:3]]
    assert begun == pytest.approx(losses, abs=2e-5)  # each is a first particle
    own, between = np.split(np.stack([t.position for t in run.history.trials[:6]]), 2)
    assert (between >= own.min(0) - 1e-6).all()  # further ones lie between two of them
    assert (between <= own.max(0) + 1e-6).all()


def descending(folder: Path, monkeypatch: pytest.MonkeyPatch, *sets: str) -> list[tuple[int, Any]]:
    """Run a hybrid search; return of each descent how many particles it had and its settings."""
    made = []

    class Seen(Descent):
        def __init__(self, fitness: Any, settings: Any, *rest: Any) -> None:
            made.append((len(settings), settings[0]))
            super().__init__(fitness, settings, *rest)

    monkeypatch.setattr(descent_module, "Descent", Seen)
    more = [word for one in sets for word in ("--set", one)]
    cli("search", space(folder, "hybrid"), "--run", "w", "--runs-dir", folder, "-q", *more)
    return made


def test_a_hybrids_rate_falls_in_its_last_generation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = descending(tmp_path, monkeypatch, "model.schedule=linear")
    assert [count for count, _ in made] == [6, 6, 6]
    assert [one["schedule"] for _, one in made] == ["constant", "constant", "linear"]
    cli("resume", "w", "--runs-dir", tmp_path, "--generations", "4", "-q")
    assert made[-1][1]["schedule"] == "linear"  # the budget that it began with is spent


def test_a_hybrid_moves_by_consensus_and_each_particle_begins_with_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descending(tmp_path, monkeypatch)
    run = load_run("w", tmp_path)
    first, second, _ = run.history.generations
    begun = np.stack([trial.candidate.position for trial in first])
    assert (begun == begun[0]).all()
    ended = np.stack([trial.position for trial in first])
    assert len({row.tobytes() for row in ended}) == 6  # data orders are their own
    for trial in second:
        np.testing.assert_allclose(trial.candidate.position, ended.mean(0), atol=1e-7)


def test_a_particle_whose_steps_diverge_stays_where_it_began(finished: Any) -> None:
    run, _, _ = finished
    fitness = run.assembled("cpu").weight_trainer().fitness(run.folder.checkpoints)
    if not fitness.searched.table.gradient_steps:
        return
    settings = run.best().candidate.settings
    begun = np.full((2, fitness.searched.coordinates.count), 0.5, dtype=np.float32)
    assert not np.array_equal(descended(fitness, [settings] * 2, begun, [1, 2], True), begun)
    train = fitness.split("train")
    kept = train.inputs.clone()
    train.inputs[:] = float("nan")
    found = descended(fitness, [settings] * 2, begun, [1, 2], True)
    train.inputs[:] = kept
    np.testing.assert_allclose(found, begun, atol=1e-7)


def test_a_generation_that_memory_does_not_hold_is_scored_in_chunks_to_the_same_floats(
    finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file, runs = finished
    one = run.history.trials[0].outcome.metrics["memory_bytes"]
    monkeypatch.setattr(
        "pso_attn.evaluate.executors.local.memory_budget_bytes", lambda device: round(3.5 * one)
    )
    where = ("--sampler", "pso-classic", "--runs-dir", runs, "-q")
    cli("search", file, "--run", "chunked", *where, "--generations", "2")
    chunked = load_run("chunked", runs)
    study = optuna.load_study(
        study_name="chunked",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(chunked.folder.journal))
        ),
    )
    assert len(study.user_attrs["generation:0"]["chunks"]) > 1
    if run.assembled("cpu").weights.start.table.gradient_steps:
        return  # its rate falls in the last generation, and this search has another last one
    assert stored(chunked) == stored(run)[: len(stored(chunked))]


def test_scores_in_bf16_are_near_those_in_float32(finished: Any) -> None:
    run, _, _ = finished
    parts = run.assembled("cpu")
    fitness, trial = parts.weight_trainer().fitness(run.folder.checkpoints), run.best()
    position = torch.from_numpy(trial.position[None, len(parts.space.coordinates) :]).float()
    settings = trial.candidate.settings
    single, half = (
        fitness.score([{**settings, **more}], position, trial.candidate.seeds)[0].value
        for more in ({}, {"precision": "bf16"})
    )
    assert single == pytest.approx(trial.outcome.values[0], abs=1e-6)
    assert half != single
    assert half == pytest.approx(single, rel=0.02)


def test_gradient_steps_learn_as_the_settings_say(finished: Any) -> None:
    run, _, _ = finished
    parts = run.assembled("cpu")
    fitness = parts.weight_trainer().fitness(run.folder.checkpoints)
    settings, begin = (
        dict(run.best().candidate.settings),
        fitness.searched.coordinates.origin[None],
    )
    ended = []
    for more in ({}, {"label_smoothing": 0.3}, {"precision": "bf16"}):
        descent = Descent(fitness, [{**settings, **more}], begin, [3], 3)
        descent.advance(3)
        ended.append(descent.vectors)
    assert not torch.equal(ended[0], ended[1])
    assert not torch.equal(ended[0], ended[2])


def test_a_constraint_beside_weights_alone_is_met_or_refused(tmp_path: Path) -> None:
    file = space(tmp_path, "full")
    where = ("--runs-dir", str(tmp_path), "-q", "--generations", "1")
    sets = [f'constraints.expressions=["parameters <= {most}"]' for most in (10**6, 10)]
    met = CliRunner().invoke(app, ["search", str(file), *where, "--run", "a", "--set", sets[0]])
    assert met.exit_code == 0, met.output
    not_met = CliRunner().invoke(app, ["search", str(file), *where, "--set", sets[1]])
    assert (not_met.exit_code, "satisfies" in not_met.stderr) == (2, True), not_met.output


def test_a_fitness_that_fails_on_a_part_of_the_test_split_fails_there_alone(
    tmp_path: Path,
) -> None:
    file, where = own(tmp_path, "picky"), ("--runs-dir", tmp_path)
    cli("search", file, "--run", "w", "--generations", "1", *where, "-q")
    document = json.loads(cli("confirm", "w", *where, "--json").stdout)
    assert load_run("w", tmp_path).store.get_attribute("test_uses")[0]["seeds"] == 0
    row = document["rows"][0]
    values = row["test"]["fitness"]["per_seed"]
    assert (values.count(None), row["failed"], len(values)) == (1, 1, 10)
    assert "mine:picky raised ValueError: one class" in row["error"]
    assert row["test"]["fitness"]["mean"] is not None, "the whole split has a value"


def test_what_is_said_of_trainings_is_refused_where_weights_are_confirmed(tmp_path: Path) -> None:
    file, where = space(tmp_path, "full"), ("--runs-dir", tmp_path)
    cli("search", file, "--run", "w", "--generations", "1", *where, "-q")
    for key, value in (("seeds", 5), ("executor", "processes"), ("workers", 2)):
        command = ["confirm", "w", f"--{key}", str(value), *map(str, where)]
        refused = CliRunner().invoke(app, command)
        assert refused.exit_code == 2
        assert f'confirm: "{key}" is for trainings, and run w searches weights' in refused.stderr
    assert load_run("w", tmp_path).store.get_attribute("test_uses") is None


def test_what_is_told_of_the_test_split_is_of_all_of_it(finished: Any) -> None:
    run, _, runs = finished
    document = json.loads(cli("confirm", "whole", "--runs-dir", runs, "--json").stdout)
    parts = run.assembled("cpu")
    fitness = parts.weight_trainer().fitness(run.folder.checkpoints)
    best = run.best()
    row = row_of(parts, fitness, best)
    (whole,) = fitness.score_part([best.candidate.settings], row, "test", slice(None))
    told = {name: value["mean"] for name, value in document["rows"][1]["test"].items()}
    for name, value in told.items():
        assert value == pytest.approx(whole.metrics[name], abs=2e-5)


def test_a_gpu_scores_as_many_at_once_as_its_memory_holds(
    finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, _ = finished
    fitness = run.assembled("cpu").weight_trainer().fitness(run.folder.checkpoints)
    seen = fitness.seen
    models = [read_model(run.best().candidate.settings, fitness.task.info)] * 10_000
    assert fitness._tile_count(models, seen) > 100
    monkeypatch.setattr(fitness, "device", torch.device("cuda"))
    monkeypatch.setattr(fitness_module, "memory_budget_bytes", lambda device: 80 * 2**30)
    assert fitness._tile_count(models, seen) == 1


def test_a_search_ends_where_its_fitness_fails_on_every_control(tmp_path: Path) -> None:
    where = ("--generations", "1", "--runs-dir", tmp_path)
    cli("search", own(tmp_path, "of_few"), "--run", "w", *where)
    control = json.loads((tmp_path / "w" / "control.json").read_text())
    assert isnan(control["gradient"]["fitness"])
    assert control["gradient"]["validation"]["accuracy"] > 0


def test_a_score_that_is_an_error_is_the_worst() -> None:
    objective = Objective("fitness", "maximize")
    failed = Score(nan, {"loss": 0.1}, "mine:f raised ValueError: no")
    assert _loss(objective, failed) == inf
    assert _loss(objective, Score(0.5)) == -0.5
