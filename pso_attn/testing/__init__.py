"""Contract suites to inherit, and the small drivers that they run on.

`pso_attn.testing.samplers` needs pytest, so it is not imported here.
"""

from pso_attn.testing.driving import best_loss, drive, finished

__all__ = ["best_loss", "drive", "finished"]
