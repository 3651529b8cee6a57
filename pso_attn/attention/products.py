"""Products of queries and keys, as sharp as each particle has them.

    p_ij = cap(q_i·k_j / (τ √d)),  with qk_norm cap(g q_i·k_j / (τ |q_i| |k_j|))
    cap(s) = c tanh(s / c), or s where there is no softcap

τ is a constant of the head, learned by the head, or set by token i. A knob that nobody in a group
uses costs no operation.
"""

from collections.abc import Sequence

import torch
from torch.linalg import vector_norm

from pso_attn.attention.blend import Blend
from pso_attn.attention.layer import FUSED_TOKENS
from pso_attn.attention.learned import LearnedTensors
from pso_attn.attention.pairs import products
from pso_attn.attention.sharpness import Sharpness

SMALLEST_NORM = 1e-12  # what shorter queries and keys are divided by, as torch's normalize does


class Products:
    """Multiplies queries and keys of one group of particles."""

    def __init__(self, members: Sequence[Sharpness], head_dim: int, like: torch.Tensor) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        by_head, by_token = (
            [member.learned == kind for member in members] for kind in ("head", "token")
        )
        normed = [member.qk_norm for member in members]
        fixed = torch.tensor([member.temperature for member in members], dtype=torch.float64)
        learned = torch.tensor(by_head) | torch.tensor(by_token)
        fixed = fixed.masked_fill(learned[:, None], 1.0)  # (P, H)
        root = fixed.new_tensor([1.0 if unit else head_dim**0.5 for unit in normed])
        constant = (fixed * root[:, None]).reciprocal().to(like)  # (P, H)
        ones = torch.ones_like(constant)
        self._by_head = Blend(by_head, 0 * ones) if any(by_head) else None
        self._by_token = Blend(by_token, _apart(ones)) if any(by_token) else None
        self._normed = Blend(normed, ones) if any(normed) else None
        some = torch.tensor(normed)[:, None].to(like.device)
        # of queries before they come here; of those that are normed then, after
        self.scale = None if all(normed) else constant.masked_fill(some, 1.0)
        normed_by = constant.masked_fill(~some, 1.0)
        self._constant = _apart(normed_by) if any(normed) else None  # (P, 1, H, 1, 1)
        self._some = None if all(normed) else _apart(some)
        self._cap = _Cap([member.softcap for member in members], like)

    @property
    def are_plain(self) -> bool:
        """Whether they are the products of `operands`, with no bound."""
        return self._cap.is_off

    def __call__(self, q: torch.Tensor, k: torch.Tensor, learned: LearnedTensors) -> torch.Tensor:
        """Return (P, B, H, T, T) from q, multiplied by `scale`, and k (P, B, H, T, d)."""
        return self._cap(products(*self.operands(q, k, learned)))

    def operands(
        self, q: torch.Tensor, k: torch.Tensor, learned: LearnedTensors
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is multiplied: queries, all that divides scores within, and keys."""
        if self._constant is not None and self._normed is not None:
            q, k = self._unit(q), self._unit(k)
            q = q * (self._constant * _apart(self._normed(learned["qk_scale"])))
        if self._by_head is not None:
            q = q * _apart(self._by_head(learned["log_temperature"]).neg().exp())
            if q.requires_grad and q.shape[3] >= FUSED_TOKENS:
                # from the fused kernel others' lie between a head's own: summed up as they are,
                # those of one head alone would round otherwise
                q.register_hook(torch.Tensor.contiguous)
        if self._by_token is not None:
            q = q / self._by_token(learned["token_temperature"])  # (P, B, H, T, 1)
        return q, k

    def _unit(self, x: torch.Tensor) -> torch.Tensor:
        """Return vectors of unit length for the particles that ask for them."""
        norm = vector_norm(x, dim=-1, keepdim=True).clamp(min=SMALLEST_NORM)
        unit: torch.Tensor = x / (norm if self._some is None else norm.where(self._some, 1.0))
        return unit


class _Cap:
    """Bounds the products of the particles that have a bound."""

    def __init__(self, bounds: Sequence[float], like: torch.Tensor) -> None:
        bound = torch.tensor(bounds, dtype=torch.float64)
        some = bound.isfinite()
        self._some = None if bool(some.all()) else _column(some).to(like.device)
        self._bound = _column(bound.where(some, 1.0)).to(like) if bool(some.any()) else None

    @property
    def is_off(self) -> bool:
        return self._bound is None

    def __call__(self, products: torch.Tensor) -> torch.Tensor:
        if self._bound is None:
            return products
        capped = (products / self._bound).tanh() * self._bound
        return capped if self._some is None else capped.where(self._some, products)


def _apart(by_head: torch.Tensor) -> torch.Tensor:
    """Return (P, H) as (P, 1, H, 1, 1)."""
    return by_head[:, None, :, None, None]


def _column(by_particle: torch.Tensor) -> torch.Tensor:
    """Return (P,) as (P, 1, 1, 1, 1)."""
    return by_particle[:, None, None, None, None]
