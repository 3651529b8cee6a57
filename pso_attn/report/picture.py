"""One picture of a report, as it lies on the page and beside it."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from pso_attn.report import ink


@dataclass(frozen=True)
class Picture:
    """One picture: its file's name without ending, what it shows in words, and its bytes.

    alt: for those who cannot see it. caption: how to read it, or why there is none.
    """

    name: str
    title: str
    alt: str
    caption: str
    png: bytes | None


def drawn(name: str, title: str, alt: str, caption: str, figure: Figure) -> Picture:
    """Return a figure as a picture."""
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # type: ignore[no-untyped-call]  # untyped; and once: `savefig` draws twice
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # untyped
    imsave(buffer, pixels, format="png", dpi=ink.DPI)
    return Picture(name, title, alt, caption.strip(), buffer.getvalue())


def missing(name: str, title: str, why: str) -> Picture:
    """Return a picture that is not there, and why."""
    return Picture(name, title, "", why, None)
