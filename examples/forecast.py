"""Forecast a day of bicycle hires at three stations, hour by hour, and predict the next one.

The hires are made up: they follow the hour, the weekend and the rain, which is known ahead; how
many are docked is not. Leaves hires.csv, new.csv, forecast.toml, a run and an export in the
current folder. Under a minute.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pso_attn.cli.app import app

SPACE = """
task = "series"
data = "hires.csv"
target = "hires"
time = "hour"
[columns]
series = "station"
known = ["rain"]                # docked is left, and so a past covariate
[forecast]
horizon = 24
context = 48
[model]
layers = 1
d_model = 16
[search]
heads = [1, 2, 4]
temperature = { low = 0.25, high = 4.0, log = true }
dropout = { low = 0.0, high = 0.3 }
lr = { low = 1e-3, high = 3e-2, log = true, default = 5e-3 }
[budget]
particles = 6
generations = 2
steps = 80
"""
DAYS, HORIZON = 42, 24

rng = np.random.default_rng(0)
hour = np.arange(24 * DAYS)
rush = np.exp(-((hour % 24 - 8) ** 2) / 4) + np.exp(-((hour % 24 - 18) ** 2) / 8)
noon = np.exp(-((hour % 24 - 14) ** 2) / 18)
rain = (np.convolve(rng.normal(size=len(hour)), np.ones(6), "same") > 2.5).astype(int)
stations = []
for name, size, commuters in (("harbour", 20, 0.9), ("market", 60, 0.6), ("park", 35, 0.2)):
    weekday = commuters * (hour // 24 % 7 < 5)
    hires = size * (weekday * rush + (1 - weekday) * noon + 0.05) * (1 - 0.6 * rain)
    hires = rng.poisson(hires)
    docked = size - hires + rng.integers(0, 5, len(hour))
    times = pd.date_range("2025-03-03", periods=len(hour), freq="h")
    columns = {"hour": times, "station": name, "hires": hires, "rain": rain, "docked": docked}
    stations.append(pd.DataFrame(columns))
table = pd.concat(stations)
ahead = table["hour"] >= table["hour"].max() - pd.Timedelta(hours=HORIZON - 1)
table[~ahead].to_csv("hires.csv", index=False)
# the next day's rain is known; its hires are asked for, and what is docked nobody knows yet
table.assign(**{name: table[name].where(~ahead) for name in ("hires", "docked")}).to_csv(
    "new.csv", index=False
)
Path("forecast.toml").write_text(SPACE, encoding="utf-8")


def pso_attn(*arguments: str) -> None:
    """Run a command of pso-attn, here in this process."""
    app(arguments, standalone_mode=False)


pso_attn("search", "forecast.toml", "--run", "forecast")
pso_attn("confirm", "forecast", "--top", "1", "--seeds", "3")
pso_attn("export", "forecast", "--out", "forecast-model")
pso_attn("predict", "forecast-model", "new.csv")
