"""Pieces of HTML; every text that goes in is escaped here and nowhere else."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

from pso_attn.report.picture import Picture
from pso_attn.report.style import STYLE

Cell = str
OF = "pso-attn-of"  # the name under which a page says whose report it is


def document(
    title: str, subtitle: str, sections: Iterable[str], footer: str, mark: str = ""
) -> str:
    """Return a whole page that fetches nothing.

    sections: what `section` returned; empty ones are left out. footer: HTML already. mark: of
    `places.mark`, empty for none.
    """
    shown = escape(title)
    whose = f'<meta name="{OF}" content="{mark}">\n' if mark else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{whose}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown} – pso-attn</title>\n"  # noqa: RUF001  a typographic dash
        f'<link rel="icon" href="data:,">\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n'
        f"<header><h1>{shown}</h1>\n{paragraph(subtitle, 'quiet')}</header>\n<main>\n"
        + "\n".join(part for part in sections if part)
        + f"\n</main>\n<footer><p>{footer}</p></footer>\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph, of a CSS class if one is named; nothing for an empty text."""
    return f"<p{_class(kind)}>{escape(text)}</p>" if text else ""


def code(text: str) -> str:
    """Return a command on a line of its own, scrolled where it is wider than the page."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def section(title: str, *parts: str, kind: str = "") -> str:
    """Return a section under its heading."""
    return f"<section{_class(kind)}>\n<h2>{escape(title)}</h2>\n{''.join(parts)}\n</section>"


def details(summary: str, *parts: str) -> str:
    """Return what opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    figures: Sequence[int] = (),
    changed: Iterable[int] = (),
) -> str:
    """Return a table whose first column heads its rows.

    figures: columns of numbers, set to the right. changed: rows that are marked.
    """
    marked = set(changed)
    head = "".join(
        f'<th scope="col"{_class("figure" if place in figures else "")}>{escape(column)}</th>'
        for place, column in enumerate(columns)
    )
    body = "\n".join(
        f"<tr{_class('changed' if place in marked else '')}>{_cells(row, figures)}</tr>"
        for place, row in enumerate(rows)
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>"
    )


def links(items: Iterable[tuple[str, str]]) -> str:
    """Return a list of links: (what is shown, a path beside the page) each."""
    shown = "".join(f'<li><a href="{quote(to)}">{escape(name)}</a></li>' for name, to in items)
    return f"<ul>{shown}</ul>"


def key_figures(items: Iterable[tuple[str, str, str]]) -> str:
    """Return large figures: (what it is, the figure, what stands beside it) each."""
    shown = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{escape(figure)}</b>"
        f"{f'<small>{escape(beside)}</small>' if beside else ''}</dd></div>"
        for name, figure, beside in items
    )
    return f'<dl class="key">{shown}</dl>'


def figure(picture: Picture) -> str:
    """Return a picture with its caption, the image inside the page; the caption alone if none."""
    if picture.png is None:
        return paragraph(picture.caption, "quiet")
    image = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure><div class="scroll" role="region" tabindex="0" '
        f'aria-label="{escape(picture.title)}">'
        f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{image}"></div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _cells(row: Sequence[Cell], figures: Sequence[int]) -> str:
    head, *rest = row
    cells = (
        f"<td{_class('figure' if place in figures else 'reason' if len(cell) > 40 else '')}>"
        f"{escape(cell)}</td>"
        for place, cell in enumerate(rest, start=1)
    )
    return f'<th scope="row">{escape(head)}</th>{"".join(cells)}'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
