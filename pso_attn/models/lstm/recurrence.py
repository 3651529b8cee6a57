"""One LSTM layer of many particles: in one loop over all of them, or one by one.

    i, f, o = σ(x W + h R + b), g = tanh(…), c = f ⊙ c + i ⊙ g, h = o ⊙ tanh(c)

Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, as `torch.nn.LSTM` has it
and in its order of gates: i, f, g, o. Both directions of a bidirectional layer (Graves &
Schmidhuber 2005) go side by side; the backward one reads each example from its own last token.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pso_attn.models.lstm.settings import GATES


@dataclass(frozen=True)
class Weights:
    """One layer's weights, those of the directions side by side in the last axis.

    inputs: (N, I, dirs · 4h). states: (N, h, dirs · 4h). biases: two of (N, dirs · 4h), which add
    up, as `torch.nn.LSTM` has them.
    """

    inputs: Tensor
    states: Tensor
    biases: tuple[Tensor, Tensor]


def together(x: Tensor, weights: Weights, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the states and the last cells, (N, T, B, dirs · h) and (N, B, dirs · h).

    x: (N or 1, T, B, I). lengths: (N or 1, B), how many tokens an example has, None where all.
    What lies beyond is computed from padding and means nothing.
    """
    particles, hidden = weights.states.shape[:2]
    tokens, batch = x.shape[1:3]
    bias = (weights.biases[0] + weights.biases[1])[:, None]
    flat = x.flatten(1, 2).expand(particles, -1, -1)
    gates = torch.baddbmm(bias, flat, weights.inputs).to(weights.states.dtype)
    apart = gates.unflatten(1, (tokens, batch)).unflatten(3, (-1, GATES * hidden))
    ahead = apart.permute(3, 1, 0, 2, 4)  # (dirs, T, N, B, 4h)
    index = None if lengths is None else _backwards(lengths, tokens)
    directions = [ahead[0], *(_turned(back, index) for back in ahead[1:])]
    ordered = torch.stack(directions, 1).flatten(1, 2)  # (T, dirs · N, B, 4h)
    states = weights.states.unflatten(2, (-1, GATES * hidden)).permute(2, 0, 1, 3).flatten(0, 1)
    out, cells = _Cells.apply(ordered, states)  # type: ignore[no-untyped-call]  # torch's
    if lengths is None:
        last = cells[-1]
    else:
        end = (lengths - 1).expand(particles, -1).repeat(len(directions), 1)
        last = cells.gather(0, end[None, :, :, None].expand(1, -1, -1, hidden))[0]
    ways = list(out.unflatten(1, (len(directions), -1)).unbind(1))  # (T, N, B, h) each
    ways[1:] = [_turned(way, index) for way in ways[1:]]
    joined = torch.cat(ways, -1).transpose(0, 1)
    return joined, torch.cat(last.unflatten(0, (len(directions), -1)).unbind(0), -1)


