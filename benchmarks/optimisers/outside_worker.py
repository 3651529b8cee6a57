"""HEBO and nevergrad behind JSON lines: runs in an environment of theirs, without the project.

{"begin": algorithm, "parameters": [[kind, levels], …], "start": row, "seed", "budget", "batch"},
then {"ask": n} and {"tell": rows, "losses": …} in turn; each is answered by
{"rows": …, "seconds": CPU seconds that it took}. Kinds: a number in [0, 1], a place, a label.
"""

import json
import os
import sys
import time
import warnings

import numpy as np


class Hebo:
    """Asked as its documentation shows. It has no start of its own: the first row is replaced."""

    def __init__(self, message):
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO

        torch.set_num_threads(1)
        torch.manual_seed(message["seed"])
        np.random.seed(message["seed"])  # noqa: NPY002  # HEBO draws from it
        kinds = {
            "number": lambda levels: {"type": "num", "lb": 0.0, "ub": 1.0},
            "place": lambda levels: {"type": "int", "lb": 0, "ub": levels - 1},
            "label": lambda levels: {"type": "cat", "categories": list(range(levels))},
        }
        self.names = [f"p{k}" for k in range(len(message["parameters"]))]
        parameters = [
            {"name": name, **kinds[kind](levels)}
            for name, (kind, levels) in zip(self.names, message["parameters"], strict=True)
        ]
        self.optimiser = HEBO(DesignSpace().parse(parameters), scramble_seed=message["seed"])

    def ask(self, count):
        suggested = self.optimiser.suggest(count)
        return suggested[self.names].to_numpy().tolist()

    def tell(self, rows, losses):
        import pandas as pd

        told = pd.DataFrame(rows, columns=self.names)
        self.optimiser.observe(told, np.array(losses, dtype=float).reshape(-1, 1))


class Nevergrad:
    """Asked as its documentation shows; the start is suggested, candidates are told as asked."""

    def __init__(self, message):
        import nevergrad

        kinds = {
            "number": lambda levels: nevergrad.p.Scalar(lower=0.0, upper=1.0),
            "place": lambda levels: nevergrad.p.Scalar(
                lower=0, upper=levels - 1
            ).set_integer_casting(),
            "label": lambda levels: nevergrad.p.Choice(list(range(levels))),
        }
        parameters = nevergrad.p.Instrumentation(
            *(kinds[kind](levels) for kind, levels in message["parameters"])
        )
        parameters.random_state = np.random.RandomState(message["seed"])
        self.optimiser = nevergrad.optimizers.registry[message["begin"]](
            parameters, budget=message["budget"], num_workers=message["batch"]
        )
        self.optimiser.suggest(*message["start"])

    def ask(self, count):
        self.asked = [self.optimiser.ask() for _ in range(count)]
        return [asked.args for asked in self.asked]

    def tell(self, rows, losses):
        for asked, loss in zip(self.asked, losses, strict=True):
            self.optimiser.tell(asked, loss)


def main():
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print goes to stderr
    peer = None
    for line in sys.stdin:
        message, rows = json.loads(line), None
        began = time.process_time()
        if "begin" in message:
            peer = (Hebo if message["begin"] == "HEBO" else Nevergrad)(message)
        elif "ask" in message:
            rows = [[float(value) for value in row] for row in peer.ask(message["ask"])]
        else:
            peer.tell(message["tell"], message["losses"])
        seconds = time.process_time() - began if "begin" not in message else 0.0
        print(json.dumps({"rows": rows, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
