"""From a search to a model: train what it found at full length, and hand it on."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pso_attn.cli.guard import INTERRUPTED, guarded, say
from pso_attn.cli.options import RUNS, Device, Json, NoImport, Precision, Quiet, Run, RunsDir
from pso_attn.cli.output import emit, table


@guarded
def train(
    run: Run,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps; default 10 times the search's.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Train these, TOML or JSON, in place of the winner."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Scorings, of 40, without a better one; default 10."
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
    kept is the one of the best validation score; the test split is not looked at.
    """
    from pso_attn.assembly import OWN_KNOBS
    from pso_attn.cli.progress import steps_shown
    from pso_attn.full_training import train_run
    from pso_attn.runs import load_run
    from pso_attn.settings_file import read_settings_file

    loaded = load_run(run, runs_dir)
    given = None if settings is None else read_settings_file(settings, loaded.started)
    try:
        with steps_shown("training", quiet) as progress:
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
    except KeyboardInterrupt:
        say(f"interrupted; go on with: {shlex.join(['pso-attn', *sys.argv[1:]])}")
        raise typer.Exit(INTERRUPTED) from None
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
    emit(
        {
            "run": loaded.name,
            "folder": str(exported.folder),
            "source": exported.source,
            "trial": exported.trial,
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
        ],
        essence=[str(exported.folder)],
    )


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
        f"model:    {document['checkpoint']}",
        *([f"export:   {export_command} --out DIR"] if can_export else []),
    ]
