"""Weight matrices as vectors: which matrices, in which coordinates, and what rounds them."""

from pso_attn.models.weights.coordinates import Coordinates, make_coordinates
from pso_attn.models.weights.files import read_parts
from pso_attn.models.weights.matrices import (
    Matrix,
    Placement,
    by_name,
    drawn_parts,
    find_matrices,
    flat_row,
    overlaid,
)
from pso_attn.models.weights.quantisers import QUANTISERS, quantised

__all__ = [
    "QUANTISERS",
    "Coordinates",
    "Matrix",
    "Placement",
    "by_name",
    "drawn_parts",
    "find_matrices",
    "flat_row",
    "make_coordinates",
    "overlaid",
    "quantised",
    "read_parts",
]
