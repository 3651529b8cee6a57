"""A module of one's own, trained by pso-attn: only what it is made of is yours."""

from typing import Any

from torch import Tensor, nn

import pso_attn

SPACE = """
task = "digits"
[model]
family = "own_module:make"      # this file's name, and the function below
[search]
width = [16, 32, 64]            # knobs of your own: `make` reads them
kernel = { low = 1, high = 7 }
activation = ["relu", "gelu"]
lr = { low = 1e-3, high = 3e-2, log = true }    # knobs of the training keep their meaning
weight_decay = {}
[constraints]
expressions = ["parameters <= 12000"]
[budget]
particles = 8
generations = 3
steps = 60
"""


class Convolutions(nn.Module):
    """Two convolutions over the tokens of an example, and a mean over what they give."""

    def __init__(self, features: int, outputs: int, width: int, kernel: int, act: str) -> None:
        """features: of a token. outputs: classes."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(features, width, kernel, padding="same"),
            nn.ReLU() if act == "relu" else nn.GELU(),
            nn.Conv1d(width, width, kernel, padding="same"),
            nn.ReLU() if act == "relu" else nn.GELU(),
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, outputs) for inputs (B, T, features)."""
        return self.head(self.layers(inputs.transpose(1, 2)).mean(2))


def make(settings: Any, task_info: Any) -> nn.Module:
    """Return the module of some settings; task_info says what it is given and what it gives."""
    return Convolutions(
        task_info.features,
        task_info.outputs,
        settings["width"],
        settings["kernel"],
        settings["activation"],
    )


if __name__ == "__main__":
    found = pso_attn.tune(SPACE)
    print("best loss", found.best.value, "of", found.best.settings)
    print("report", found.report())