def decoded(x: Tensor, weights: Weights, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states and the cells after every token, (N, T, B, h) each, in one loop.

    x: (N or 1, T, B, I). start: (N, B, h), the state before the first token; its cell is zero.
    """
    bias = (weights.biases[0] + weights.biases[1])[:, None]
    flat = x.flatten(1, 2).expand(len(start), -1, -1)
    gates = torch.baddbmm(bias, flat, weights.inputs).to(weights.states.dtype)
    ordered = gates.unflatten(1, x.shape[1:3]).transpose(0, 1)
    first = ordered[:1] + (start @ weights.states).to(ordered.dtype)
    states, cells = _Cells.apply(  # type: ignore[no-untyped-call]  # torch's
        torch.cat([first, ordered[1:]]), weights.states
    )
    return states.transpose(0, 1), cells.transpose(0, 1)


def one_by_one(x: Tensor, weights: Weights, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what `together` does, each particle by torch's own kernel."""
    particles, hidden = weights.states.shape[:2]
    x = x.expand(particles, -1, -1, -1).to(weights.states.dtype)
    directions = weights.states.shape[2] // (GATES * hidden)
    tensors = (weights.inputs, weights.states, *weights.biases)
    cut = [tensor.split(GATES * hidden, -1) for tensor in tensors]
    found = []
    lengths = None if lengths is None else lengths.cpu()  # where torch wants them: once for all
    with _unrounded(x.device), _unadvised(x.device):
        for row in range(particles):
            own = [part[way][row].t() for way in range(directions) for part in cut]
            if x.device.type != "cpu":  # cuDNN copies weights through a flat view of each
                own = [tensor.contiguous() for tensor in own]
            found.append(_torch_lstm(x[row], own, hidden, directions, _row(lengths, row)))
    states, cells = zip(*found, strict=True)
    return torch.stack(states), torch.stack(cells)


WAYS = {"batched": together, "one_by_one": one_by_one}


def _torch_lstm(
    x: Tensor, weights: list[Tensor], hidden: int, directions: int, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return (T, B, dirs · h) and the last cells (B, dirs · h) of one particle."""
    zeros = x.new_zeros(directions, x.shape[1], hidden)
    options = (True, 1, 0.0, True, directions > 1)  # biases, layers, dropout, training
    if lengths is None:
        out, _, cells = torch._VF.lstm(x, (zeros, zeros), weights, *options, False)
    else:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        data, sizes, order, back = packed
        states = (zeros, zeros)
        out, _, cells = torch._VF.lstm(data, sizes, states, weights, *options)
        rows = type(packed)(out, sizes, order, back)
        out, _ = pad_packed_sequence(rows, total_length=len(x))
        assert back is not None  # since lengths were sorted
        cells = cells.index_select(1, back)
    return out, cells.transpose(0, 1).flatten(1)


def _unrounded(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast: a recurrence's products stay in the weights' type."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextmanager
def _unadvised(device: torch.device) -> Iterator[None]:
    """Let cuDNN not warn that weights are copied for each call: those of particles have to be."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield


def _row(lengths: Tensor | None, row: int) -> Tensor | None:
    return None if lengths is None else lengths[row if len(lengths) > 1 else 0]


def _backwards(lengths: Tensor, tokens: int) -> Tensor:
    """Return where each token of the reversed examples comes from: (T, N or 1, B)."""
    places = torch.arange(tokens, device=lengths.device)[:, None, None]
    return torch.where(places < lengths, lengths - 1 - places, places)


def _turned(x: Tensor, index: Tensor | None) -> Tensor:
    """Return (T, N, B, c) with each example's tokens in reverse; padding stays where it is."""
    if index is None:
        return x.flip(0)
    return x.gather(0, index[..., None].expand(x.shape))


class _Cells(torch.autograd.Function):
    """The loop over tokens, and its gradient by hand: autograd's own takes twice the operations.

    gates: (T, N, B, 4h), what inputs and biases give. recurrent: (N, h, 4h). Returns states and
    cells, (T, N, B, h) each.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
        tokens, particles, batch, width = gates.shape
        hidden = width // GATES
        active = torch.empty_like(gates, memory_format=torch.contiguous_format)
        states, cells, bent = (gates.new_empty(tokens, particles, batch, hidden) for _ in range(3))
        with _unrounded(gates.device):
            for t in range(tokens):
                now = active[t]
                if t:
                    torch.baddbmm(gates[t], states[t - 1], recurrent, out=now)
                else:
                    now.copy_(gates[t])
                i, f, g, o = now.unflatten(-1, (GATES, hidden)).unbind(-2)
                now[..., : 2 * hidden].sigmoid_()
                g.tanh_()
                o.sigmoid_()
                torch.mul(i, g, out=cells[t])
                if t:
                    cells[t].addcmul_(f, cells[t - 1])
                torch.tanh(cells[t], out=bent[t])
                torch.mul(o, bent[t], out=states[t])
        ctx.save_for_backward(active, states, cells, bent, recurrent)
        ctx.set_materialize_grads(False)
        return states, cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        active, states, cells, bent, recurrent = ctx.saved_tensors
        from_states, from_cells = gradients
        tokens, hidden = len(states), states.shape[-1]
        i, f, g, o = active.unflatten(-1, (GATES, hidden)).unbind(-2)
        slopes = torch.empty_like(active).unflatten(-1, (GATES, hidden))
        torch.mul(i * g, 1 - i, out=slopes[..., 0, :])
        slopes[0, ..., 1, :] = 0
        torch.mul(cells[:-1] * f[1:], 1 - f[1:], out=slopes[1:, ..., 1, :])
        torch.mul(i, 1 - g * g, out=slopes[..., 2, :])
        torch.mul(bent * o, 1 - o, out=slopes[..., 3, :])
        through = o * (1 - bent * bent)  # from a state to its cell
        found = torch.empty_like(active)
        parts = found.unflatten(-1, (GATES, hidden))
        back = recurrent.transpose(1, 2).contiguous()
        cell = None
        for t in reversed(range(tokens)):
            own = torch.zeros_like(states[t]) if from_states is None else from_states[t]
            state = own if t == tokens - 1 else torch.baddbmm(own, found[t + 1], back)
            cell = (
                state * through[t]
                if cell is None
                else (cell * f[t + 1]).addcmul_(state, through[t])
            )
            if from_cells is not None:
                cell = cell + from_cells[t]
            torch.mul(slopes[t, ..., :3, :], cell.unsqueeze(-2), out=parts[t, ..., :3, :])
            torch.mul(slopes[t, ..., 3, :], state, out=parts[t, ..., 3, :])
        earlier = states[:-1].permute(1, 3, 0, 2).flatten(2)  # (N, h, (T−1) · B)
        later = found[1:].transpose(0, 1).flatten(1, 2)
        return found, torch.bmm(earlier, later)
