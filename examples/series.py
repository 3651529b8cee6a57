"""Tune a classifier of series of different lengths, one row a step, and predict new ones.

Leaves steps.csv, new.csv, series.toml, a run and an export in the current folder. About a minute.
"""

from pathlib import Path

import pandas as pd
from sklearn.datasets import load_digits

from pso_attn.cli.app import app

SPACE = """
task = "series"
data = "steps.csv"
target = "digit"
time = "row"
[columns]
series = "image"
[model]
layers = 1
d_model = 32
[search]
heads = [1, 2, 4, 8]
dropout = { low = 0.0, high = 0.4 }
lr = { low = 1e-3, high = 3e-2, log = true, default = 5e-3 }
[budget]
particles = 8
generations = 2
steps = 120
"""

# a digit is scanned from top to bottom: 8 sensors, until the last row with ink
digits = load_digits()
steps = [
    {"image": image, "row": row, **{f"x{n}": ink for n, ink in enumerate(pixels)}, "digit": digit}
    for image, (rows, digit) in enumerate(zip(digits.images[:700], digits.target, strict=False))
    for row, pixels in enumerate(rows[: rows.any(axis=1).nonzero()[0].max() + 1])
]
table = pd.DataFrame(steps)
table[table["image"] < 600].to_csv("steps.csv", index=False)
table[table["image"] >= 600].to_csv("new.csv", index=False)
Path("series.toml").write_text(SPACE, encoding="utf-8")


def pso_attn(*arguments: str) -> None:
    """Run a command of pso-attn, here in this process."""
    app(arguments, standalone_mode=False)


pso_attn("search", "series.toml", "--run", "series")
pso_attn("confirm", "series", "--top", "1", "--seeds", "3")
pso_attn("export", "series", "--out", "series-model")
pso_attn("predict", "series-model", "new.csv")
