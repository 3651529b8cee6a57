"""From a search to a model: train what it found at full length, and hand it on."""

import csv
import io
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from pso_attn.cli.guard import guarded, interruptible, say, this_command
from pso_attn.cli.options import RUNS, Device, Json, NoImport, Precision, Quiet, Run, RunsDir
from pso_attn.cli.output import emit, table
from pso_attn.errors import ConfigurationError, StorageError


@guarded
def train(
    run: Run,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps; default 10 times the search's.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Train these, TOML or JSON as `best --json` prints."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Stop after N of 40 scorings without a better one; default 10.",
        ),
    ] = None,
    device: Device = None,
    precision: Precision = None,
    runs_dir: RunsDir = RUNS,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train RUN's winner at full length; the same command goes on if interrupted.

    Ten times the search's steps, since a search trains only as long as ranking takes. The model
    kept is the one of the best validation score; the test split is not looked at. Models of other
    settings or steps stay beside it, and the same command makes one the last again.
    """
    from pso_attn.cli.progress import steps_shown
    from pso_attn.configured_space import OWN_KNOBS
    from pso_attn.full_training import train_run
    from pso_attn.runs import load_run
    from pso_attn.settings_file import read_settings_file

    loaded = load_run(run, runs_dir)
    given = None if settings is None else read_settings_file(settings, loaded.started)
    with interruptible(this_command), steps_shown("training", quiet) as progress:
        document = train_run(
            loaded,
            steps,
            patience,
            given,
            device,
            not no_import,
            progress,
            str(settings or loaded.name),
            precision,
        )
    emit(
        document,
        as_json=as_json,
        quiet=quiet,
        lines=_trained(
            document, loaded.again("export"), not OWN_KNOBS & loaded.started.own_code.keys()
        ),
        essence=[str(document["metrics"][document["objective"]])],
    )


@guarded
def export(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder, or an empty one.")],
    runs_dir: RunsDir = RUNS,
    no_import: NoImport = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write RUN's model to DIR: a plain nn.Module that needs nothing of pso-attn.

    It is the model that `train` made last, else the best one that the search trained. `python
    DIR/load.py` rebuilds it and compares its loss on a stored sample with the search's own.
    """
    from pso_attn.export import export_run
    from pso_attn.report.words import count
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    exported = export_run(loaded, out, not no_import)
    of_trial = "given settings" if exported.trial is None else f"trial {exported.trial}"
    made = {"train": "trained at full length", "search": "as the search trained it"}
    check = shlex.join(["python", str(out / "load.py")])
    newer = []
    if exported.newer is not None:
        train_it = f"`{loaded.again('train')}` trains that one, to be exported anew"
        newer.append(f"newer:    trial {exported.newer} is the search's best by now; {train_it}")
    emit(
        {
            "run": loaded.name,
            "folder": str(exported.folder),
            "source": exported.source,
            "trial": exported.trial,
            "newer": exported.newer,
            "settings": dict(exported.settings),
            "parameters": exported.parameters,
            "expected": exported.expected,
            "files": list(exported.files),
        },
        as_json=as_json,
        quiet=quiet,
        lines=[
            f"exported: {of_trial}, {made[exported.source]}; "
            f"{count(exported.parameters, 'parameter')}",
            f"folder:   {out}",
            f"check:    {check}",
            *newer,
        ],
        essence=[str(exported.folder)],
    )


@guarded
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `export` wrote.")],
    data: Annotated[
        str, typer.Argument(metavar="FILE", help="New rows, like the training file's.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them there, as CSV.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what the model in DIR makes of the rows in FILE: CSV, one line a row.

    Where FILE has the target too, the metrics are said on stderr. A model that forecasts says the
    steps after the end of each series in FILE, one line each.
    """
    from pso_attn.prediction import predict as predict_rows
    from pso_attn.report.words import count, number
    from pso_attn.store.atomic import write_atomically

    if out is not None and out.exists():
        raise ConfigurationError(f"--out {out} exists; choose a new name")
    found = predict_rows(folder, data)
    if found.metrics is not None and not quiet:
        shown = ", ".join(f"{name} {number(value)}" for name, value in found.metrics.items())
        say(f"{data} has {found.target} too: {shown}")
    if not quiet:
        for note in found.notes:
            say(f"{data}: {note}")
    lines = _as_csv(found.predictions)
    if out is not None:
        try:
            write_atomically(out, ("\n".join(lines) + "\n").encode())
        except OSError as error:
            raise StorageError(f"{out} cannot be written: {error.strerror}") from error
    emit(
        {
            "task": found.task,
            "target": found.target,
            "rows": len(found.predictions),
            "predictions": found.predictions,
            "metrics": found.metrics,
        },
        as_json=as_json,
        quiet=quiet,
        lines=lines if out is None else [f"{count(len(found.predictions), 'row')}: {out}"],
        essence=[str(row["prediction"]) for row in found.predictions],
    )


def _as_csv(predictions: list[dict[str, Any]]) -> list[str]:
    """Return a header and a line for each prediction; probabilities are columns of their own."""
    names = [name for name in predictions[0] if name != "probabilities"]
    classes = list(predictions[0].get("probabilities", {}))
    rows = [[*names, *(f"p({name})" for name in classes)]]
    for row in predictions:
        shares = (f"{row['probabilities'][name]:.6f}" for name in classes)
        rows.append([*(row[name] for name in names), *shares])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().splitlines()


def _trained(document: dict[str, Any], export_command: str, can_export: bool) -> list[Any]:
    """Return what the training reached beside the search's best, and what to do next."""
    from pso_attn.report.words import number

    search, trial = document["search"], document["trial"]
    shown = "given settings" if trial is None else f"trial {trial}"
    columns = ["validation", f"{shown}, step {document['best_step']}"]
    if search is not None:
        columns.append(f"search: trial {search['trial']}, step {search['steps']}")
    rows = [
        (name, number(value), *([number(search["metrics"][name])] if search else []))
        for name, value in document["metrics"].items()
    ]
    return [
        table(columns, rows, right=columns[1:]),
        "",
        f"stopped:  {document['stopped']} ({document['steps_done']} of {document['steps']})",
        f"model:    {document['checkpoint'] or 'none: the objective kept no files'}",
        *([f"export:   {export_command} --out DIR"] if can_export else []),
    ]
