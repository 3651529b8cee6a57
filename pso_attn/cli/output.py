"""What a command prints on stdout: for people, as one JSON document, or the bare essence."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

import typer

SCHEMA = 1
_stdout: ContextVar[TextIO | None] = ContextVar("stdout", default=None)  # kept for results


@contextmanager
def others_on_stderr() -> Iterator[None]:
    """Keep stdout for what `emit` prints inside the block; Ray and somebody's code print too."""
    kept = _stdout.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout.reset(kept)


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
    with redirect_stdout(_stdout.get() or sys.stdout):
        if as_json:
            plain = _plain({"schema": SCHEMA, **document})
            typer.echo(json.dumps(plain, indent=2, allow_nan=False))
        elif quiet:
            for item in essence:
                typer.echo(item)
        else:
            _show(lines)


def _show(lines: Iterable[Any]) -> None:
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
