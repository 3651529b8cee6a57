"""What a command prints on stdout: for people, as one JSON document, or the bare essence."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import typer

SCHEMA = 1


def others_on_stderr() -> redirect_stdout[Any]:
    """Keep stdout for results inside the block: what Ray has to say it prints."""
    return redirect_stdout(sys.stderr)


def emit(
    document: Mapping[str, Any],
    *,
    as_json: bool,
    quiet: bool,
    lines: Iterable[Any] = (),
    essence: Iterable[str] = (),
) -> None:
    """Print one result.

    document: printed with "schema" first under --json, in ASCII; numbers that JSON lacks
    become null.
    lines: text or rich renderables, for people. essence: one item per line, under --quiet.
    """
    if as_json:
        plain = _plain({"schema": SCHEMA, **document})
        typer.echo(json.dumps(plain, indent=2, allow_nan=False))
        return
    if quiet:
        for item in essence:
            typer.echo(item)
        return
    from pso_attn.cli.consoles import Results

    console = Results(highlight=False)
    for line in lines:
        if isinstance(line, str):
            console.print(line, markup=False, soft_wrap=True)
        else:
            console.print(line)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()
) -> Any:
    """Return a rich table: the first column whole, the others folded to the width.

    right: the columns that hold numbers.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        made.add_column(
            column,
            no_wrap=index == 0,
            overflow="fold",
            justify="right" if column in right else "left",
        )
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
