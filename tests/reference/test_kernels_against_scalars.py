"""Every mechanism's tensor kernel against loops over heads, queries and keys, in float64."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from scalar_attention import (
    linear_attention,
    low_rank_attention,
    retention,
    shared_head,
    softmax_attention,
)
from scalar_transformer import FORMS
from torch import Tensor

from pso_attn.attention import MECHANISMS, LayerSettings, Noise
from pso_attn.attention import linear as linear_kernel
from pso_attn.attention.span import Fading, Span
from pso_attn.counter import DropRates, dropout_scale, keys
from pso_attn.testing.mechanisms import make_layer, scaled

TOLERANCE = 1e-12  # of the largest entry, or of one
EPSILON = 1e-6  # what the linear kernel adds to its denominators, as its authors' code does
HEADS, WIDTH, EXAMPLES = 4, 3, 2

Scalar = Callable[[LayerSettings, Tensor, Tensor, Tensor, Tensor | None], Tensor]


def test_every_mechanism_has_a_scalar_form() -> None:
    """Compared here, or with what it learns, as part of a whole model."""
    assert set(FORMS) == set(MECHANISMS)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 12])
def test_sparse_equals_the_scalar_form_in_value_and_gradient(length: int, causal: bool) -> None:
    for alphas in ((1.05, 1.3, 1.9), (1.5,), (2.0,)):  # those that share a kernel
        members = [
            layer("sparse", entmax_alpha=alpha, temperature=(0.05, 0.4, 1.7, 6.1))
            for alpha in alphas
        ]
        check(members, length, causal, scalar_softmax(causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_top_k_equals_the_scalar_form_in_value_and_gradient(length: int, causal: bool) -> None:
    members = [
        layer("top_k", top_k=1),
        layer("top_k", top_k=3, temperature=(0.3, 0.9, 1.7, 6.1), kv_heads=2),
        layer("top_k", top_k=100, decay=(0.0, 0.4, 1.3, 4.0), kv_heads=1),
        layer("top_k", top_k=2, window_tokens=(0, 1, length - 1, length + 5)),
    ]
    check(members, length, causal, scalar_softmax(causal))


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_parallel_retention_equals_the_recurrence_in_value_and_gradient(length: int) -> None:
    members = [
        make_layer("retention", causal=True, heads=2, head_dim=WIDTH, forgetting=forgetting)
        for forgetting in (0.0, 1.0, (0.25, 16.0), 31.0)
    ]

    def scalar(m: LayerSettings, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return retention(q, k, v, forgetting=m.forgetting)

    check(members, length, True, scalar)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_softmax_equals_the_scalar_form_in_value_and_gradient(length: int, causal: bool) -> None:
    members = [
        layer("softmax"),
        layer("softmax", temperature=(0.3, 0.9, 1.7, 6.1), kv_heads=2),
        layer("softmax", decay=(0.0, 0.4, 1.3, 4.0), kv_heads=1),
        layer("softmax", window_tokens=(0, 1, length - 1, length + 5)),
        layer("softmax", temperature=(0.7,) * 4, decay=(2.1,) * 4, window_tokens=(2,) * 4),
    ]
    check(members, length, causal, scalar_softmax(causal))


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_equals_the_scalar_form_at_the_ends_of_the_admitted_temperatures(
    causal: bool,
) -> None:
    members = [
        layer("softmax", temperature=(1e-3, 1e3, 1e-2, 1e2)),
        layer("softmax", temperature=(1e-3,) * 4, decay=(1e3,) * 4),
    ]
    check(members, 7, causal, scalar_softmax(causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("mechanism", ["softmax", "top_k"])
def test_spans_fade_keys_as_the_scalar_form_does_in_value_and_gradient(
    mechanism: str, length: int, causal: bool
) -> None:
    """Spans of nothing, of a part and of more than all, of either sign."""
    spans = [[0.0, 0.08, 0.3, 0.77], [-0.21, 0.64, 1.4, -1e-3]]
    stated = {"heads": 4, "head_dim": WIDTH, "top_k": 3, "temperature": (0.2, 1.0, 3.0, 1.0)}
    members = [
        make_layer(mechanism, **stated, adaptive_span=True, window_tokens=(1, 4, 9, 9)),
        make_layer(mechanism, **stated),
        make_layer(mechanism, **stated, adaptive_span=True, decay=0.3),
    ]
    q, k, v = operands(members, length, examples=1)
    learned = torch.tensor(spans, dtype=torch.float64, requires_grad=True)
    kernel = MECHANISMS[mechanism](members, length, causal, q)
    found = kernel(scaled(kernel, q), k, v, None, {"span": [learned[:1], learned[1:]]})
    owned = [learned[0].abs() * length, None, learned[1].abs() * length]
    truth = torch.stack(
        [
            softmax_attention(
                q[p, 0],
                k[p, 0],
                v[p, 0],
                temperature=m.sharpness.temperature,
                decay=m.sight.decay,
                window=m.sight.window_tokens or (length,) * 4,
                causal=causal,
                top=m.top_k if mechanism == "top_k" else None,
                span=owned[p],
            )
            for p, m in enumerate(members)
        ]
    )[:, None]
    assert distance(found, truth) <= TOLERANCE
    pull = torch.randn(truth.shape, generator=torch.Generator().manual_seed(3)).double()
    inputs = (q, k, v, learned)
    gradients = torch.autograd.grad(found, inputs, pull, materialize_grads=True)
    expected = torch.autograd.grad(truth, inputs, pull, materialize_grads=True)
    for gradient, reference in zip(gradients, expected, strict=True):
        assert bool(gradient.isfinite().all())
        assert distance(gradient, reference) <= TOLERANCE
    assert length < 7 or bool((gradients[-1] != 0).any())


def test_over_a_long_sequence_spans_fade_within_the_authors_ramp() -> None:
    spans = torch.tensor([[0.0, 0.13, 0.5, 0.9]], dtype=torch.float64)
    masks = Fading([Span(learned=True)], 4, 100, spans)({"span": [spans]}).exp()[0, 0]
    for h, i, j in product(range(4), range(0, 100, 7), range(0, 100, 9)):
        left = min(max((32 + 100 * float(spans[0, h]) - abs(i - j)) / 32, 0), 1)
        assert abs(float(masks[h, i, j]) - left) <= TOLERANCE


@pytest.mark.parametrize("heads", [1, 3, 6])
def test_slopes_hold_for_any_number_of_heads(heads: int) -> None:
    members = [
        layer("softmax", heads=heads, kv_heads=heads // shared, decay=(1.5,) * heads)
        for shared in range(1, heads + 1)
        if heads % shared == 0
    ]
    check(members, 5, True, scalar_softmax(True))


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_drops_the_weights_of_its_own_coordinates(causal: bool) -> None:
    members = [
        layer("softmax", attention_dropout=0.3, temperature=(0.6,) * 4),
        layer("softmax", attention_dropout=0.0, window_tokens=(1,) * 4),
        layer("softmax", attention_dropout=0.9, kv_heads=2),
    ]
    check(members, 5, causal, scalar_softmax(causal), seeds=[3, 4, 5])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_linear_equals_the_scalar_form_in_value_and_gradient(length: int, causal: bool) -> None:
    members = [layer("linear", kv_heads=kv_heads) for kv_heads in (4, 2, 1)]
    check(members, length, causal, scalar_linear(causal))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6, 7, 9, 10])
def test_the_causal_scan_is_right_at_and_around_the_borders_of_its_blocks(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_kernel, "BLOCK_TOKENS", 3)
    check([layer("linear")], length, True, scalar_linear(True))


def test_the_causal_scan_is_right_over_several_whole_blocks() -> None:
    assert 2 * linear_kernel.BLOCK_TOKENS < 130
    narrow = layer("linear", heads=1, kv_heads=1, head_dim=1)
    check([narrow], 130, True, scalar_linear(True), examples=1)


@pytest.mark.parametrize("causal", [False, True])
def test_what_guards_linears_denominator_is_too_small_to_matter_for_ordinary_inputs(
    causal: bool,
) -> None:
    """The reference above has the guard; the paper's equation has none."""
    q, k, v = (x.detach() for x in operands([layer("linear")], 7))
    found = MECHANISMS["linear"]([layer("linear")], 7, causal, q)(q, k, v, None)
    truth = linear_attention(q[0, 0], k[0, 0], v[0, 0], causal=causal)
    assert 0 < distance(found[0, 0], truth) <= EPSILON


