"""The pictures of a search for weights: drawn where there is something to see, else a sentence."""

from collections.abc import Sequence

from pso_attn.report import weight_plots
from pso_attn.report.components import components
from pso_attn.report.findings import Findings
from pso_attn.report.inputs import MatrixPair, ReportInput, SearchedWeights
from pso_attn.report.picture import Picture, drawn, missing
from pso_attn.report.words import count, number

MOST_MATRICES = 8
_ROUNDING = 1e-6
_NOTHING = "The run's folder holds no model yet, or holds it no longer, so there is none to show."


def weight_pictures(run: ReportInput, found: Findings) -> tuple[Picture, ...]:
    """Return the pictures that only a search for weights has."""
    assert run.weights is not None
    return (_matrices(run.weights), _attention(run), _heads(run), _swarm(run, found))


def _matrices(weights: SearchedWeights) -> Picture:
    title = "Matrices before and after"
    shown, said = chosen(weights.matrices)
    if not shown:
        return missing("matrices", title, _NOTHING)
    moved = ", ".join(f"{pair.name} {_moved(pair)}" for pair in shown)
    rounded = "" if weights.quantise == "none" else f", rounded to {weights.quantise}"
    return drawn(
        "matrices",
        title,
        f"Heat maps of {len(shown)} of the searched matrices before the search, after it, and of "
        f"the difference. How far each moved: {moved}.",
        f"As the model uses them{rounded}; rows are inputs, columns outputs, and all share one "
        f"scale of colours. {said}How far each moved, as a share of its size before: {moved}. "
        f"After: the best particle, trial {weights.trial}.",
        weight_plots.matrices(shown),
    )


def chosen(pairs: Sequence[MatrixPair]) -> tuple[list[MatrixPair], str]:
    """Return the matrices that are shown, at most eight, and which those are, in words."""
    if len(pairs) <= MOST_MATRICES:
        return list(pairs), ""
    attending = [pair for pair in pairs if pair.name.endswith(("Wq", "Wk", "Wv", "Wo"))]
    among = attending if len(attending) >= MOST_MATRICES else list(pairs)
    half = MOST_MATRICES // 2
    kind = "of attention" if among is attending else "searched"
    return (
        [*among[:half], *among[-half:]],
        f"Of {len(pairs)} matrices the first {half} and the last {half} {kind} are shown. ",
    )


def _moved(pair: MatrixPair) -> str:
    """Return how long the difference is, as a share of the matrix before (Frobenius norms)."""
    if pair.before.shape != pair.after.shape:
        return "has another shape"
    before = float((pair.before.astype(float) ** 2).sum()) ** 0.5
    change = float(((pair.after.astype(float) - pair.before) ** 2).sum()) ** 0.5
    return number(change / before, 2) if before else "from zero"


def _attention(run: ReportInput) -> Picture:
    title = "Attention on real examples"
    assert run.weights is not None
    examples = run.weights.maps
    if not examples:
        return missing("attention", title, _NOTHING)
    layer = min(len(part) for part in (examples[0].before, examples[0].after)) - 1
    longest = max(len(example.tokens) for example in examples)
    cut = ""
    if longest > weight_plots.MOST_TOKENS:
        cut = f"The first {weight_plots.MOST_TOKENS} of {longest} tokens. "
    return drawn(
        "attention",
        title,
        f"Maps of what each token takes from each other in layer {layer}, untouched and of the "
        f"best particle, on {count(len(examples), 'validation example')}: "
        f"{'; '.join(_read(example.tokens) for example in examples)}.",
        f"Untouched, and the best particle's, trial {run.weights.trial}: layer {layer}, mean over "
        f"its heads, on {count(len(examples), 'validation example')}. A row is a token that "
        f"attends; its colours say how much it takes from each token. {cut}{_kind(run.weights)}",
        weight_plots.attention(examples, layer),
    )


def _heads(run: ReportInput) -> Picture:
    title = "Head by head"
    assert run.weights is not None
    if not run.weights.maps:
        return missing("heads", title, "")
    example = run.weights.maps[0]
    count_ = max(len(example.before), len(example.after))
    layers = sorted({0, count_ - 1})
    heads_ = max(len(part) for part in (*example.before, *example.after))
    said = "" if count_ <= 2 else f"The first and the last of {count_} layers. "
    if heads_ > weight_plots.MOST_HEADS:
        said += f"The first {weight_plots.MOST_HEADS} of {heads_} heads. "
    return drawn(
        "heads",
        title,
        f"The same maps for single heads on the first example, layers {layers}.",
        f"The first example above, one map a head, in one scale of colours. {said}",
        weight_plots.heads(example, layers),
    )


def _swarm(run: ReportInput, found: Findings) -> Picture:
    title = "The swarm in two dimensions"
    knobs = len(run.space.coordinates)
    seen = components(run.history, knobs, found.best, found.defaults)
    if seen is None:
        return missing("swarm", title, "There are no three positions that differ yet.")
    first, second = seen.shares
    part = ""
    if seen.whole > len(seen.points):
        part = f"Of {seen.whole:,} positions {len(seen.points):,} are shown, evenly. "
    return drawn(
        "swarm",
        title,
        f"Where {len(seen.points):,} positions stand along their first two principal components, "
        f"which hold {first:.1%} and {second:.1%} of the variance.",
        f"Every dot is an evaluated position of {run.space.weights:,} coordinates, darker the "
        f"later. {part}The two directions hold {first + second:.1%} of the variance: what lies "
        "apart in others looks together here.",
        weight_plots.swarm(seen),
    )


def _kind(weights: SearchedWeights) -> str:
    """Return how the colours are read, and what the maps are where they are no probabilities."""
    maps = [one for example in weights.maps for one in (*example.before, *example.after)]
    if all(float(one.min()) >= -_ROUNDING for one in maps):
        return "Colours go by the root of the share. "
    return (
        "This mechanism has no weights between tokens that are probabilities: shown is what its "
        "own amount to, which may be negative. "
    )


def _read(tokens: Sequence[str]) -> str:
    """Return an example's tokens as a line of text."""
    shown = tokens[: weight_plots.MOST_TOKENS]
    return ("" if all(len(token) == 1 for token in shown) else " ").join(shown)
