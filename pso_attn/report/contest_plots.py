"""Samplers beside each other, as pictures; no function here touches global state."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pso_attn.report import ink
from pso_attn.report.contest import Contest, quantile
from pso_attn.report.plots import axis_name
from pso_attn.types import Array

_BAND, _FEW = 0.14, 4  # opacity of a band, and samplers beyond which it is halved


def best_so_far(contest: Contest) -> tuple[Figure, str]:
    """Draw the best so far against trainings: median and middle half over seeds, and its note."""
    figure, (axis,) = ink.sheet(4.6)
    # the last step is drawn a little further, for one that happens there would not be seen
    trainings = np.append(np.arange(1, contest.trainings + 1), contest.trainings * 1.02)
    faint = _BAND if len(contest.samplers) <= _FEW else _BAND / 2
    bands = {
        sampler: [_shown(contest, quantile(contest.losses(sampler), q)) for q in (0.25, 0.5, 0.75)]
        for sampler in contest.samplers
    }
    everything = np.concatenate([line for band in bands.values() for line in band])
    scale = ink.scale_for(everything, contest.objective.direction == "maximize")
    for place, (sampler, (better, median, worse)) in reversed([*enumerate(bands.items())]):
        colour, dash = ink.look(place)
        axis.fill_between(trainings, better, worse, step="post", color=colour, alpha=faint, lw=0)
        axis.step(trainings, median, where="post", color=colour, ls=dash, lw=2.2, label=sampler)
    scale.apply(axis)
    ink.dress(axis, f"{contest.each}s", f"best {axis_name(contest.split, contest.objective)}")
    ink.whole_numbers(axis)
    axis.set_xlim(0, contest.trainings * 1.02)
    ink.key(figure, columns=6, last_first=True)
    return figure, scale.note


def final_shares(contest: Contest) -> Figure:
    """Draw, for each value, the share of a sampler's seeds that ended at least as good: the ECDF.

    A line that stays below 100 % had searches in which nothing completed.
    """
    figure, (axis,) = ink.sheet(3.8)
    maximise = contest.objective.direction == "maximize"
    finals = {sampler: np.sort(contest.losses(sampler)[:, -1]) for sampler in contest.samplers}
    there = np.concatenate([losses[np.isfinite(losses)] for losses in finals.values()])
    span = float(np.ptp(there)) if len(there) else 0.0
    margin = 0.05 * span or 0.05 * float(np.abs(there).max(initial=0.0)) or 0.01
    low, high = (there.min() - margin, there.max() + margin) if len(there) else (0.0, 1.0)
    for place, (sampler, losses) in reversed([*enumerate(finals.items())]):
        colour, dash = ink.look(place)
        ended = losses[np.isfinite(losses)]
        shares = np.arange(len(ended) + 1) / len(losses)
        x = np.concatenate([[low], ended, [high]])
        y = np.append(shares, shares[-1])
        values = -x if maximise else x
        axis.step(values, y, where="post", color=colour, ls=dash, lw=2.2, label=sampler)
    ink.dress(axis, f"best {axis_name(contest.split, contest.objective)}", "share of the seeds")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_ylim(-0.02, 1.03)
    axis.set_xlim(*sorted((-low, -high)) if maximise else (low, high))
    ink.key(figure, columns=6, last_first=True)
    return figure


def _shown(contest: Contest, losses: Array) -> Array:
    """Return losses as the objective itself, the last one twice; NaN before any completed."""
    losses = np.append(losses, losses[-1])
    values = -losses if contest.objective.direction == "maximize" else losses
    return np.where(np.isfinite(values), values, np.nan)
