"""How a model knows where a token stands: added to its embedding, or by turning its queries."""

from collections.abc import Sequence

import torch

from pso_attn.attention.given import Given
from pso_attn.attention.kinds import TURNING
from pso_attn.errors import ConfigurationError
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "positions",
        "categorical",
        "how tokens know their place: learned or sinusoidal vectors added to the embedding, "
        "queries and keys turned by their place (rotary: where pairs are compared and in "
        "retention, heads of even width), or not at all",
        choices=("learned", "sinusoidal", "rotary", "none"),
        default="learned",
        neutral="none",
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.5; "
        "Su et al. 2021 (RoPE), arXiv 2104.09864, section 3.2.2",
    ),
    Knob(
        "rope_base",
        "float",
        "base of the angles by which rotary positions turn; larger turns more slowly",
        low=10.0,
        high=100_000.0,
        log=True,
        minimum=1.0,
        maximum=1e9,
        default=10_000.0,
        when={"positions": ("rotary",)},
        source="Su et al. 2021 (RoPE), arXiv 2104.09864, eq. 15",
    ),
)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Return float64 (T, C): sines in even columns, cosines in odd ones, times 1 / √C.

    Vaswani et al. 2017, section 3.5, who scale embeddings up by √C instead: the ratio is theirs.
    """
    column = torch.arange(width, dtype=torch.float64)
    rate = 10_000.0 ** (-(column - column % 2) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
    table: torch.Tensor = torch.where(column % 2 == 0, angle.sin(), angle.cos()) * width**-0.5
    return table


def read_rope_base(given: Given, mechanism: str, head_dim: int) -> float | None:
    """Return the base of a layer's angles, None where positions are not rotary.

    Raises ConfigurationError where queries and keys cannot be turned.
    """
    if given.settings.get("positions") != "rotary":
        return None
    if mechanism not in TURNING:
        raise ConfigurationError(
            f'positions = "rotary" turns each query and key by its place, which is not built for '
            f'mechanism "{mechanism}"; choose other positions or mechanism "softmax"'
        )
    if head_dim % 2:
        raise ConfigurationError(
            f'positions = "rotary" turns pairs of columns and head_dim = {head_dim} is odd; '
            "choose an even head_dim"
        )
    return float(given.settings.get("rope_base", 10_000.0))


class Turn:
    """Turns queries and keys by their place, those of each particle by its own base.

    Columns c and c + d/2 of token t turn together by the angle t · base^(−2c/d), c from 0: Su et
    al. 2021, eqs. 14 and 15, whose pairs are neighbours: the same up to the order of columns.
    """

    def __init__(
        self, bases: Sequence[float | None], length: int, head_dim: int, like: torch.Tensor
    ) -> None:
        """Prepare the angles; a base of None does not turn."""
        exponent = -torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        rates = torch.stack(
            [torch.zeros_like(exponent) if base is None else base**exponent for base in bases]
        )
        angle = torch.arange(length, dtype=torch.float64)[:, None] * rates[:, None]  # (P, T, d/2)
        cos, sin = angle.cos(), angle.sin()
        self._cos = torch.cat([cos, cos], -1)[:, None, None].to(like)  # (P, 1, 1, T, d)
        self._sin = torch.cat([-sin, sin], -1)[:, None, None].to(like)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the turned queries or keys (P, B, H, T, d)."""
        return x * self._cos + x.roll(x.shape[-1] // 2, -1) * self._sin
