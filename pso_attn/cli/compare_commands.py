"""Hold samplers against each other."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pso_attn.cli.guard import guarded, interruptible, say, this_command
from pso_attn.cli.options import (
    RUNS,
    Batch,
    ChunkTimeout,
    Device,
    Executor,
    Json,
    NoImport,
    Particles,
    Quiet,
    RayAddress,
    RunsDir,
    Sets,
    SpaceFile,
    Workers,
    execution_flags,
)
from pso_attn.cli.output import emit, table

if TYPE_CHECKING:  # what these load would slow down --help
    from pso_attn.comparing import Comparison
    from pso_attn.driving import DrivenRun
    from pso_attn.report.contest import Contest

NOTHING_COMPLETED = 3


@guarded
def compare(
    space: SpaceFile,
    samplers: Annotated[
        str,
        typer.Option(metavar="A,B,…", help="By name or module:Class; the first is the reference."),
    ],
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Searches for each sampler, paired by seed.")
    ] = 6,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder of its runs; default SPACE-compare.")
    ] = None,
    particles: Particles = None,
    batch: Batch = None,
    generations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Batches to propose in each search.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The first seed; the others follow it.")
    ] = None,
    device: Device = None,
    executor: Executor = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    chunk_timeout: ChunkTimeout = None,
    runs_dir: RunsDir = RUNS,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the page goes; default its report/.")
    ] = None,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search SPACE with several samplers over paired seeds, and say which reached more.

    Every search is an ordinary run with the same data, space and budget. The same command goes
    on where it was interrupted; more samplers or seeds join those that are finished.
    """
    flags = {
        "particles": particles,
        "batch": batch,
        "generations": generations,
        "seed": seed,
        "device": device,
        **execution_flags(executor, workers, ray_address, chunk_timeout),
    }
    named = [name.strip() for name in samplers.split(",") if name.strip()]
    with interruptible(this_command):
        from pso_attn.comparing import plan_comparison, run_comparison
        from pso_attn.config import read_configuration

        configuration = read_configuration(space, sets or (), flags)
        planned = plan_comparison(configuration, named, seeds, runs_dir, run, not no_import)
        said = list[str]()
        _say_notes(planned.notes, said, quiet)
        contest = run_comparison(
            planned, lambda held: _shown(planned, held, said, quiet), this_command()
        )
        page = _written(contest, planned.folder / "report" if out is None else out)
    document = _document(contest, planned.folder, page)
    emit(
        document,
        as_json=as_json,
        quiet=quiet,
        lines=_lines(contest, page),
        essence=[
            f"{one['sampler']} {one['median'] if isfinite(one['median']) else 'none'}"
            for one in document["samplers"]
        ],
    )
    if all(one["best"] is None for row in document["samplers"] for one in row["searches"]):
        raise typer.Exit(NOTHING_COMPLETED)


def _written(contest: "Contest", folder: Path) -> Path:
    """Write the page into a folder; StorageError where that cannot be written."""
    from pso_attn.errors import StorageError
    from pso_attn.report.contest_page import build_contest

    try:
        return build_contest(contest, folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}") from error


def _say_notes(notes: Sequence[str], said: list[str], quiet: bool) -> None:
    """Say each note once; said: those that were said before."""
    for note in () if quiet else notes:
        if note not in said:
            said.append(note)
            say(f"note: {note}")


@contextmanager
def _shown(
    planned: "Comparison", driven: "DrivenRun", said: list[str], quiet: bool
) -> Iterator[Mapping[str, Any]]:
    """Show a search's progress, and yield what tells of it; said: the notes of searches before."""
    from pso_attn.cli.progress import SearchProgress

    _say_notes(driven.executor.notes, said, quiet)
    configuration = driven.parts.configuration
    cell = planned.seeds.index(configuration.seed) * len(planned.samplers)
    cell += planned.samplers.index(configuration.sampler) + 1
    if not quiet:
        say(f"{cell}/{planned.size}: {configuration.sampler}, seed {configuration.seed}")
    progress = SearchProgress(configuration.budget, driven.history(), inf, quiet)
    with progress.shown():
        yield {"on_progress": progress.training, "observer": progress.observe}


def _lines(contest: "Contest", page: Path) -> list[Any]:
    import textwrap

    from pso_attn.report.contest import standings, verdict
    from pso_attn.report.contest_page import COLUMNS, reading, row

    found = standings(contest)
    rows = [row(contest, standing) for standing in found]
    said = [sentence for sentence in verdict(contest, found) if sentence]
    return [
        table(COLUMNS, rows, right=COLUMNS[1:]),
        "",
        *textwrap.wrap(reading(contest), 80),
        "",
        *(line for sentence in said for line in textwrap.wrap(sentence, 80)),
        f"report:   {page}",
    ]


def _document(contest: "Contest", folder: Path, page: Path) -> dict[str, Any]:
    from pso_attn.report.contest import standings

    first, budget = contest.samplers[0], contest.configuration["budget"]
    rows = []
    for standing in standings(contest):
        duel = standing.duel
        rows.append(
            {
                "sampler": standing.sampler,
                "median": standing.median,
                "quartiles": sorted((standing.better, standing.worse)),
                "mean_rank": standing.mean_rank,
                "seconds_proposing": standing.seconds,
                "against": None
                if duel is None
                else {
                    "sampler": first,
                    "wins": duel.wins,
                    "ties": duel.ties,
                    "losses": duel.losses,
                    "p": duel.p,
                },
                "searches": [
                    _search(contest, cell, float(losses[-1]))
                    for cell, losses in zip(
                        contest.of(standing.sampler),
                        contest.losses(standing.sampler),
                        strict=True,
                    )
                ],
            }
        )
    return {
        "comparison": contest.name,
        "folder": str(folder),
        "index": str(page),
        "objective": contest.objective.name,
        "direction": contest.objective.direction,
        "seeds": list(contest.seeds),
        "trainings": contest.trainings,
        "budget": budget,
        "samplers": rows,
    }


def _search(contest: "Contest", cell: Any, loss: float) -> dict[str, Any]:
    """Return one search; its best is the objective itself, None where nothing completed."""
    return {
        "run": cell.run,
        "seed": cell.seed,
        "best": contest.objective.loss(loss) if loss < inf else None,
        "seconds_proposing": cell.seconds,
    }
