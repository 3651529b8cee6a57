"""Attention by explicit loops over heads, queries and keys, written from the equations alone.

Slow on purpose: no broadcasting over tokens or heads, one score at a time, in the dtype given
(float64), differentiable by autograd. Shapes: q (H, T, d); k, v (G, T, d), where query head h
(from 0) reads key/value head floor(h G / H), Shazeer (2019), Ainslie et al. (2023).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def shared_head(head: int, heads: int, kv_heads: int) -> int:
    """Return the key/value head that a query head reads: floor(h G / H)."""
    return math.floor(head * kv_heads / heads)


def slope(head: int, heads: int) -> float:
    """Return 2^(-8 (h + 1) / H), h from 0: Press et al. (2021), section 3."""
    return 2.0 ** (-8.0 * (head + 1) / heads)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a_c b_c."""
    return (a * b).sum()


def unit(x: Tensor) -> Tensor:
    """Return a vector divided by its length."""
    return x / torch.sqrt((x * x).sum())


def weighted_sum(weights: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """Return the sum of w_j row_j."""
    total = weights[0] * rows[0]
    for weight, row in zip(weights[1:], rows[1:], strict=True):
        total = total + weight * row
    return total


def softmax(scores: Sequence[Tensor], factors: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Return f_j exp(s_j) / sum f_j exp(s_j), with the largest taken out first (it cancels)."""
    largest = max(float(score.detach()) for score in scores)
    each = [torch.ones_like(scores[0])] * len(scores) if factors is None else factors
    powers = [f * torch.exp(score - largest) for score, f in zip(scores, each, strict=True)]
    total = powers[0]
    for power in powers[1:]:
        total = total + power
    return [power / total for power in powers]


def sees(
    i: int, j: int, window: float, causal: bool, dilation: int = 1, block: int = 0, shift: int = 0
) -> bool:
    """Say whether query i may look at key j: |i - j| <= w, causal 0 <= i - j <= w.

    dilation: only at distances that it divides, Beltagy et al. (2020). block: only in the same
    block of so many tokens, the first of them `shift` long if that is not 0; block 0: no blocks.
    """
    if block and (i - shift) // block != (j - shift) // block:
        return False
    if abs(i - j) % dilation:
        return False
    return 0 <= i - j <= window if causal else abs(i - j) <= window


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    temperature: Sequence[float] | Tensor,
    decay: Sequence[float],
    window: Sequence[float],
    causal: bool,
    dropout: Tensor | None = None,
    unit_scale: Tensor | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    top: int | None = None,
    alpha: float | None = None,
    mix: tuple[Tensor, Tensor] | None = None,
    dilation: Sequence[int] | None = None,
    block: int = 0,
    shift: int = 0,
    span: Tensor | None = None,
) -> Tensor:
    """Return (H, T, d): softmax over the keys in sight of q k / (sqrt(d) tau_h) - c_h m_h |i - j|.

    temperature, decay, window, dilation: one number a head; a temperature may also be (H, T), one
    for each query. dropout: (H, T, T), factors of probabilities. block, shift: as `sees` has them.
    unit_scale: (H,), what products of unit vectors are multiplied by instead of 1 / sqrt(d), Henry
    et al. (2020). cap: products are c tanh(p / c), Gemma 2 (2024). sink: (H,), a logit more in the
    denominator, Xiao et al. (2023). top: how many keys survive, of the largest scores.
    alpha: weights are its entmax, Peters et al. (2019). mix: (H, H) each, heads talk, Shazeer et
    al. (2020), section 4. span: (H,), in tokens, how far heads look before exponentials fade over
    min(32, T / 2) tokens, Sukhbaatar et al. (2019).
    Vaswani et al. (2017), eq. 1; Hinton et al. (2015); Press et al. (2021); Beltagy et al. (2020).
    """
    heads, length, width = q.shape

    def product(h: int, i: int, j: int) -> Tensor:
        g = shared_head(h, heads, len(k))
        tau = temperature[h][i] if isinstance(temperature, Tensor) else temperature[h]
        if unit_scale is None:
            found = dot(q[h, i], k[g, j]) / (math.sqrt(width) * tau)
        else:
            found = unit_scale[h] * dot(unit(q[h, i]), unit(k[g, j])) / tau
        return found if cap is None else cap * torch.tanh(found / cap)

    def left(h: int, i: int, j: int) -> Tensor:
        """Return what multiplies an exponential: min(max((R + z - |i - j|) / R, 0), 1)."""
        ramp, one = min(32.0, length / 2), q.new_tensor(1.0)
        found = one if span is None else (ramp + span[h] - abs(i - j)) / ramp
        return one if float(found.detach()) > 1 else max(found, 0 * one)

    def weights_of(h: int, i: int) -> dict[int, Tensor]:
        step = 1 if dilation is None else dilation[h]
        keys = [j for j in range(length) if sees(i, j, window[h], causal, step, block, shift)]
        keys = [j for j in keys if float(left(h, i, j).detach()) > 0]
        scores = []
        for j in keys:
            if mix is None:
                found = product(h, i, j)
            else:
                found = sum(
                    (mix[0][f, h] * product(f, i, j) for f in range(heads)), torch.tensor(0)
                )
            scores.append(found - decay[h] * slope(h, heads) * abs(i - j))
        factors = [left(h, i, j) for j in keys]
        if top is not None and top < len(scores):
            sizes = [
                float(score.detach()) + math.log(float(factor.detach()))
                for score, factor in zip(scores, factors, strict=True)
            ]
            least = sorted(sizes, reverse=True)[top - 1]
            chosen = [n for n, size in enumerate(sizes) if size >= least]
            keys, scores = [keys[n] for n in chosen], [scores[n] for n in chosen]
            factors = [factors[n] for n in chosen]
        if alpha is not None:
            return dict(zip(keys, entmax(scores, alpha), strict=True))
        logits = [*scores, *([] if sink is None else [sink[h]])]
        weights = softmax(logits, [*factors, q.new_tensor(1.0)][: len(logits)])
        return dict(zip(keys, weights, strict=False))

    output = []
    for h in range(heads):
        g = shared_head(h, heads, len(k))
        rows = []
        for i in range(length):
            weights = weights_of(h, i)
            if mix is not None:
                each = [weights_of(f, i) for f in range(heads)]
                weights = {
                    j: sum((mix[1][f, h] * w[j] for f, w in enumerate(each) if j in w), 0.0)
                    for j in sorted(set().union(*each))
                }
            if dropout is not None:
                weights = {j: weight * dropout[h, i, j] for j, weight in weights.items()}
            rows.append(weighted_sum(list(weights.values()), [v[g, j] for j in weights]))
        output.append(torch.stack(rows))
    return torch.stack(output)


def entmax(scores: Sequence[Tensor], alpha: float) -> list[Tensor]:
    """Return [(alpha - 1) s - tau]_+^(1 / (alpha - 1)), tau by bisection, summing to one.

    Peters et al. (2019). The derivative of tau is that of the sum, which stays at one.
    """
    power = 1.0 / (alpha - 1.0)
    scaled = [score * (alpha - 1.0) for score in scores]
    values = [float(score.detach()) for score in scaled]
    low, high = max(values) - 1.0, max(values)
    for _ in range(200):
        middle = (low + high) / 2
        is_low = sum(max(value - middle, 0.0) ** power for value in values) >= 1.0
        low, high = (middle, high) if is_low else (low, middle)
    support = [n for n, value in enumerate(values) if value > low]
    slopes = [(values[n] - low) ** (power - 1.0) for n in support]
    moved = weighted_sum([scores[0].new_tensor(s) for s in slopes], [scaled[n] for n in support])
    tau = low + (moved - moved.detach()) / sum(slopes)
    return [
        (score - tau) ** power if n in support else 0.0 * score for n, score in enumerate(scaled)
    ]


def turned(x: Tensor, place: int, base: float) -> Tensor:
    """Return a query or key turned by its place: Su et al. (2021), eqs. 14 and 15.

    Column c and column c + d/2 are a pair, c from 0, turned by the angle t base^(-2c/d).
    """
    half = len(x) // 2
    first, second = [], []
    for c in range(half):
        angle = place * base ** (-2.0 * c / len(x))
        first.append(math.cos(angle) * x[c] - math.sin(angle) * x[c + half])
        second.append(math.sin(angle) * x[c] + math.cos(angle) * x[c + half])
    return torch.stack(first + second)


def feature(x: Tensor) -> Tensor:
    """Return elu(x) + 1, Katharopoulos et al. (2020), eq. 7: x + 1 above zero, exp(x) below."""
    return torch.stack([c + 1.0 if float(c.detach()) > 0 else torch.exp(c) for c in x])


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, epsilon: float = 0.0
) -> Tensor:
    """Return (H, T, d): sum_j phi(q_i) phi(k_j) v_j / sum_j phi(q_i) phi(k_j), causal over j <= i.

    Katharopoulos et al. (2020), eq. 4 and, causal, eq. 9. epsilon: added to the denominator, which
    the paper does not do.
    """
    heads, length, _ = q.shape
    output = []
    for h in range(heads):
        g = shared_head(h, heads, len(k))
        queries = [feature(q[h, i]) for i in range(length)]
        keys = [feature(k[g, j]) for j in range(length)]
        rows = []
        for i in range(length):
            sight = range(i + 1) if causal else range(length)
            weights = [dot(queries[i], keys[j]) for j in sight]
            total = weights[0] + epsilon
            for weight in weights[1:]:
                total = total + weight
            rows.append(weighted_sum(weights, [v[g, j] for j in sight]) / total)
        output.append(torch.stack(rows))
    return torch.stack(output)


def low_rank_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    shorten_keys: Tensor,
    shorten_values: Tensor,
    *,
    temperature: Sequence[float],
    dropout: Tensor | None = None,
) -> Tensor:
    """Return (H, T, d): softmax(q (E k)^T / (sqrt(d) tau_h)) (F v).

    shorten_keys E, shorten_values F: (r, T), the same for every head. dropout: (H, T, r).
    Wang et al. (2020), eq. 7. It is not causal: each of the r rows mixes all tokens.
    """
    heads, length, width = q.shape
    output = []
    for h in range(heads):
        g = shared_head(h, heads, len(k))
        keys = [weighted_sum(list(row), list(k[g])) for row in shorten_keys]
        values = [weighted_sum(list(row), list(v[g])) for row in shorten_values]
        rows = []
        for i in range(length):
            scores = [dot(q[h, i], key) / (math.sqrt(width) * temperature[h]) for key in keys]
            weights = softmax(scores)
            if dropout is not None:
                weights = [w * dropout[h, i, r] for r, w in enumerate(weights)]
            rows.append(weighted_sum(weights, values))
        output.append(torch.stack(rows))
    return torch.stack(output)


def retention(q: Tensor, k: Tensor, v: Tensor, *, forgetting: Sequence[float]) -> Tensor:
    """Return (H, T, d) by the recurrence S_n = gamma S_{n-1} + k_n v_n, o_n = q_n S_n / sqrt(d).

    Divided by the root of 1 + gamma + ... + gamma^(n-1). Sun et al. (2023), eq. 6 and section 2.2;
    gamma_h = 1 - f_h 2^(-5-h), h from 0.
    """
    heads, length, width = q.shape
    output = []
    for h in range(heads):
        g = shared_head(h, heads, len(k))
        gamma = 1.0 - forgetting[h] * 2.0 ** (-5 - h)
        state = torch.zeros(width, width, dtype=q.dtype)
        rows, total = [], 0.0
        for n in range(length):
            total = gamma * total + 1.0
            state = gamma * state + k[g, n][:, None] * v[g, n][None, :]
            rows.append(q[h, n] @ state / math.sqrt(width * total))
        output.append(torch.stack(rows))
    return torch.stack(output)


def block_low_rank_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    shorten_keys: Tensor,
    shorten_values: Tensor,
    *,
    temperature: Sequence[float] | Tensor,
    causal: bool,
    dropout: Tensor | None = None,
    unit_scale: Tensor | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """Return (H, T, d): one softmax over tokens of near blocks and r rows of each far one.

    shorten_keys E, shorten_values F: (r, n), the same for every block of n tokens and head; a last
    block that is shorter uses their first columns. dropout: (H, T, T + blocks r).
    """
    heads, length, width = q.shape
    rank, block = shorten_keys.shape
    count = math.ceil(length / block)
    output = []
    for h in range(heads):
        g = shared_head(h, heads, len(k))
        rows = []
        for i in range(length):
            own, sources = i // block, []  # (place among the weights, key, value)
            for j in range(length):
                if abs(j // block - own) <= 1 and (not causal or j <= i):
                    sources.append((j, k[g, j], v[g, j]))
            for b in range(count):
                if (own - b if causal else abs(own - b)) < 2:
                    continue
                inside = range(b * block, min((b + 1) * block, length))
                for r in range(rank):
                    key = weighted_sum(
                        [shorten_keys[r, j - b * block] for j in inside], list(k[g][list(inside)])
                    )
                    value = weighted_sum(
                        [shorten_values[r, j - b * block] for j in inside],
                        list(v[g][list(inside)]),
                    )
                    sources.append((length + b * rank + r, key, value))
            tau = temperature[h][i] if isinstance(temperature, Tensor) else temperature[h]
            scores = []
            for _, key, _ in sources:
                if unit_scale is None:
                    product = dot(q[h, i], key) / (math.sqrt(width) * tau)
                else:
                    product = unit_scale[h] * dot(unit(q[h, i]), unit(key)) / tau
                scores.append(product if cap is None else cap * torch.tanh(product / cap))
            weights = softmax([*scores, *([] if sink is None else [sink[h]])])[: len(sources)]
            if dropout is not None:
                weights = [w * dropout[h, i, s[0]] for w, s in zip(weights, sources, strict=True)]
            rows.append(weighted_sum(weights, [value for _, _, value in sources]))
        output.append(torch.stack(rows))
    return torch.stack(output)
