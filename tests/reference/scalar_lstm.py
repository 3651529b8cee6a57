"""An LSTM with attention over its states, one example and one number at a time.

It reads a particle's settings as a space file gives them, and weights by torch's names with the
(in, out) shapes that storage gives them; it shares no code with the models that it checks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

Vector = list[float]
Weights = Mapping[str, Any]  # lists of numbers, or lists of rows


def logits(
    settings: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    inputs: Tensor,
    length: int,
    masks: Sequence[Tensor],
) -> tuple[Vector, float]:
    """Return one example's answers, and what its weights add to the loss.

    inputs: (T,) ids or (T, features), of which the first `length` count. masks: for each layer
    what multiplies its states, (T, d).
    """
    weights: Weights = {name: value.tolist() for name, value in stored.items()}
    x = embedded(weights, inputs[:length])
    states, last, memory = encoded(settings, weights, x, masks)
    read, penalty = attended(settings, weights, states, last, memory, length)
    if settings.get("last_state"):
        read = read + last
    return added(product(read, weights["head"]), weights["head_bias"]), penalty


def decoded(
    settings: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    inputs: Tensor,
    horizon: int,
    masks: Sequence[Tensor],
) -> list[Vector]:
    """Return one example's answers at each step of a decoder.

    inputs: as above, the last `horizon` of them the decoder's. masks: the decoder's comes last.
    """
    weights: Weights = {name: value.tolist() for name, value in stored.items()}
    x = embedded(weights, inputs)
    source, targets = x[:-horizon], x[-horizon:]
    states, last, _ = encoded(settings, weights, source, masks[:-1])
    state = [math.tanh(a) for a in product(last, weights["bridge"])]
    found = lstm(targets, weights, "decoder", "", state)
    said = [
        [h * float(masks[-1][t, c]) for c, h in enumerate(row)] for t, (row, _) in enumerate(found)
    ]
    answers = []
    for t, asks in enumerate(said):
        before = found[t - 1][0] if t else state
        memory = [(targets[t], before, found[t][1])]
        seen = states
        if settings.get("bidirectional_attention"):
            seen = flowed(weights, states, said[:t])
        place = min(t + 1, len(states))
        read, _ = attended(settings, weights, seen, asks, memory, place)
        answers.append(added(product(read + asks, weights["head"]), weights["head_bias"]))
    return answers


def flowed(weights: Weights, states: list[Vector], earlier: list[Vector]) -> list[Vector]:
    """Return the states fused with what they see of a decoder (Seo et al. 2016, eqs. 1-4)."""
    own, fuse = weights["attention.flow_score"], weights["attention.flow_map"]
    zeros = [0.0] * len(states[0])
    scores = [
        [total([w * v for w, v in zip(own, h + s + times(h, s), strict=True)]) for s in earlier]
        for h in states
    ]
    seen = [mixed(softmax(row), earlier) if earlier else zeros for row in scores]
    whole = mixed(softmax([max(row) for row in scores]), states) if earlier else zeros
    return [
        product(h + u + times(h, u) + times(h, whole), fuse)
        for h, u in zip(states, seen, strict=True)
    ]


def embedded(weights: Weights, inputs: Tensor) -> list[Vector]:
    table = weights.get("embedding")
    return [row if table is None else table[row] for row in inputs.tolist()]


def encoded(
    settings: Mapping[str, Any], weights: Weights, x: list[Vector], masks: Sequence[Tensor]
) -> tuple[list[Vector], Vector, list[tuple[Vector, Vector, Vector]]]:
    """Return the states, the last ones of all directions, and what a sentinel is made of."""
    ways, length = ("", "_reverse") if settings["bidirectional"] else ("",), len(x)
    for layer, mask in enumerate(masks):
        below, sides = x, []
        for way in ways:
            order = list(range(length))[:: -1 if way else 1]
            found = lstm([below[t] for t in order], weights, f"encoder.{layer}", way)
            sides.append([found[order.index(t)] for t in range(length)])
        states = [[h for side in sides for h in side[t][0]] for t in range(length)]
        x = [[h * float(mask[t, c]) for c, h in enumerate(row)] for t, row in enumerate(states)]
    ends, hidden = [length - 1, 0][: len(ways)], settings["hidden"]
    last = [x[end][k * hidden + c] for k, end in enumerate(ends) for c in range(hidden)]
    memory = []
    for k, end in enumerate(ends):
        earlier = end - 1 if k == 0 else end + 1
        before = sides[k][earlier][0] if 0 <= earlier < length else [0.0] * hidden
        memory.append((below[end], before, sides[k][end][1]))
    return x, last, memory


def lstm(
    inputs: list[Vector], weights: Weights, layer: str, way: str, start: Vector | None = None
) -> list[tuple[Vector, Vector]]:
    """Return the state and the cell after each token (torch.nn.LSTM, its order of gates)."""
    hidden = len(weights[f"{layer}.weight_hh_l0{way}"])
    cell, found = [0.0] * hidden, []
    state = cell if start is None else start
    for x in inputs:
        gates = added(
            product(x, weights[f"{layer}.weight_ih_l0{way}"]), weights[f"{layer}.bias_ih_l0{way}"]
        )
        own = added(
            product(state, weights[f"{layer}.weight_hh_l0{way}"]),
            weights[f"{layer}.bias_hh_l0{way}"],
        )
        gates = added(gates, own)
        i, f, g, o = (gates[k * hidden : (k + 1) * hidden] for k in range(4))
        cell = [sigmoid(f[c]) * cell[c] + sigmoid(i[c]) * math.tanh(g[c]) for c in range(hidden)]
        state = [sigmoid(o[c]) * math.tanh(cell[c]) for c in range(hidden)]
        found.append((state, cell))
    return found


def attended(
    settings: Mapping[str, Any],
    weights: Weights,
    states: list[Vector],
    last: Vector,
    memory: list[tuple[Vector, Vector, Vector]],
    place: int,
) -> tuple[Vector, float]:
    """Return what attention over states returns, and the penalty of its weights."""
    own = {
        name.removeprefix("attention."): value
        for name, value in weights.items()
        if name.startswith("attention.")
    }
    if settings["score"] == "self_attentive":
        scored = [
            product([math.tanh(a) for a in product(h, own["key_map"])], own["score"])
            for h in states
        ]
        rows = [softmax([row[r] for row in scored]) for r in range(settings.get("hops", 1))]
        read = [mean for row in rows for mean in mixed(row, states)]
        return read, settings.get("hop_penalty", 0.0) * apart(rows)
    query = own["query"] if settings.get("query") == "learned" else last
    heads, width = settings.get("heads", 1), len(last)
    sentinel = None
    if settings.get("sentinel"):
        sentinel = [s for k, part in enumerate(memory) for s in gated(own, part, "_reverse" * k)]
    read = []
    for head in range(heads):
        part = range(head * width // heads, (head + 1) * width // heads)
        scores = [score(settings, own, query, h, "key_map", head, heads) for h in states]
        fades = [1.0] * len(states)
        seen = list(range(len(states)))
        if settings.get("local", "none") != "none":
            centre, fades = placed(settings, own, query, len(states), place)
            seen = [t for t in seen if abs(t + 1 - centre) <= settings["window_tokens"]]
        values = [[states[t][c] for c in part] for t in seen]
        asked = [scores[t] for t in seen]
        if sentinel is not None:
            asked.append(score(settings, own, query, sentinel, "sentinel_map", head, heads))
            values.append([sentinel[c] for c in part])
        shares = softmax(asked)
        faded = [share * fades[t] for share, t in zip(shares, seen, strict=False)]
        read += mixed(faded + shares[len(seen) :], values)
    return read, 0.0


def score(
    settings: Mapping[str, Any],
    own: Weights,
    query: Vector,
    state: Vector,
    key_map: str,
    head: int,
    heads: int,
) -> float:
    """Return one head's score of one state: Bahdanau et al. 2014, Luong et al. 2015."""
    if settings["score"] in ("additive", "concat"):
        asked, held = product(query, own["query_map"]), product(state, own[key_map])
        inside = [math.tanh(a + b) * v for a, b, v in zip(asked, held, own["score"], strict=True)]
    else:
        asked = product(query, own["general"]) if settings["score"] == "general" else query
        inside = [a * b for a, b in zip(asked, state, strict=True)]
    size = len(inside) // heads
    return total(inside[head * size : (head + 1) * size])


