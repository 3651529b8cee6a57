"""Whether to believe a run: its report, its confirmation, its verification."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pso_attn.cli.guard import guarded, interruptible, this_command
from pso_attn.cli.options import (
    RUNS,
    ChunkTimeout,
    Device,
    Executor,
    Json,
    NoImport,
    Quiet,
    RayAddress,
    Run,
    RunsDir,
    Workers,
    execution_flags,
)
from pso_attn.cli.output import emit, table
from pso_attn.errors import ConfigurationError

if TYPE_CHECKING:  # pandas and matplotlib would slow down --help
    from pso_attn.report import ReportInput


@guarded
def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="By name or folder; or an Optuna study, URL#NAME."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to write; default RUN/report, of a study NAME-report."
        ),
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write each RUN's report: index.html, pictures, trials.csv.

    Several RUNs get a page that compares them as well. A study of anyone's is only read; URL#NAME,
    or FILE#NAME of a journal.
    """
    from pso_attn.report import build_report, plain_summary
    from pso_attn.report.places import free_folder, mark

    loaded = [_read(run, runs_dir) for run in runs]
    sources = [shown.source for shown, _, _ in loaded]
    for place, source in enumerate(sources):
        if source in sources[:place]:
            raise ConfigurationError(f"report names {runs[place]} twice; name each RUN once")
    if out is not None:
        loaded = [(shown, out / name if len(runs) > 1 else out, name) for shown, _, name in loaded]
    pages: list[Path] = []
    lines: list[Any] = []
    folders: list[Path] = []
    for shown, wanted, _ in loaded:
        stays = shown.is_foreign and out is None  # where another study of its name may have been
        folder = free_folder(wanted, folders, mark([shown.source]) if stays else None)
        folders.append(folder)
        with _writing(folder):
            pages.append(build_report(shown, folder))
        lines += [*plain_summary(shown), f"report:   {pages[-1]}", ""]
    written = [
        {"run": shown.name, "index": str(page)}
        for (shown, _, _), page in zip(loaded, pages, strict=True)
    ]
    together: dict[str, Any] | None = None
    if len(runs) > 1:
        names = "-".join(name for _, _, name in loaded)
        usual = free_folder(runs_dir / f"{names[:100]}-report", folders, mark(sources))
        together, more = _together([shown for shown, _, _ in loaded], pages, out or usual)
        pages.append(Path(together["index"]))
        lines += more
    emit(
        {"reports": written, "together": together},
        as_json=as_json,
        quiet=quiet,
        lines=lines if together else lines[:-1],
        essence=[str(page) for page in pages],
    )


def _together(
    runs: list["ReportInput"], pages: list[Path], folder: Path
) -> tuple[dict[str, Any], list[Any]]:
    """Write the page that compares the runs; return it as a document and as lines."""
    from pso_attn.report.together import documents, entries, sentences, summary_rows
    from pso_attn.report.together_page import build_together

    found = entries(runs)
    with _writing(folder):
        page = build_together(found, pages, folder)
    columns, rows = summary_rows(found, briefly=True)
    said = sentences(found)
    lines = [table(columns, rows, right=columns[1:-1]), ""]
    lines += [line for sentence in said for line in textwrap.wrap(sentence, 80)]
    lines.append(f"together: {page}")
    return {"index": str(page), "runs": documents(found), "notes": said}, lines


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise StorageError where the block cannot write into a folder."""
    from pso_attn.errors import StorageError

    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}") from error


def _read(run: str, runs_dir: Path) -> tuple["ReportInput", Path, str]:
    """Return a run or a study as a report's input, its usual folder, and a name."""
    from pso_attn.report.foreign import folder_name, foreign_input
    from pso_attn.runs import load_run
    from pso_attn.store.foreign import foreign_source, is_foreign, open_foreign

    if is_foreign(run):
        shown = foreign_input(open_foreign(run), foreign_source(run))
        name = folder_name(shown.name)
        return shown, runs_dir / f"{name}-report", name
    loaded = load_run(run, runs_dir)
    return loaded.report_input(), loaded.folder.report, loaded.name


@guarded
def confirm(
    run: Run,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="How many finalists, at most.")] = 3,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Fresh seeds each; default 5.")
    ] = None,
    device: Device = None,
    executor: Executor = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    chunk_timeout: ChunkTimeout = None,
    runs_dir: RunsDir = RUNS,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score RUN's finalists and the defaults on fresh seeds and the test split.

    They are trained where the search's chunks were, unless flags say otherwise.
    """
    from pso_attn.cli.progress import steps_shown
    from pso_attn.confirm import confirm_run
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    unit = "steps" if loaded.started.objective is None else "trainings"
    where = execution_flags(executor, workers, ray_address, chunk_timeout)
    with interruptible(this_command), steps_shown("confirming", quiet, unit) as progress:
        document = confirm_run(loaded, top, seeds, device, not no_import, progress, where)
    emit(
        document,
        as_json=as_json,
        quiet=quiet,
        lines=_confirmation(document, loaded.again("report")),
        essence=[document["verdict"]],
    )


@guarded
def verify(
    run: Run,
    device: Device = None,
    runs_dir: RunsDir = RUNS,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Propose every generation of RUN again, and say whether it matches what is stored.

    Trainings are not repeated.
    """
    from dataclasses import asdict

    from pso_attn.report.words import count
    from pso_attn.runs import load_run
    from pso_attn.verify import verify_run

    loaded = load_run(run, runs_dir)
    history = loaded.history
    difference = verify_run(loaded, history, device, not no_import)
    line = (
        f"matches: the proposals of {count(len(history), 'generation')}, "
        f"{count(len(history.trials), 'trial')}, float for float"
        if difference is None
        else f"differs: {difference.sentence()}"
    )
    emit(
        {
            "run": loaded.name,
            "matches": difference is None,
            "generations": len(history),
            "difference": None if difference is None else asdict(difference),
        },
        as_json=as_json,
        quiet=quiet,
        lines=[line],
        essence=["matches" if difference is None else "differs"],
    )
    if difference is not None:
        raise typer.Exit(1)


def _confirmation(document: dict[str, Any], report_command: str) -> list[Any]:
    from pso_attn.report.words import count, number, plus_minus

    metric = document["objective"]
    others = [name for name in document["rows"][0]["test"] if name != metric]
    rows = []
    for row in document["rows"]:
        is_default = row["role"] == "defaults"
        first = "defaults" if document["seeds"] else "untouched"
        who = first if is_default else f"{row['rank']}: trial {row['trial']}"
        shown = [
            plus_minus(row["test"][name]["mean"], row["test"][name]["std"])
            for name in (metric, *others)
        ]
        rows.append((who, number(row["search_loss"]), *shown))
    for name, scores in document["baselines"].items():
        rows.append((name, "", *(number(scores.get(one)) for one in (metric, *others))))
    names = [name.replace("_", " ") for name in (metric, *others)]
    columns = ("", f"search {names[0]}", *(f"test {name}" for name in names))
    gain = document["gain"]
    lines = [table(columns, rows, right=columns[1:]), ""]
    if gain["mean"] is not None:
        spread = plus_minus(gain["mean"], gain["std"])
        over = count(len(gain["per_seed"]), gain["unit"])
        noise = f" (seed noise {number(gain['seed_noise'])})" if document["seeds"] else ""
        lines.append(f"gain in test {metric}: {spread} over {over}{noise}")
    said = textwrap.wrap(document["verdict"], 80)
    return [*lines, *said, f"report:   {report_command}"]
