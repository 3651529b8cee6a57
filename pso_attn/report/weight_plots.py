"""Weights, and what they do, as pictures; no function here touches global state."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pso_attn.report import ink
from pso_attn.report.components import Components
from pso_attn.report.inputs import AttentionPair, MatrixPair

MOST_TOKENS = 24  # of an example that are shown; names of more cannot be read
MOST_HEADS = 4  # of a layer that are shown
_ONE_EACH = 4  # matrices up to which each has a row of its own
_LONGISH = 3  # sides of a matrix beyond whose ratio its entries are not drawn square
_STAGES = ("before", "after", "difference")
_EDGE = 0.995  # share of the weights that the colours tell apart; the rest has the last colour
_SIGNED, _POSITIVE = "RdBu_r", "Blues"
_LONGEST = 14  # characters of a token's name
_UPRIGHT = 12  # tokens below which names of several characters stand beside each other


def matrices(pairs: Sequence[MatrixPair]) -> Figure:
    """Draw each matrix before, after, and the difference side by side, in one scale of colours.

    One matrix in a row, or two where there are more than four.
    """
    beside = 1 if len(pairs) <= _ONE_EACH else 2
    rows, columns = -(-len(pairs) // beside), 3 * beside
    figure, axes = ink.sheet(0.6 + (2.45 if beside == 1 else 1.2) * rows, rows, columns)
    sizes = np.concatenate([np.abs(part).ravel() for p in pairs for part in (p.before, p.after)])
    edge = float(np.quantile(sizes, _EDGE)) or 1.0
    for axis in axes:
        axis.set_axis_off()
    for place, pair in enumerate(pairs):
        same = pair.before.shape == pair.after.shape
        shown = (pair.before, pair.after, pair.after - pair.before if same else None)
        for axis, values, name in zip(axes[3 * place :], shown, _STAGES, strict=False):
            if place < beside:
                axis.set_title(name, fontsize=ink.PLAIN, color=ink.TEXT, loc="left")
            if values is None:
                axis.text(0.5, 0.5, "other shapes", ha="center", color=ink.QUIET)
                continue
            axis.set_axis_on()
            _bare(axis)
            axis.imshow(values, cmap=_SIGNED, vmin=-edge, vmax=edge, aspect=_aspect(values))
        size = " x ".join(map(str, pair.before.shape))
        axes[3 * place].set_ylabel(f"{pair.name}\n{size}", fontsize=ink.PLAIN, color=ink.TEXT)
    _bar(figure, axes, ScalarMappable(Normalize(-edge, edge), _SIGNED), "weight", rows)
    return figure


def attention(examples: Sequence[AttentionPair], layer: int) -> Figure:
    """Draw whom the tokens of each example attend to in a layer, before and after, mean of heads.

    An example that is a picture stands beside, its patches numbered.
    """
    pictured = any(example.picture is not None for example in examples)
    columns = 3 if pictured else 2
    height = 2.75 if pictured else 4.0
    figure, axes = ink.sheet(0.5 + height * len(examples), len(examples), columns)
    maps = [
        [_cut(part[layer].mean(axis=0)) for part in (example.before, example.after)]
        for example in examples
    ]
    scale, cmap = _shares([one for pair in maps for one in pair])
    for row, (example, pair) in enumerate(zip(examples, maps, strict=True)):
        mine = axes[row * columns : (row + 1) * columns]
        if pictured:
            _picture(mine[0], example)
        for axis, values, name in zip(mine[-2:], pair, ("untouched", "best"), strict=True):
            axis.imshow(values, cmap=cmap, norm=scale)
            _named(axis, example.tokens[: len(values)])
            if row == 0:
                axis.set_title(name, fontsize=ink.PLAIN, color=ink.TEXT, loc="left")
    _bar(figure, axes, ScalarMappable(scale, cmap), "share taken from a token", len(examples))
    return figure


def heads(example: AttentionPair, layers: Sequence[int]) -> Figure:
    """Draw the heads of some layers on one example, those of the best below the untouched ones."""
    rows = [
        (layer, name, part[layer][:MOST_HEADS])
        for layer in layers
        for name, part in (("untouched", example.before), ("best", example.after))
        if layer < len(part)
    ]
    columns = max(len(shown) for _, _, shown in rows)
    figure, axes = ink.sheet(0.4 + 1.95 * len(rows), len(rows), columns)
    scale, cmap = _shares([_cut(one) for _, _, shown in rows for one in shown])
    for row, (layer, name, shown) in enumerate(rows):
        for column in range(columns):
            axis = axes[row * columns + column]
            if column >= len(shown):
                axis.set_axis_off()
                continue
            axis.imshow(_cut(shown[column]), cmap=cmap, norm=scale)
            _bare(axis)
            if row == 0:
                axis.set_title(f"head {column}", fontsize=ink.PLAIN, color=ink.TEXT, loc="left")
            if column == 0:
                said = f"layer {layer}\n{name}"
                axis.set_ylabel(said, fontsize=ink.PLAIN, color=ink.TEXT)
    _bar(figure, axes, ScalarMappable(scale, cmap), "share taken from a token", len(rows))
    return figure


def swarm(found: Components) -> Figure:
    """Draw where positions stand along their first two components, darker the later."""
    figure, (axis,) = ink.sheet(5.2)
    hue = ScalarMappable(Normalize(0, max(1, int(found.generations.max()))), ink.TIME)
    x, y = found.points.T
    axis.scatter(x, y, c=hue.to_rgba(found.generations), s=16, linewidths=0, alpha=0.85)
    for place, label, shape, colour in (
        (found.start, "untouched", "D", ink.TEXT),
        (found.best, "best", "o", ink.DEFAULTS),
    ):
        if place is not None:
            ring: Any = {"ms": 10, "fillstyle": "none", "mew": 1.8, "color": colour}
            axis.plot(x[place], y[place], shape, ls="", label=label, **ring)
    first, second = (f"{share:.1%} of the variance" for share in found.shares)
    ink.dress(axis, f"first component ({first})", f"second component ({second})", grid="both")
    bar = figure.colorbar(hue, ax=axis, pad=0.015, fraction=0.03, aspect=30)
    _quiet(bar, "generation")
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ink.key(figure)
    return figure


def _bare(axis: Axes) -> None:
    """Leave a frame alone."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color(ink.GRID)


