"""Checkpoints to start from: what an export and a run leave, and what is refused."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.models import TaskInfo, read_model, swarm_type
from pso_attn.models.weights import drawn_parts, read_parts

INFO = TaskInfo(12, None, 8, 10, causal=True, per_token=True)
SETTINGS = {"layers": 1, "d_model": 16, "heads": 2, "kv_heads": 1, "temperature": 2.0}


def written(folder: Path, tensors: dict[str, Tensor]) -> Path:
    path = folder / "model.safetensors"
    safetensors.torch.save_file(tensors, path)
    return path


def exported() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a model's parts, and its plain module's state."""
    model = read_model(SETTINGS, INFO)
    parts = drawn_parts(model, INFO, 4)
    plain = swarm_type(model).plain(model, INFO)
    plain.load_swarm_parameters(parts)
    return parts, {name: value.clone() for name, value in plain.state_dict().items()}


@pytest.mark.parametrize("form", [0, 1])
def test_both_forms_of_a_checkpoint_are_the_same_model(tmp_path: Path, form: int) -> None:
    path = written(tmp_path, exported()[form])
    read = read_parts(path, read_model(SETTINGS, INFO), INFO)
    assert read.keys() == exported()[0].keys()
    for name, part in exported()[0].items():
        assert torch.equal(read[name], part), name


@pytest.mark.parametrize("form", [0, 1])
def test_what_does_not_fit_is_refused(tmp_path: Path, form: int) -> None:
    model = read_model(SETTINGS, INFO)
    tensors = exported()[form]
    name = next(name for name in tensors if "query" in name)
    with pytest.raises(ConfigurationError, match=f"has no tensor {name}"):
        read_parts(written(tmp_path, {n: t for n, t in tensors.items() if n != name}), model, INFO)
    with pytest.raises(ConfigurationError, match=f"{name} is 3 x 5, and the model's is 16 x 16"):
        read_parts(written(tmp_path, {**tensors, name: torch.ones(3, 5)}), model, INFO)
    with pytest.raises(ConfigurationError, match="has a tensor more, which the model"):
        read_parts(written(tmp_path, {**tensors, "more": torch.ones(2)}), model, INFO)
    bad = tensors[name].clone()
    bad[0, 0] = float("nan")
    with pytest.raises(ConfigurationError, match=f"{name} holds values that are not finite"):
        read_parts(written(tmp_path, {**tensors, name: bad}), model, INFO)


def test_a_pickle_is_refused_with_the_line_that_converts_it(tmp_path: Path) -> None:
    torch.save(exported()[1], tmp_path / "model.pt")
    with pytest.raises(ConfigurationError, match="pickles are not read") as raised:
        read_parts(tmp_path / "model.pt", read_model(SETTINGS, INFO), INFO)
    command = str(raised.value).split("`")[1].split('"')[1]
    namespace: dict[str, object] = {}
    exec(command.replace("'model", f"'{tmp_path}/model"), namespace)
    read = read_parts(tmp_path / "model.safetensors", read_model(SETTINGS, INFO), INFO)
    assert torch.equal(read["head"], exported()[0]["head"])
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_parts(tmp_path / "other.safetensors", read_model(SETTINGS, INFO), INFO)


def test_a_torn_checkpoint_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    path = written(tmp_path, exported()[1])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConfigurationError, match="not a whole safetensors file"):
        read_parts(path, read_model(SETTINGS, INFO), INFO)
    with pytest.raises(ConfigurationError, match="is a folder"):
        read_parts(tmp_path, read_model(SETTINGS, INFO), INFO)
