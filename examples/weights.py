"""Search a language model's attention weights without gradients, and hold it against descent.

Leaves a run, its report and an export in the current folder. About half a minute.
"""

from pso_attn.cli.app import app

SMALL = ["--particles", "16", "--generations", "8", "--set", "budget.steps=60"]


def pso_attn(*arguments: str) -> None:
    """Run a command of pso-attn, here in this process."""
    app(arguments, standalone_mode=False)


pso_attn("search", "text-weights", "--run", "text-weights", *SMALL)
pso_attn("confirm", "text-weights", "--top", "1")
pso_attn("report", "text-weights")
pso_attn("export", "text-weights", "--out", "text-weights-model")
