"""Run a search, and go on with one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pso_attn.cli.guard import guarded, interruptible, say, this_command
from pso_attn.cli.options import (
    RUNS,
    Batch,
    BreakLock,
    ChunkTimeout,
    Device,
    Executor,
    Json,
    NoImport,
    Particles,
    Precision,
    Quiet,
    RayAddress,
    RunsDir,
    Sets,
    SpaceFile,
    Timeout,
    Workers,
    execution_flags,
)
from pso_attn.cli.output import emit
from pso_attn.errors import is_interrupt

if TYPE_CHECKING:  # what these load would slow down --help
    from pso_attn.config import Configuration
    from pso_attn.driving import DrivenRun
    from pso_attn.parts import Parts

NOTHING_COMPLETED = 3


@guarded
def search(
    space: SpaceFile,
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run's name; default SPACE, or SPACE-2 …"),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="See `pso-attn samplers`; or module:Class.")
    ] = None,
    particles: Particles = None,
    batch: Batch = None,
    generations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Batches to propose.")
    ] = None,
    timeout: Timeout = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Decides every random draw.")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    executor: Executor = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    chunk_timeout: ChunkTimeout = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A database in place of the run's journal.")
    ] = None,
    runs_dir: RunsDir = RUNS,
    warm_start: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Try its best settings early: a run, or URL#STUDY."),
    ] = None,
    sets: Sets = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train the defaults briefly and predict the time.")
    ] = False,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search SPACE for the best settings."""
    from pso_attn.config import read_configuration
    from pso_attn.driving import new_name, prepare, start_run

    flags = {
        "sampler": sampler,
        "particles": particles,
        "batch": batch,
        "generations": generations,
        "seed": seed,
        "device": device,
        "storage": storage,
        "precision": precision,
        **execution_flags(executor, workers, ray_address, chunk_timeout),
    }
    configuration = read_configuration(space, sets or (), flags)
    if warm_start is not None:
        configuration = _warmed(configuration, warm_start, runs_dir, quiet)
    if dry_run:
        parts = prepare(configuration, not no_import)
        _say_notes(parts, quiet)
        _say_data(parts, quiet)
        _rehearse(parts, as_json, quiet)
        return
    began_s = time.monotonic()
    name = new_name(configuration, run, runs_dir)
    with (
        interruptible(lambda: _command_if_begun(runs_dir / name)),
        start_run(configuration, run, runs_dir, allow_import=not no_import) as driven,
    ):
        _say_notes(driven.parts, quiet)
        _say_data(driven.parts, quiet)
        deadline_s = _deadline(began_s, timeout)
        _drive(driven, deadline_s, as_json, quiet, lambda: driven.again("resume"))


@guarded
def resume(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's name, its folder, or URL#NAME.")
    ],
    generations: Annotated[
        int | None, typer.Option(min=1, metavar="TOTAL", help="Batches in all.")
    ] = None,
    timeout: Timeout = None,
    device: Device = None,
    executor: Executor = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    chunk_timeout: ChunkTimeout = None,
    break_lock: BreakLock = False,
    runs_dir: RunsDir = RUNS,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on with RUN, as if it had not been interrupted."""
    began_s = time.monotonic()
    with interruptible(this_command):
        from pso_attn.driving import resume_run

        with resume_run(
            run,
            runs_dir,
            generations=generations,
            device=device,
            execution=execution_flags(executor, workers, ray_address, chunk_timeout),
            break_lock=break_lock,
            allow_import=not no_import,
        ) as driven:
            if driven.is_finished and not as_json and not quiet:
                say(
                    f"run {driven.name} has finished its {driven.generations} generations; "
                    f"{driven.again('resume')} --generations {driven.generations * 2} goes on"
                )
            by_name = {run: driven.name} if "://" in run else {}  # a URL may hold a password
            deadline_s = _deadline(began_s, timeout)
            _drive(driven, deadline_s, as_json, quiet, lambda: this_command(by_name))


def _warmed(
    configuration: "Configuration", reference: str, runs_dir: Path, quiet: bool
) -> "Configuration":
    """Return the configuration with starts from elsewhere, and say what was left out."""
    from pso_attn.warm_start import warm_started

    warmed = warm_started(configuration, reference, runs_dir)
    for note in () if quiet else warmed.notes:
        say(f"note: {note}")
    return warmed.configuration


def _drive(
    driven: "DrivenRun", deadline_s: float, as_json: bool, quiet: bool, again: Callable[[], str]
) -> None:
    """Search until done, print what was found, and exit with the contract's code.

    again: the command that goes on, where something ends it.
    """
    from pso_attn.cli.progress import SearchProgress, steps_shown
    from pso_attn.cli.summary import summary

    budget = driven.parts.configuration.budget
    for note in () if quiet else driven.executor.notes:
        say(f"note: {note}")
    with interruptible(again):
        progress = SearchProgress(budget, driven.history(), deadline_s, quiet)
        with _resumable(again), progress.shown():
            driven.run(deadline_s, progress.training, progress.observe, progress.planned)
        with _resumable(again), steps_shown("gradient control", quiet) as shown:
            control = driven.hold_against(deadline_s, shown)
        document, lines = summary(driven, control)
        if not driven.is_finished and time.monotonic() >= deadline_s and not quiet:
            done = f"{len(driven.history())} of {driven.generations}"
            say(f"note: the time was over after {done} generations")
        lacks_control = driven.parts.weights is not None and driven.is_finished and control is None
        if lacks_control and document["best"] is not None and not quiet:
            made_by = driven.again("resume")
            say(f"note: the time was over before the gradient control; make it by {made_by}")
        emit(document, as_json=as_json, quiet=quiet, lines=lines, essence=[driven.name])
    if driven.is_finished and document["best"] is None:
        raise typer.Exit(NOTHING_COMPLETED)


@contextmanager
def _resumable(again: Callable[[], str]) -> Iterator[None]:
    """Print the command that goes on where an error ends the block."""
    try:
        yield
    except Exception as error:
        if not is_interrupt(error):
            say(f"stopped; go on with: {again()}")
        raise


def _command_if_begun(path: Path) -> str | None:
    """Return the command that goes on with the run at that path, None where there is none."""
    from pso_attn.store import RunFolder, is_run

    return RunFolder(path).again("resume") if is_run(path) else None


def _say_data(parts: "Parts", quiet: bool) -> None:
    """Say what was found in the data before anything trains on it."""
    from pso_attn.cli.summary import data_lines

    described = {} if parts.task is None else parts.task.describe()  # an objective sees its own
    for line in data_lines(described) if described and not quiet else ():
        say(line)


def _say_notes(parts: "Parts", quiet: bool) -> None:
    """Say what a person should hear of the space before it is searched."""
    for note in () if quiet else parts.space.notes:
        say(f"note: {note}")


def _rehearse(parts: "Parts", as_json: bool, quiet: bool) -> None:
    from pso_attn.cli.summary import rehearsal

    document, lines = rehearsal(parts)
    essence = [f"{document['search_seconds']:.0f}"]
    emit(document, as_json=as_json, quiet=quiet, lines=lines, essence=essence)


def _deadline(began_s: float, timeout: float | None) -> float:
    return float("inf") if timeout is None else began_s + timeout
