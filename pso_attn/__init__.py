"""Tune attention with particle swarm optimisation; the whole swarm trains as one batched job.

Data flows one way:

    space ──> swarm ──> evaluate ──> store ──> report
    what      where     how good     what      what it
    may vary  to look   it is        happened  means
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time `__getattr__` imports it, so that `import pso_attn` stays light
    from pso_attn.runs import load_run
    from pso_attn.space import Space
    from pso_attn.swarm.optuna_sampler import PSOSampler
    from pso_attn.tuning import tune

__all__ = ["PSOSampler", "Space", "__version__", "load_run", "tune"]

__version__ = "0.1.0"

# Before its first product, MKL can be told to round alike wherever a matrix lies in memory. A
# particle's last bits would depend on its place in a batch; the cost was too small to measure.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

_HOMES = {
    "PSOSampler": "pso_attn.swarm.optuna_sampler",
    "Space": "pso_attn.space",
    "load_run": "pso_attn.runs",
    "tune": "pso_attn.tuning",
}


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet included."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
