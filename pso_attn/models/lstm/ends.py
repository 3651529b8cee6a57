"""Where examples end, and what stands where each direction of an LSTM has read all of one."""

from torch import Tensor, stack, zeros_like

from pso_attn.models.info import TaskInfo, real_tokens


def lengths_of(inputs: Tensor, info: TaskInfo) -> Tensor | None:
    """Return how many tokens each example has, (…, B) at least 1; None where all have T.

    inputs: (…, B, T) ids or (…, B, T, features). Where a decoder answers, those of the source
    count, before the last `horizon`.
    """
    real = real_tokens(inputs, info)
    if real is None:
        return None
    return real[..., : info.length - info.horizon].sum(-1).clamp(min=1)


def at_ends(x: Tensor, hidden: int, directions: int, lengths: Tensor | None) -> Tensor:
    """Return the states of each direction's last token, (N, B, dirs, h), from (N, T, B, dirs · h).

    The forward direction ends at the example's last token, the backward one at its first.
    lengths: (N or 1, B), None where all examples have T tokens.
    """
    return _taken(x.unflatten(-1, (directions, hidden)), lengths, 0)


def before_ends(x: Tensor, hidden: int, directions: int, lengths: Tensor | None) -> Tensor:
    """Return the states one token earlier than `at_ends`; zero where there is none."""
    return _taken(x.unflatten(-1, (directions, hidden)), lengths, 1)


def inputs_at_ends(x: Tensor, directions: int, lengths: Tensor | None) -> Tensor:
    """Return what each direction's last token was, (N, B, dirs, I), from (N, T, B, I)."""
    return _taken(x.unsqueeze(-2).expand(-1, -1, -1, directions, -1), lengths, 0)


def _taken(x: Tensor, lengths: Tensor | None, back: int) -> Tensor:
    """Return (N, B, dirs, c) of x (N, T, B, dirs, c), `back` tokens before each one's last."""
    ways = x.unbind(-2)
    if back >= x.shape[1]:
        return zeros_like(x[:, 0])
    ahead = ways[0][:, -1 - back] if lengths is None else _gathered(ways[0], lengths - 1 - back)
    found = [ahead]
    for way in ways[1:]:
        behind = way[:, back]
        found.append(behind if lengths is None else behind * (lengths > back)[..., None])
    return stack(found, -2)


def _gathered(x: Tensor, places: Tensor) -> Tensor:
    """Return (N, B, c): each example's token at its place, zero where that is before the first."""
    index = places.clamp(min=0).expand(len(x), -1)[:, None, :, None]
    taken = x.gather(1, index.expand(-1, -1, -1, x.shape[-1]))[:, 0]
    return taken * (places >= 0)[..., None]
