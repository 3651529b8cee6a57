"""Tune a transformer on a table of your own, beside simple methods, and predict new rows.

Leaves table.csv, new.csv, a run and an export in the current folder. About a minute.
"""

from sklearn.datasets import load_diabetes

from pso_attn.cli.app import app

rows = load_diabetes(as_frame=True).frame.round(4)
rows[:400].to_csv("table.csv", index=False)
rows[400:].drop(columns="target").to_csv("new.csv", index=False)

SEARCH = ["search", "table", "--set", "data=table.csv", "--set", "target=target", "--run", "table"]
SMALL = ["--particles", "8", "--generations", "2", "--set", "budget.steps=80"]


def pso_attn(*arguments: str) -> None:
    """Run a command of pso-attn, here in this process."""
    app(arguments, standalone_mode=False)


pso_attn(*SEARCH, *SMALL)
pso_attn("confirm", "table", "--top", "1", "--seeds", "3")
pso_attn("export", "table", "--out", "table-model")
pso_attn("predict", "table-model", "new.csv")
