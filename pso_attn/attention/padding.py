"""Which tokens stand for nothing: sequences that are shorter than the longest end in padding.

Nobody attends to padding. For a query that is padding itself its scores fall by a large finite
number and not to −∞: it may have no other key in its window, and a row of −∞ alone has no softmax.
What such a query finds reaches no real token.
"""

from dataclasses import dataclass

import torch

# exp(FAR) is 0 in every precision; a row that is padding alone keeps digits after the point in
# float32, which sparse attention needs to find its threshold
FAR = -1e4


@dataclass(frozen=True, eq=False)
class Padding:
    """Where P particles, or all alike where P is 1, have real tokens.

    real: (P, B, 1, T, 1), 1 where a token is real, 0 where it is padding. bias: (P, B, 1, T, T),
    what is added to scores.
    """

    real: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, real: torch.Tensor) -> "Padding":
        """Return the padding of sequences (P, B, T), 1 or True where a token is real."""
        own = real[:, :, None, :, None]
        return cls(own, hiding(own, own.mT))

    def part(self, start: int, stop: int) -> "Padding":
        """Return that of particles start … stop − 1."""
        if len(self.real) == 1:
            return self
        return Padding(self.real[start:stop], self.bias[start:stop])


def hiding(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return what hides keys (…, 1, K) that are padding, 0, from queries (…, T, 1), 0 or not."""
    far = torch.full(queries.shape, FAR, device=queries.device)
    far = far.masked_fill(queries != 0, float("-inf"))
    return far.where(keys == 0, 0.0)
