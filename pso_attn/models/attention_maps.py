"""How much each token takes from each other one, seen through a plain model's own forward pass.

No mechanism hands out its weights, and some have none; but every one of them is linear in the
values. So values are replaced by the tokens' own numbers, as many tokens at a time as a head is
wide, and what comes out of the heads is what each token takes from each.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from pso_attn.models.plain import PlainModel
from pso_attn.models.plain_attention import Attention


@torch.no_grad()
def attention_maps(model: PlainModel, inputs: Tensor) -> list[Tensor]:
    """Return what each token takes from each other, (B, H, T, T) for each layer in order.

    Rows take from columns. inputs: a batch as `TaskInfo` says; nothing is dropped. Where attention
    is a softmax these are its probabilities. Of linear attention they are its normalised products,
    of low-rank attention what its rows pass on from each token, of retention its factors; the last
    two, and heads that mix, may be negative, and rows then need not sum to one.
    """
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    calls: dict[Attention, tuple[Any, ...]] = {}

    def remember(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(module, Attention)
        calls[module] = arguments

    was_training = model.training
    with ExitStack() as hooks:
        hooks.callback(model.train, was_training)
        model.eval()
        with ExitStack() as watching:
            for layer in layers:
                watching.callback(layer.register_forward_pre_hook(remember).remove)
            model(inputs)
        return [_taken(layer, calls[layer]) for layer in layers]


def _taken(layer: Attention, arguments: Sequence[Any]) -> Tensor:
    """Return (B, H, T, T) of one layer; arguments: of the call that is repeated."""
    settings, tokens = layer.layer, arguments[0].shape[1]
    parts = []
    for first in range(0, tokens, settings.head_dim):
        numbers = torch.eye(tokens, device=arguments[0].device)[
            :, first : first + settings.head_dim
        ]
        parts.append(_heads(layer, arguments, numbers.to(arguments[0]))[..., : numbers.shape[1]])
    return torch.cat(parts, -1)


def _heads(layer: Attention, arguments: Sequence[Any], values: Tensor) -> Tensor:
    """Return what heads make of values (T, at most d) that all examples share, (B, H, T, d)."""
    settings, seen = layer.layer, list[Tensor]()

    def given(_module: nn.Module, _arguments: Any, own: Tensor) -> Tensor:
        wide = own.new_zeros(own.shape[1], settings.head_dim)
        wide[:, : values.shape[1]] = values
        return wide.repeat(1, settings.kv_heads).expand_as(own)

    def kept(_module: nn.Module, joined: tuple[Tensor, ...]) -> None:
        by_head: Tensor = joined[0].unflatten(-1, (settings.heads, -1))
        seen.append(by_head.transpose(1, 2))

    with ExitStack() as hooks:
        hooks.callback(layer.value.register_forward_hook(given).remove)
        hooks.callback(layer.output.register_forward_pre_hook(kept).remove)
        layer(*arguments)
    return seen[0]
