"""Tune a character language model on a text of megabytes, n-grams beside it, and let it write.

The text is the source of Python's standard library (PSF licence), 4.7 million characters, or a
file of yours: `python language_model.py FILE`. Leaves text.txt, a run and an export in the current
folder. Half a minute.
"""

import json
import sys
import sysconfig
from pathlib import Path

import torch

from pso_attn.cli.app import app

if len(sys.argv) > 1:
    data = sys.argv[1]
else:
    data = "text.txt"
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    source = "\n".join(path.read_text(encoding="utf-8") for path in modules)
    Path(data).write_text(source, encoding="utf-8")

SEARCH = ["search", "text", "--set", f"data={data}", "--run", "language"]
SMALL = ["--particles", "8", "--generations", "2", "--set", "budget.steps=60"]


def pso_attn(*arguments: str) -> None:
    """Run a command of pso-attn, here in this process."""
    app(arguments, standalone_mode=False)


pso_attn(*SEARCH, *SMALL)
pso_attn("confirm", "language", "--top", "1", "--seeds", "2")
pso_attn("train", "language", "--steps", "300")
pso_attn("export", "language", "--out", "language-model")

sys.path.insert(0, "language-model")
from load import load_model  # noqa: E402  made just now; it needs nothing of pso-attn

model = load_model()
learned = json.loads(Path("language-model/preprocessing.json").read_text(encoding="utf-8"))
symbols, context = learned["inputs"]["symbols"], learned["inputs"]["context"]
torch.manual_seed(0)
written = Path(data).read_text(encoding="utf-8")[:context]
for _ in range(200):
    ids = torch.tensor([[symbols.index(symbol) for symbol in written[-context:]]])
    with torch.no_grad():
        chances = model(ids)[0, -1, : len(symbols)].softmax(0)
    written += symbols[int(chances.multinomial(1))]
print(written)
