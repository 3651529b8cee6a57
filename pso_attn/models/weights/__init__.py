"""Weight matrices as vectors: which matrices, in which coordinates, and what rounds them."""

from pso_attn.models.weights.coordinates import Coordinates, make_coordinates
from pso_attn.models.weights.files import read_parts
from pso_attn.models.weights.matrices import (
    Matrix,
    Placed,
    by_name,
    drawn_parts,
    find_matrices,
    flat_row,
    overlaid,
    placements,
)
from pso_attn.models.weights.quantisers import QUANTISERS, quantised

__all__ = [
    "QUANTISERS",
    "Coordinates",
    "Matrix",
    "Placed",
    "by_name",
    "drawn_parts",
    "find_matrices",
    "flat_row",
    "make_coordinates",
    "overlaid",
    "placements",
    "quantised",
    "read_parts",
]