def _aspect(values: NDArray[Any]) -> Literal["equal", "auto"]:
    return "equal" if max(values.shape) <= _LONGISH * min(values.shape) else "auto"


def _cut(values: NDArray[Any]) -> NDArray[Any]:
    return values[:MOST_TOKENS, :MOST_TOKENS]


def _shares(maps: Sequence[NDArray[Any]]) -> tuple[Normalize, str]:
    """Return the scale and the colours that all maps share: two-sided where some are negative.

    Else by the root of the shares, since a token that sees few gives each a large one.
    """
    low = min(float(one.min()) for one in maps)
    high = max(float(np.abs(one).max()) for one in maps) or 1.0
    if low < -1e-6:
        return Normalize(-high, high), _SIGNED
    return PowerNorm(0.5, 0, high), _POSITIVE


def _picture(axis: Axes, example: AttentionPair) -> None:
    """Draw an example's pixels, and the numbers of its patches."""
    if example.picture is None:
        axis.set_axis_off()
        return
    axis.imshow(example.picture, cmap="Greys", alpha=0.5)
    tall, wide = example.patch
    down, across = example.picture.shape[0] // tall, example.picture.shape[1] // wide
    box: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for place in range(down * across) if down * across <= MOST_TOKENS else ():
        row, column = divmod(place, across)
        x, y = (column + 0.5) * wide - 0.5, (row + 0.5) * tall - 0.5
        shown: Any = {"ha": "center", "va": "center", "fontsize": 8, "color": ink.TEXT}
        axis.text(x, y, str(place + 1), bbox=box, **shown)
    for k in range(1, across):
        axis.axvline(k * wide - 0.5, color="white", lw=0.8)
    for k in range(1, down):
        axis.axhline(k * tall - 0.5, color="white", lw=0.8)
    _bare(axis)


def _named(axis: Axes, tokens: Sequence[str]) -> None:
    """Give both sides of a map its tokens' names, those that attend on the left."""
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in tokens]
    turned = 90 if max(map(len, names)) > 1 and len(names) > _UPRIGHT else 0
    axis.set_xticks(range(len(names)), names, rotation=turned)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0, labelsize=8, labelcolor=ink.TEXT)
    axis.spines[:].set_color(ink.GRID)
    axis.set_xlabel("takes from", fontsize=ink.SMALL, color=ink.QUIET)
    axis.set_ylabel("token", fontsize=ink.SMALL, color=ink.QUIET)


def _bar(figure: Figure, axes: Sequence[Axes], hue: Any, label: str, rows: int) -> None:
    bar = figure.colorbar(hue, ax=list(axes), aspect=18 * rows, pad=0.015, fraction=0.03)
    _quiet(bar, label)


def _quiet(bar: Any, label: str) -> None:
    bar.set_label(label, fontsize=ink.PLAIN, color=ink.TEXT)
    bar.ax.tick_params(labelsize=ink.SMALL, labelcolor=ink.TEXT, color=ink.QUIET)
    bar.outline.set_visible(False)
