"""What the rows of `run.py` say: one sampler against each other one, by group and in all.

    python benchmarks/optimisers/summary.py results.csv [more.csv …] --of pso [--picture out.png]
    python benchmarks/optimisers/summary.py results.csv --split held-out --markdown

Only seeds that both samplers of a pair have run count. A problem is *decided* where the mean over
those seeds of the difference of scores is beyond .05: won below −.05, lost above .05, else tied.
The p is that of the two-sided sign test over decided problems. Ranks are of the mean scores on the
problems and seeds that every sampler shown has run; seconds are CPU time in the sampler of a whole
search.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from pso_attn.errors import ConfigurationError, PsoAttnError

TIE = 0.05
WIDTH = 100
DASH = "\N{EN DASH}"
CHECKPOINTS = ("quarter", "half", "whole")
KEY = ["problem", "seed"]
COLUMNS = ("setting", "sampler", *KEY, "group", "split", *CHECKPOINTS, "seconds")


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Return the rows of several files; of two of the same search the later one.

    Raises ConfigurationError for a file that `run.py` did not write.
    """
    rows = pd.concat([_rows(path) for path in paths], ignore_index=True)
    return rows.drop_duplicates(["setting", "sampler", *KEY], keep="last")


def picked(
    rows: pd.DataFrame, setting: str, split: str, of: str, samplers: Sequence[str]
) -> pd.DataFrame:
    """Return the rows of a setting, a half and some samplers, all where none are named.

    Raises ConfigurationError where there are none, and for a sampler that has none.
    """
    found = rows[(rows.setting == setting) & (rows.split == split)]
    if found.empty:
        known = ", ".join(
            f"{one} {half}"
            for one, half in dict.fromkeys(zip(rows.setting, rows.split, strict=True))
        )
        raise ConfigurationError(
            f"there is no row of {setting} {split}, only of {known or 'none'}"
        )
    known = sorted(set(found.sampler))
    for name in (of, *samplers):
        if name not in known:
            raise ConfigurationError(
                f'there is no row of the sampler "{name}" in {setting} {split}, '
                f"only of {', '.join(known)}"
            )
    return found[found.sampler.isin([of, *samplers])] if samplers else found


def differences(rows: pd.DataFrame, of: str, peer: str) -> pd.DataFrame:
    """Return score differences by problem, means over common seeds; negative: `of` is better.

    Columns: group, seeds, and one for each checkpoint.
    """
    columns = ["group", *KEY, *CHECKPOINTS]
    ours, theirs = (rows.loc[rows.sampler == name, columns] for name in (of, peer))
    both = ours.merge(theirs, on=["group", *KEY], suffixes=("", " of the peer"))
    for at in CHECKPOINTS:
        both[at] -= both[f"{at} of the peer"]
    means = both.groupby(["group", "problem"], as_index=False)[list(CHECKPOINTS)].mean()
    means["seeds"] = both.groupby(["group", "problem"]).seed.count().to_numpy()
    return means


def duel(found: pd.Series) -> dict[str, float]:
    """Return wins, ties, losses over problems, the share of decided ones won, p and the mean."""
    wins, losses = int((found < -TIE).sum()), int((found > TIE).sum())
    decided = wins + losses
    return {
        "wins": wins,
        "ties": len(found) - decided,
        "losses": losses,
        "won": wins / decided if decided else float("nan"),
        "p": float(binomtest(wins, decided).pvalue) if decided else 1.0,
        "mean": float(found.mean()),
    }


def standings(rows: pd.DataFrame, of: str) -> pd.DataFrame:
    """Return a row for each peer, group ("all" among them) and checkpoint."""
    found = []
    for peer in sorted(set(rows.sampler) - {of}):
        off = differences(rows, of, peer)
        groups = [(str(name), part) for name, part in off.groupby("group")]
        for group, part in [*groups, ("all", off)]:
            found += [
                {"peer": peer, "group": group, "at": at, "seeds": part.seeds.mean()}
                | duel(part[at])
                for at in CHECKPOINTS
            ]
    return pd.DataFrame(found)


def ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean scores, mean ranks at the end and seconds by sampler, on common searches."""
    wide = rows.pivot_table(index=KEY, columns="sampler", values=list(CHECKPOINTS)).dropna()
    table = pd.DataFrame({at: wide[at].mean() for at in CHECKPOINTS})
    by_problem = wide["whole"].groupby("problem").mean()
    table["rank"] = by_problem.rank(axis=1).mean()
    seconds = rows.pivot_table(index=KEY, columns="sampler", values="seconds")
    table["seconds"] = seconds.loc[wide.index].mean()
    return table.sort_values("rank")


def report(rows: pd.DataFrame, of: str) -> str:
    """Return the tables as text."""
    common = rows.pivot_table(index=KEY, columns="sampler", values="whole").dropna()
    lines = [
        "A score is log10 of the regret left, as a share of a random point's: less is better.",
        "quarter, half, whole: the mean score after so much of the evaluations. rank: at the end,",
        "1 is best, mean over problems. seconds: CPU time in the sampler, of a search.",
        f"{common.index.get_level_values('problem').nunique()} problems, {len(common)} searches "
        "that every sampler has run:",
    ]
    if len(common):
        lines.append(ranks(rows).to_string(float_format="{:.3f}".format))
    found = standings(rows, of)
    for at in CHECKPOINTS if len(found) else ():
        lines += [
            f"\n{of} against, after {_words(at)} of the evaluations: "
            "wins-ties-losses over problems, mean",
            f"difference of scores (negative: {of} is better), share of decided won, p; by group:",
        ]
        for peer, part in found[found["at"] == at].groupby("peer"):
            by_group = part.set_index("group")
            whole = by_group.loc["all"]
            if not whole.seeds > 0:
                lines.append(f"{peer:15s} no search that both have run")
                continue
            cells = [f"{peer:15s} {_cell(whole)} {whole.won:4.0%} p {whole.p:.1e}"]
            cells += [f"{name}: {_cell(by_group.loc[name])}" for name in by_group.index[:-1]]
            lines += _wrapped(cells)
    return "\n".join(lines)


def markdown(rows: pd.DataFrame, of: str) -> str:
    """Return the pairs over all problems as a table for a page, the nearest peer first."""
    found, seconds = standings(rows, of), rows.groupby("sampler").seconds.mean()
    lines = [
        f"| sampler | seeds | `{of}` less it @¼ | @½ | at the end "
        f"| {DASH.join(('wins', 'ties', 'losses'))} | decided won | p | s a search |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {of} | | | | | | | | {seconds[of]:.2g} |",
    ]
    found = found[(found.group == "all") & (found.seeds > 0)]
    for peer in found[found["at"] == "whole"].sort_values("mean", ascending=False).peer:
        row = found[found.peer == peer].set_index("at")
        whole, seeds = row.loc["whole"], differences(rows, of, peer).seeds
        least, most = seeds.min(), seeds.max()
        p = f"{whole.p:.2g}" if whole.p >= 0.001 else f"{whole.p:.0e}".replace("e-0", "e-")
        cells = [
            peer,
            f"{least}" if least == most else f"{least} to {most}",
            *(_short(f"{row.loc[at, 'mean']:.2f}") for at in CHECKPOINTS),
            DASH.join(f"{whole[name]:.0f}" for name in ("wins", "ties", "losses")),
            f"{whole.won:.0%}",
            _short(p),
            f"{seconds[peer]:.2g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: pd.DataFrame, of: str, path: Path) -> None:
    """Write a picture: mean score difference to each peer by group, at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = standings(rows, of)
    table = found[found["at"] == "whole"].pivot_table(index="peer", columns="group", values="mean")
    table = table.reindex(table["all"].sort_values().index)
    figure = Figure(figsize=(9, 0.55 * len(table) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for offset, group in zip(np.linspace(-0.3, 0.3, len(table.columns)), table, strict=True):
        axes.plot(
            table[group],
            np.arange(len(table)) + offset,
            "D" if group == "all" else "o",
            label=group,
            markersize=7 if group == "all" else 5,
            color="black" if group == "all" else None,
        )
    axes.axvline(0.0, color="grey", linewidth=1)
    axes.set_yticks(range(len(table)), table.index)
    axes.invert_yaxis()
    axes.set_xlabel(f"mean log10 regret of {of} minus the peer's (left: {of} is better)")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)


def _words(at: str) -> str:
    return {"quarter": "a quarter", "half": "half", "whole": "all"}[at]


def _cell(row: pd.Series) -> str:
    return f"{row.wins:.0f}-{row.ties:.0f}-{row.losses:.0f} {row['mean']:+.2f}"


def _short(number: str) -> str:
    """Return a number without the 0 before its point, and with a true minus sign."""
    return re.sub(r"^(-?)0(?=\.)", r"\1", number).replace("-", "−")


def _wrapped(cells: Sequence[str]) -> list[str]:
    """Return cells in lines of at most `WIDTH` columns, the further ones indented."""
    lines = [cells[0]]
    for cell in cells[1:]:
        longer = f"{lines[-1]} | {cell}"
        if len(longer) > WIDTH:
            lines.append(f"{'':15s} {cell}")
        else:
            lines[-1] = longer
    return lines


def _rows(path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # pandas' own errors and what is no text
        raise ConfigurationError(f"{path} is no CSV file that run.py wrote") from error
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise ConfigurationError(
            f'{path} is no CSV file that run.py wrote: it has no column "{missing[0]}"'
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--of", default="pso", help="the sampler that the others are held against")
    parser.add_argument("--setting", default="batch-10")
    parser.add_argument("--split", choices=("develop", "held-out"), default="develop")
    parser.add_argument("--samplers", default="", help="only these, by comma")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--markdown", action="store_true", help="a table for a page instead")
    asked = parser.parse_args()
    samplers = [name for name in asked.samplers.split(",") if name]
    try:
        rows = picked(read(asked.files), asked.setting, asked.split, asked.of, samplers)
        if asked.picture and set(rows.sampler) == {asked.of}:
            raise ConfigurationError(
                f"a picture shows {asked.of} beside others, and there are none"
            )
    except PsoAttnError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if asked.picture:
        draw(rows, asked.of, asked.picture)
    try:
        if asked.markdown:
            print(markdown(rows, asked.of), flush=True)
            return
        print(f"{asked.setting}, {asked.split}")
        print(report(rows, asked.of), flush=True)
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
