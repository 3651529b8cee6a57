"""Where to look next: the swarm's state, its moves, and the samplers made of them."""

from pso_attn.swarm.bare_bones import BareBonesSwarm
from pso_attn.swarm.classic import ClassicSwarm
from pso_attn.swarm.clpso import ClpsoSwarm
from pso_attn.swarm.screened import ScreenedSwarm
from pso_attn.swarm.spso2011 import Spso2011Swarm

__all__ = ["BareBonesSwarm", "ClassicSwarm", "ClpsoSwarm", "ScreenedSwarm", "Spso2011Swarm"]
