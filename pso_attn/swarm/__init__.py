"""Where to look next: the swarm's state, its moves, and the samplers made of them."""

from pso_attn.swarm.classic import ClassicSwarm

__all__ = ["ClassicSwarm"]
