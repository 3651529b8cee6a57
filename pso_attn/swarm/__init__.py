"""Where to look next: the swarm's state, its moves, and the samplers made of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pso_attn.swarm.bare_bones import BareBonesSwarm
from pso_attn.swarm.classic import ClassicSwarm
from pso_attn.swarm.clpso import ClpsoSwarm
from pso_attn.swarm.competitive import CompetitiveSwarm
from pso_attn.swarm.consensus import ConsensusSwarm
from pso_attn.swarm.screened import ScreenedSwarm
from pso_attn.swarm.separable import SeparableSwarm
from pso_attn.swarm.social import SocialSwarm
from pso_attn.swarm.spso2011 import Spso2011Swarm

__all__ = [
    "FOR_WEIGHTS",
    "VARIANTS",
    "BareBonesSwarm",
    "ClassicSwarm",
    "ClpsoSwarm",
    "CompetitiveSwarm",
    "ConsensusSwarm",
    "ScreenedSwarm",
    "SeparableSwarm",
    "SocialSwarm",
    "Spso2011Swarm",
]

VARIANTS: Mapping[str, Any] = MappingProxyType(
    {
        "pso": ScreenedSwarm,
        "pso-classic": ClassicSwarm,
        "pso-spso2011": Spso2011Swarm,
        "pso-bare-bones": BareBonesSwarm,
        "pso-clpso": ClpsoSwarm,
    }
)

# beside them, made for weights alone
FOR_WEIGHTS = ("pso-competitive", "pso-social", "pso-consensus", "pso-covariance")
