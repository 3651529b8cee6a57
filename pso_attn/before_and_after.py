"""What a search for weights changed: the model's matrices, and whom its tokens attend to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pso_attn.checkpoints import BEST, load_checkpoint
from pso_attn.parts import Parts
from pso_attn.report.inputs import AttentionPair, MatrixPair, SearchedWeights
from pso_attn.space import FIRST
from pso_attn.store import RunFolder
from pso_attn.types import Settings

if TYPE_CHECKING:  # what loads torch would slow down --help
    from torch import Tensor

    from pso_attn.evaluate.weights import Searched

Model = tuple[Settings, Mapping[str, "Tensor"]]  # settings, and all parts by name

_SHOWN = {"query": "Wq", "key": "Wk", "value": "Wv", "output": "Wo"}


def before_and_after(
    parts: Parts, folder: RunFolder, control: Mapping[str, Any] | None
) -> SearchedWeights:
    """Return what a report shows of a search for weights, read from the run's folder.

    Models are rebuilt on the CPU and none is trained: what no checkpoint holds yet is left out.
    control: the document of `control.json`, None before there is one.
    """
    assert parts.weights is not None
    start = parts.weights.start
    best, first = (load_checkpoint(folder.checkpoints / name) for name in (BEST, FIRST))
    matrices: tuple[MatrixPair, ...] = ()
    maps: tuple[AttentionPair, ...] = ()
    if best is not None and (first is not None or not start.needs_training):
        searched = start.searched(None if first is None else first.tensors)
        before = start.settings, _untouched(parts, searched)
        after = best.about["settings"], best.tensors
        matrices = _matrices(searched, before, after)
        maps = _maps(parts, before, after)
    return SearchedWeights(
        split=start.table.split,
        examples=start.table.examples,
        size=sum(matrix.size for matrix in start.matrices),
        quantise=start.table.quantise,
        matrices=matrices,
        maps=maps,
        trial=None if best is None else best.about["trial"],
        control=control,
    )


def _untouched(parts: Parts, searched: "Searched") -> Mapping[str, "Tensor"]:
    """Return all parts of the model before the search, as it uses them."""
    import torch

    from pso_attn.evaluate.weights import Fitness

    assert parts.weights is not None
    objective, seed = parts.objectives[0].name, parts.configuration.seed
    fitness = Fitness(searched, parts.task, objective, seed, torch.device("cpu"))
    row = searched.used(searched.untouched[None])
    return fitness.parts_of(parts.weights.start.settings, row)


def _matrices(searched: "Searched", before: Model, after: Model) -> tuple[MatrixPair, ...]:
    """Return the searched matrices that both models have; vectors such as biases are left out."""
    return tuple(
        MatrixPair(_label(name), before[1][name].numpy(), after[1][name].numpy())
        for name in (matrix.name for matrix in searched.matrices if len(matrix.shape) > 1)
        if name in after[1]
    )


def _label(name: str) -> str:
    """Return a matrix's name for people: "layer 0 Wq" of "blocks.0.attention.query"."""
    parts = name.split(".")
    if len(parts) < 3:
        return name
    return f"layer {parts[1]} {_SHOWN.get(parts[-1], parts[-1])}"


def _maps(parts: Parts, before: Model, after: Model) -> tuple[AttentionPair, ...]:
    """Return whom tokens attend to in two validation examples, the first and the middle one."""
    import torch

    from pso_attn.models import read_model, swarm_type
    from pso_attn.models.attention_maps import attention_maps
    from pso_attn.tasks import shown_example

    task = parts.task
    rows = sorted({0, len(task.validation) // 2})
    inputs = task.validation.inputs.index_select(0, torch.tensor(rows))
    taken = []
    for settings, weights in (before, after):
        model = read_model(settings, task.info)
        plain = swarm_type(model).plain(model, task.info)
        plain.load_swarm_parameters(weights)
        taken.append([layer.numpy() for layer in attention_maps(plain, inputs)])
    pairs = []
    for place, row in enumerate(rows):
        shown = shown_example(task, row)
        kept = slice(len(shown.tokens))
        ours = (tuple(layer[place][:, kept, kept] for layer in layers) for layers in taken)
        pairs.append(AttentionPair(shown.tokens, shown.picture, shown.patch, *ours))
    return tuple(pairs)
