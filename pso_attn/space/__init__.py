"""What may vary: knobs, the unit cube and settings, conditions and constraints.

TOML tables --read_space--> Space;  position --repair, decode--> params --settings--> settings
"""

from pso_attn.space.codec import Coordinate
from pso_attn.space.knob import Knob
from pso_attn.space.own import own_knobs
from pso_attn.space.reading import read_settings, read_space
from pso_attn.space.space import LARGEST_DOUBLE, Space
from pso_attn.space.weights import FIRST, FITNESS, WeightTable, read_weights

__all__ = [
    "FIRST",
    "FITNESS",
    "LARGEST_DOUBLE",
    "Coordinate",
    "Knob",
    "Space",
    "WeightTable",
    "own_knobs",
    "read_settings",
    "read_space",
    "read_weights",
]