def placed(
    settings: Mapping[str, Any], own: Weights, query: Vector, length: int, place: int
) -> tuple[float, Vector]:
    """Return where a query looks, from 1, and how weights fade (Luong et al., eqs. 9, 10)."""
    if settings["local"] == "monotonic":
        return place, [1.0] * length
    inside = [math.tanh(a) for a in product(query, own["place_map"])]
    centre = length * sigmoid(total([a * v for a, v in zip(inside, own["place"], strict=True)]))
    deviation = settings["window_tokens"] / 2
    fades = [math.exp(-((t - centre) ** 2) / (2 * deviation**2)) for t in range(1, length + 1)]
    return centre, fades


def gated(own: Weights, memory: tuple[Vector, Vector, Vector], way: str) -> Vector:
    """Return the sentinel of one direction (Lu et al. 2016, eqs. 9, 10)."""
    inputs, before, cell = memory
    asked = added(
        product(inputs, own[f"sentinel_input{way}"]), product(before, own[f"sentinel_state{way}"])
    )
    return [sigmoid(a) * math.tanh(c) for a, c in zip(asked, cell, strict=True)]


def apart(rows: list[Vector]) -> float:
    """Return the squared Frobenius norm of A Aᵀ − I (Lin et al. 2017, eq. 8)."""
    norm = 0.0
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            product_ij = total([a * b for a, b in zip(one, other, strict=True)])
            norm = norm + (product_ij - float(i == j)) ** 2
    return norm


def softmax(scores: Vector) -> Vector:
    powers = [math.exp(one - max(scores)) for one in scores]
    return [power / total(powers) for power in powers]


def mixed(shares: Vector, rows: list[Vector]) -> Vector:
    columns = range(len(rows[0]))
    return [total([s * row[c] for s, row in zip(shares, rows, strict=True)]) for c in columns]


def product(row: Vector, matrix: list[Vector]) -> Vector:
    columns = range(len(matrix[0]))
    return [total([a * matrix[k][c] for k, a in enumerate(row)]) for c in columns]


def added(one: Vector, other: Vector) -> Vector:
    return [a + b for a, b in zip(one, other, strict=True)]


def times(one: Vector, other: Vector) -> Vector:
    return [a * b for a, b in zip(one, other, strict=True)]


def total(values: Vector) -> float:
    return math.fsum(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