@pytest.mark.parametrize(("length", "rank"), [(1, 1), (2, 1), (7, 3), (7, 7)])
def test_low_rank_equals_the_scalar_form_in_value_and_gradient(length: int, rank: int) -> None:
    members = [
        layer("low_rank", rank=rank),
        layer("low_rank", rank=rank, temperature=(0.3, 0.9, 1.7, 6.1), kv_heads=2),
        layer("low_rank", rank=rank, temperature=(1e-2, 1e2, 1.0, 1.0), kv_heads=1),
    ]
    rng = torch.Generator().manual_seed(2)
    shorten = torch.randn(2, rank, length, generator=rng, dtype=torch.float64)

    def scalar(m: LayerSettings, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return low_rank_attention(
            q, k, v, *shorten, temperature=m.sharpness.temperature, dropout=mask
        )

    check(members, length, False, scalar, shorten=shorten)


def test_low_rank_drops_the_weights_of_its_own_coordinates() -> None:
    members = [
        layer("low_rank", rank=2, attention_dropout=0.4),
        layer("low_rank", rank=2, attention_dropout=0.0),
    ]
    rng = torch.Generator().manual_seed(2)
    shorten = torch.randn(2, 2, 5, generator=rng, dtype=torch.float64)

    def scalar(m: LayerSettings, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return low_rank_attention(
            q, k, v, *shorten, temperature=m.sharpness.temperature, dropout=mask
        )

    check(members, 5, False, scalar, shorten=shorten, seeds=[8, 9])


def layer(mechanism: str, **changes: object) -> LayerSettings:
    """Return the settings of a plain layer of that mechanism, with changes."""
    return make_layer(mechanism, **{"heads": HEADS, "head_dim": WIDTH, **changes})


def scalar_softmax(causal: bool) -> Scalar:
    def scalar(m: LayerSettings, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return softmax_attention(
            q,
            k,
            v,
            temperature=m.sharpness.temperature,
            decay=m.sight.decay,
            window=m.sight.window_tokens or (q.shape[1],) * m.heads,
            causal=causal,
            dropout=mask,
            alpha=m.entmax_alpha if m.mechanism == "sparse" else None,
            top=m.top_k if m.mechanism == "top_k" else None,
        )

    return scalar


def scalar_linear(causal: bool) -> Scalar:
    def scalar(m: LayerSettings, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return linear_attention(q, k, v, causal=causal, epsilon=EPSILON)

    return scalar


def operands(
    members: Sequence[LayerSettings], length: int, examples: int = EXAMPLES
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k, v (P, B, H, T, d); of k and v the first kv_heads heads are a particle's own."""
    rng = torch.Generator().manual_seed(1)
    heads, width = members[0].heads, members[0].head_dim
    shape = (3, len(members), examples, heads, length, width)
    q, k, v = torch.randn(shape, generator=rng, dtype=torch.float64)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def check(
    members: Sequence[LayerSettings],
    length: int,
    causal: bool,
    scalar: Scalar,
    shorten: Tensor | None = None,
    seeds: Sequence[int] | None = None,
    examples: int = EXAMPLES,
) -> None:
    """Assert that kernel and scalar form agree in value and in the gradients of q, k and v."""
    q, k, v = operands(members, length, examples)
    shared = torch.tensor(
        [[shared_head(h, m.heads, m.kv_heads) for h in range(m.heads)] for m in members]
    )
    index = shared[:, None, :, None, None].expand_as(k)
    kernel_k, kernel_v = k.gather(2, index), v.gather(2, index)
    if shorten is not None:
        kernel_k, kernel_v = shorten[0] @ kernel_k, shorten[1] @ kernel_v
    noise, masks = None, None
    if seeds is not None:
        noise, masks = dropped(members, kernel_k.shape[-2], length, seeds)
    kernel = MECHANISMS[members[0].mechanism](members, length, causal, q)
    found = kernel(scaled(kernel, q), kernel_k, kernel_v, noise)
    truth = torch.stack(
        [
            torch.stack(
                [
                    scalar(m, q[p, b], k[p, b, : m.kv_heads], v[p, b, : m.kv_heads], mask)
                    for b, mask in enumerate([None] * examples if masks is None else masks[p])
                ]
            )
            for p, m in enumerate(members)
        ]
    )
    assert distance(found, truth) <= TOLERANCE
    rng = torch.Generator().manual_seed(3)
    pull = torch.randn(truth.shape, generator=rng, dtype=torch.float64)
    gradients = torch.autograd.grad(found, [q, k, v], pull, materialize_grads=True)
    expected = torch.autograd.grad(truth, [q, k, v], pull, materialize_grads=True)
    for gradient, reference in zip(gradients, expected, strict=True):
        assert distance(gradient, reference) <= TOLERANCE


def dropped(
    members: Sequence[LayerSettings], rows: int, length: int, seeds: Sequence[int]
) -> tuple[Noise, Tensor]:
    """Return the noise for a kernel, and its masks drawn for one particle at a time."""
    rates = torch.tensor([m.drops.weights for m in members], dtype=torch.float64)
    key = keys(torch.tensor(seeds).numpy(), 1, 1)[0, 0]
    shape = (EXAMPLES, members[0].heads, length, rows)
    masks = [
        dropout_scale(key[p : p + 1], DropRates.of(rates[p : p + 1]), shape)[0]
        for p in range(len(seeds))
    ]
    return Noise(key, DropRates.of(rates)), torch.stack(masks)


def distance(found: Tensor, truth: Tensor) -> float:
    """Return the largest difference, relative to the largest entry if that is above one."""
    largest = truth.detach().abs().max().clamp(min=1.0)
    return float((found - truth).detach().abs().max() / largest)
