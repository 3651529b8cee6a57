"""Several runs as files in a folder: one page that holds them side by side, and its pictures."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pso_attn import __version__
from pso_attn.report import ink, markup
from pso_attn.report.frames import convergence_frame
from pso_attn.report.picture import Picture, drawn
from pso_attn.report.places import mark
from pso_attn.report.plots import axis_name
from pso_attn.report.together import (
    Entry,
    groups,
    measured,
    sentences,
    split_of,
    summary_rows,
    without_values,
)
from pso_attn.report.words import ABSENT, count, number, setting
from pso_attn.types import Objective

_LONGEST = 36  # characters of a run's name in a legend
_LONGEST_TITLE = 90
_LINE = 100  # characters that fit above the plots
_FINGERPRINT = 12  # characters that tell data apart
_BUDGET = ("particles", "batch", "generations", "steps", "rungs", "seeds")
_RUN = ("sampler", "seed", "device", "source", "fingerprint")


def build_together(found: Sequence[Entry], pages: Sequence[Path], folder: Path) -> Path:
    """Write index.html and a picture for each objective into a folder; return the page's path.

    pages: each run's own report. Each file appears whole or not at all, the page last. Raises
    OSError where the folder cannot be written.
    """
    from pso_attn.store.atomic import write_atomically

    pictures = [_picture(*group) for group in groups(found)]
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        if picture.png is not None:
            write_atomically(folder / f"{picture.name}.png", picture.png)
    own = [os.path.relpath(page, folder) for page in pages]
    write_atomically(folder / "index.html", _page(found, own, pictures).encode())
    return folder / "index.html"


def _page(found: Sequence[Entry], own: Sequence[str], pictures: Sequence[Picture]) -> str:
    first, *more = sentences(found)
    columns, rows = summary_rows(found)
    figures = tuple(range(1, len(columns) - 1))
    said = (
        "The best of each run at full length, the training that found it, how many there were, "
        "and the time that they took together."
    )
    sections = (
        markup.section(
            "What was found",
            markup.paragraph(first, "sentence"),
            *(markup.paragraph(sentence) for sentence in more),
            markup.table(said, columns, rows, figures),
            kind="verdict",
        ),
        *(markup.section(picture.title, markup.figure(picture)) for picture in pictures),
        _winners(found),
        _budgets(found),
        markup.section(
            "Each by itself",
            markup.links((entry.label, where) for entry, where in zip(found, own, strict=True)),
        ),
    )
    subtitle = f"{count(len(found), 'run')} side by side"
    footer = f"pso-attn {escape(__version__)}. Every picture stands beside this page as a file."
    title = " · ".join(entry.label for entry in found)
    if len(title) > _LONGEST_TITLE:
        title = f"{found[0].label} and {count(len(found) - 1, 'other run')}"
    whose = mark([entry.run.source for entry in found])
    return markup.document(title, subtitle, sections, footer, whose)


def _picture(objective: Objective, group: Sequence[Entry]) -> Picture:
    name = _plain(f"best {objective.name} {group[0].measured_on}".rstrip())
    title = f"Best {measured(objective, group)} so far"
    done = [entry for entry in group if entry.best is not None]
    if not done:
        return Picture(name, title, "", f"{without_values(group)} So nothing converged.", None)
    figure, note = best_so_far(objective, done)
    ends = ", ".join(f"{entry.label} {number(_end(entry))}" for entry in done)
    return drawn(
        name,
        title,
        f"The best {objective.name} so far ends at: {ends}.",
        "The best of the trainings that ran in full, against all trainings, pruned and failed "
        f"ones included, and against their time, summed. A dot ends a line. {note}",
        figure,
    )


def best_so_far(objective: Objective, group: Sequence[Entry]) -> tuple[Figure, str]:
    """Draw each run's best so far against trainings and against their time; and the note."""
    figure, axes = ink.sheet(4.3, columns=2, share_y=True)
    lines = [convergence_frame(entry.run.history) for entry in group]
    everything = np.concatenate([line["best"].to_numpy(dtype=float) for line in lines])
    scale = ink.scale_for(everything, objective.direction == "maximize")
    unit, sign = ink.timed(max(float(line["seconds"].iloc[-1]) for line in lines))
    for axis, spent, divisor in zip(axes, ("evaluations", "seconds"), (1.0, unit), strict=True):
        for place, (entry, line) in reversed([*enumerate(zip(group, lines, strict=True))]):
            colour, dash = ink.look(place)
            seen = line.dropna(subset="best")
            x = np.append(seen[spent], line[spent].iloc[-1]) / divisor
            y = scale.clip(np.append(seen["best"], seen["best"].iloc[-1]).astype(float))
            style: Any = {"color": colour, "ls": dash, "lw": 2.2, "label": _short(entry.label)}
            axis.step(x, y, where="post", **style)
            axis.plot(x[-1:], y[-1:], "o", color=colour, ms=5, clip_on=False)
        axis.margins(y=0.09)
        scale.apply(axis)
        axis.set_xlim(left=0)
    ink.dress(axes[0], "trainings", f"best {axis_name(split_of(group), objective)}")
    ink.dress(axes[1], f"training time ({sign})")
    ink.whole_numbers(axes[0])
    longest = max(len(_short(entry.label)) for entry in group) + 6
    ink.key(figure, columns=max(1, min(6, _LINE // longest)), last_first=True)
    return figure, scale.note


def _winners(found: Sequence[Entry]) -> str:
    winners = {
        entry.label: entry.best.candidate.settings for entry in found if entry.best is not None
    }
    if not winners:
        return ""
    searched = {c.path[0] for entry in found for c in entry.run.space.coordinates}
    names = sorted({name for settings in winners.values() for name in settings})
    rows = [
        (name, *(setting(settings.get(name)) for settings in winners.values())) for name in names
    ]
    differ = [row for row in rows if row[0] in searched or len({*row[1:]} - {ABSENT}) > 1]
    same = [
        (name, next(cell for cell in cells if cell != ABSENT))
        for name, *cells in rows
        if (name, *cells) not in differ
    ]
    parts = [
        markup.table(
            "What some run searched, and what else differs; a dash is a setting that a winner "
            "does not have.",
            ("setting", *winners),
            differ,
        )
    ]
    if same and len(winners) > 1:
        table = markup.table("The same wherever it is known.", ("setting", "value"), same)
        parts.append(markup.details(f"{count(len(same), 'setting')} held fixed", table))
    return markup.section("The winners' settings", *parts)


def _budgets(found: Sequence[Entry]) -> str:
    ours = [entry for entry in found if not entry.run.is_foreign]
    if not ours:
        return ""
    rows = [
        (name, *(_held(entry, table, name) for entry in ours))
        for table, names in (("budget", _BUDGET), ("run", _RUN))
        for name in names
    ]
    for name in ("objective", "task"):
        rows.insert(0, (name, *(setting(entry.run.configuration.get(name)) for entry in ours)))
    differ = [place for place, (_, *shown) in enumerate(rows) if len(set(shown)) > 1]
    shown = [row for row in rows if set(row[1:]) != {ABSENT}]
    marked = [shown.index(rows[place]) for place in differ]
    said = "What they differ in is marked." if len(ours) > 1 else ""
    table = markup.table(
        said or "As it was run.", ("what", *(entry.label for entry in ours)), shown, changed=marked
    )
    return markup.section("Budgets", table)


def _held(entry: Entry, table: str, name: str) -> str:
    shown = setting(entry.run.configuration.get(table, {}).get(name))
    return shown[:_FINGERPRINT] if name == "fingerprint" else shown


def _end(entry: Entry) -> float | None:
    return entry.best_within(entry.evaluations)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
