"""A comparison as files in a folder: one page, its pictures, and every search as a CSV row."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

from pso_attn import __version__
from pso_attn.report import contest_plots, markup
from pso_attn.report.contest import Contest, Standing, standings, verdict
from pso_attn.report.picture import Picture, drawn
from pso_attn.report.words import ABSENT, count, duration, number

COLUMNS = ("sampler", "median", "quartiles", "rank", "w-t-l", "p", "proposing")
_SMALLEST_P = 0.001


def build_contest(contest: Contest, folder: Path) -> Path:
    """Write index.html, the pictures and searches.csv into a folder; return the page's path.

    Each file appears whole or not at all, the page last. Raises OSError where the folder cannot
    be written.
    """
    from pso_attn.store.atomic import write_atomically

    found = standings(contest)
    pictures = _pictures(contest, found)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "searches.csv", _searches(contest).encode())
    for picture in pictures:
        assert picture.png is not None, "both are always drawn"
        write_atomically(folder / f"{picture.name}.png", picture.png)
    write_atomically(folder / "index.html", _page(contest, found, pictures).encode())
    return folder / "index.html"


def row(contest: Contest, standing: Standing) -> tuple[str, ...]:
    """Return a sampler's standing as cells of text; wins, ties and losses are its own."""
    duel = standing.duel
    low, high = sorted((standing.better, standing.worse))
    return (
        standing.sampler,
        number(standing.median),
        f"{number(low)} … {number(high)}",
        f"{standing.mean_rank:.2f}",
        "" if duel is None else f"{duel.wins}-{duel.ties}-{duel.losses}",
        "" if duel is None else _chance(duel.p),
        ABSENT if standing.seconds is None else _briefly(standing.seconds),
    )


def reading(contest: Contest) -> str:
    """Return how the table is read, as one sentence or two."""
    return (
        f"Best {contest.split} {contest.objective.name} over "
        f"{count(len(contest.seeds), 'seed')} at full length; mean rank; seeds won, tied and "
        f"lost (w-t-l) against {contest.samplers[0]}, and the p of a two-sided sign test; the "
        "sampler's own time in a search, median."
    )


def _page(contest: Contest, found: tuple[Standing, ...], pictures: Sequence[Picture]) -> str:
    sentence, doubt = verdict(contest, found)
    rows = [row(contest, standing) for standing in found]
    right = tuple(range(1, len(COLUMNS)))
    sections = (
        markup.section(
            "What was found",
            markup.paragraph(sentence, "sentence"),
            markup.paragraph(doubt),
            markup.table(reading(contest), COLUMNS, rows, right),
            markup.paragraph(
                f"Each search chose its best on the {contest.split} split; pso-attn confirm RUN "
                "scores a run's winner on the test split.",
                "quiet",
            ),
            kind="verdict",
        ),
        *(markup.section(picture.title, markup.figure(picture)) for picture in pictures),
        _runs(contest),
        _how(contest),
    )
    subtitle = (
        f"{count(len(contest.samplers), 'sampler')}, {count(len(contest.seeds), 'seed')}, "
        f"{count(contest.trainings, contest.each)} a search"
    )
    footer = (
        f"pso-attn {escape(__version__)}. Every search stands in "
        '<a href="searches.csv">searches.csv</a>, every picture beside it as a file.'
    )
    return markup.document(contest.name, subtitle, sections, footer)


def _pictures(contest: Contest, found: tuple[Standing, ...]) -> tuple[Picture, ...]:
    reached = ", ".join(f"{standing.sampler} {number(standing.median)}" for standing in found)
    lines, note = contest_plots.best_so_far(contest)
    return (
        drawn(
            "best_so_far",
            "Best so far",
            f"The medians of the best {contest.split} {contest.objective.name} end at: {reached}.",
            "The line is the median over seeds, the band their middle half. A line begins where "
            f"half of the searches have completed a training at full length. {note}",
            lines,
        ),
        drawn(
            "final",
            "Where the searches ended",
            f"The share of seeds that ended at a value or better; medians: {reached}.",
            "For each value, the share of a sampler's searches that ended there or better: the "
            "empirical distribution. The further to the good side a line rises, the better.",
            contest_plots.final_shares(contest),
        ),
    )


def _runs(contest: Contest) -> str:
    rows = [
        (str(seed), *(_value(contest, sampler, place) for sampler in contest.samplers))
        for place, seed in enumerate(contest.seeds)
    ]
    said = f"Best {contest.split} {contest.objective.name} of each search; a row shares its seed."
    heads = ("seed", *contest.samplers)
    table = markup.table(said, heads, rows, tuple(range(1, len(heads))))
    return markup.section("Seed by seed", table)


def _value(contest: Contest, sampler: str, place: int) -> str:
    return number(contest.objective.loss(float(contest.losses(sampler)[place, -1])))


def _how(contest: Contest) -> str:
    import tomli_w

    shared: Mapping[str, Any] = contest.configuration
    return markup.section(
        "How it was run",
        markup.paragraph("The same again, or on with it where it was interrupted:"),
        markup.code(contest.command),
        markup.details(
            "The configuration that all share", markup.code(tomli_w.dumps(dict(shared)))
        ),
    )


def _searches(contest: Contest) -> str:
    import pandas as pd

    rows = [
        {
            "sampler": cell.sampler,
            "seed": cell.seed,
            "run": cell.run,
            "trainings": len(cell.history.trials),
            f"best.{contest.objective.name}": (
                contest.objective.loss(float(losses[-1])) if isfinite(losses[-1]) else None
            ),
            "seconds_proposing": cell.seconds,
            "seconds_training": sum(trial.outcome.seconds for trial in cell.history.trials),
        }
        for sampler in contest.samplers
        for cell, losses in zip(contest.of(sampler), contest.losses(sampler), strict=True)
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def _briefly(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else f"{number(1000 * seconds, 2)} ms"


def _chance(p: float | None) -> str:
    if p is None:
        return ABSENT
    return f"< {_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"
