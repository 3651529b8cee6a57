"""Vectors and the weights that they stand for: exact, or to rounding on their own range."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pso_attn.errors import ConfigurationError
from pso_attn.models import Layout, TaskInfo, parameters_of, read_model, swarm_type
from pso_attn.models.weights import (
    QUANTISERS,
    Matrix,
    by_name,
    drawn_parts,
    find_matrices,
    flat_row,
    make_coordinates,
    overlaid,
    placements,
    quantised,
)
from pso_attn.space import WeightTable, read_weights

INFO = TaskInfo(None, 4, 8, 10, causal=False, per_token=False)
SETTINGS = {"layers": 2, "d_model": 16, "heads": 2}


def table(**keys: Any) -> WeightTable:
    return read_weights({"mode": "weights", **keys}, "a.toml")


def matrices(settings: dict[str, Any] = SETTINGS, **keys: Any) -> tuple[Matrix, ...]:
    return find_matrices(table(**keys), settings, INFO)


def parts(settings: dict[str, Any] = SETTINGS, seed: int = 3) -> dict[str, Tensor]:
    return drawn_parts(read_model(settings, INFO), INFO, seed)


def test_named_matrices_of_named_layers_are_found() -> None:
    found = matrices(layers=[1], matrices=["Wo", "Wq"])
    assert [matrix.name for matrix in found] == [
        "blocks.1.attention.query",
        "blocks.1.attention.output",
    ]
    assert sum(matrix.size for matrix in matrices()) == 2 * 4 * 16 * 16
    everything = sum(matrix.size for matrix in matrices(matrices="all"))
    assert everything == sum(part.numel() for part in parts().values())


def test_a_layer_that_is_not_there_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigurationError, match="names layer 2, and the model has layers 0 to 1"):
        matrices(layers=[0, 2])


def test_an_lstm_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'model\.family is "lstm"'):
        matrices({"family": "lstm", "hidden": 8})


def test_full_coordinates_are_the_weights_bit_for_bit() -> None:
    row = flat_row(matrices(), parts())
    coordinates = make_coordinates(table(), matrices(), row, 0)
    assert coordinates.vector(row).numpy().tobytes() == row.numpy().tobytes()
    assert coordinates.weights(row[None])[0].numpy().tobytes() == row.numpy().tobytes()
    for name, matrix in by_name(matrices(), row).items():
        assert torch.equal(matrix, parts()[name])


@pytest.mark.parametrize(
    "keys", [{"coordinates": "subspace", "dimensions": 40}, {"coordinates": "low_rank", "rank": 2}]
)
def test_other_coordinates_come_back_on_their_own_range(keys: dict[str, Any]) -> None:
    row = flat_row(matrices(), parts())
    coordinates = make_coordinates(table(**keys), matrices(), row, 5)
    z = torch.randn(1, coordinates.count, generator=torch.Generator().manual_seed(1))
    weights = coordinates.weights(z)
    again = coordinates.weights(coordinates.vector(weights[0])[None])
    torch.testing.assert_close(again, weights, rtol=1e-4, atol=1e-5)
    assert (weights - row).abs().max() > 0.05
    assert torch.equal(coordinates.weights(coordinates.origin[None])[0], row)


def test_a_unit_vector_moves_weights_by_about_their_start() -> None:
    row = torch.zeros_like(flat_row(matrices(), parts()))
    for keys in ({"coordinates": "subspace", "dimensions": 200}, {"coordinates": "low_rank"}):
        coordinates = make_coordinates(table(**keys), matrices(), row, 5)
        z = torch.randn(64, coordinates.count, generator=torch.Generator().manual_seed(1))
        moved = coordinates.weights(z)
        for matrix in matrices():
            assert moved[:, matrix.columns].std() == pytest.approx(matrix.std, rel=0.25)


def test_low_rank_updates_have_that_rank() -> None:
    coordinates = make_coordinates(
        table(coordinates="low_rank", rank=3), matrices(), flat_row(matrices(), parts()), 0
    )
    z = torch.randn(1, coordinates.count, generator=torch.Generator().manual_seed(1))
    update = (coordinates.weights(z)[0] - coordinates.base).double()
    for matrix in by_name(matrices(), update).values():
        values = torch.linalg.svdvals(matrix)
        assert values[2] > 1e-3
        assert values[3] < 1e-6


def test_a_subspace_is_the_same_when_it_is_drawn_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {"coordinates": "subspace", "dimensions": 30}
    row = flat_row(matrices(), parts())
    z = torch.ones(2, 30)
    kept = make_coordinates(table(**keys), matrices(), row, 5).weights(z)
    monkeypatch.setattr("pso_attn.models.weights.coordinates._KEPT", 0)
    assert torch.equal(make_coordinates(table(**keys), matrices(), row, 5).weights(z), kept)


def test_a_subspace_wider_than_its_space_is_refused() -> None:
    row = flat_row(matrices(), parts())
    with pytest.raises(ConfigurationError, match="at most as wide as its space"):
        make_coordinates(table(coordinates="subspace", dimensions=3000), matrices(), row, 0)
    with pytest.raises(ConfigurationError, match=r"rank is 17, and blocks\.0\.attention\.query"):
        make_coordinates(table(coordinates="low_rank", rank=17), matrices(), row, 0)


def test_ternary_has_three_values_a_matrix_and_int8_stays_near() -> None:
    row = flat_row(matrices(), parts())[None]
    for matrix in by_name(matrices(), quantised("ternary", matrices(), row)[0]).values():
        scale = matrix.abs().max()
        assert set((matrix / scale).unique().tolist()) == {-1.0, 0.0, 1.0}
    for name, matrix in by_name(matrices(), quantised("int8", matrices(), row)[0]).items():
        own = parts()[name]
        steps = own.abs().amax(0) / 127
        assert ((matrix - own).abs() <= 0.51 * steps).all()
        assert not torch.equal(matrix, own)
    assert quantised("none", matrices(), row) is row


def test_gradients_pass_straight_through_a_quantiser() -> None:
    row = flat_row(matrices(), parts())[None].requires_grad_()
    rounded = quantised("ternary", matrices(), row)
    assert torch.equal(rounded.detach(), quantised("ternary", matrices(), row.detach()))
    (gradient,) = torch.autograd.grad((rounded * torch.arange(row.numel())).sum(), row)
    assert torch.equal(gradient[0], torch.arange(row.numel()).float())


@pytest.mark.parametrize("other", [{"heads": 4}, {"heads": 4, "kv_heads": 2}, {"head_dim": 4}])
def test_other_settings_take_the_columns_that_they_have(other: dict[str, Any]) -> None:
    settings = {**SETTINGS, **other}
    model = read_model(settings, INFO)
    rows, base = flat_row(matrices(), parts()), parts(settings, seed=9)
    swarm = swarm_type(model).started([model], INFO, [0])
    swarm.storage.take(0, base)
    layout = Layout.of([tuple(parameters_of(model, INFO))])
    for place in placements(matrices(), model, INFO, layout):
        place.in_storage(swarm.storage.weights).copy_(place.in_rows(rows[None]))
    expected = overlaid(base, by_name(matrices(), rows))
    found = swarm.storage.true_parameters(0)
    assert found.keys() == expected.keys()
    for name in found:
        assert torch.equal(found[name], expected[name]), name
    narrow = found["blocks.0.attention.key"]
    assert torch.equal(narrow, parts()["blocks.0.attention.key"][:, : narrow.shape[1]])


def test_ternary_weights_are_rounded_in_units_of_their_mean_size() -> None:
    weights = torch.tensor([[[1.0, -0.2], [0.4, -2.4]]])  # mean size 1
    found = QUANTISERS["ternary"](weights)  # type: ignore[misc]
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0], [0.0, -1.0]]]))


def test_a_subspace_goes_to_a_device_once() -> None:
    space = make_coordinates(
        table(coordinates="subspace", dimensions=8), matrices(), flat_row(matrices(), parts()), 0
    )
    meta = torch.device("meta")
    space.to(meta)
    z = torch.empty(4, 8, device=meta)

    class Moves(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = function(*args, **(kwargs or {}))
            self.count += "_to_copy" in str(function) and args[0].device != found.device
            return found

    counts = []
    for _ in range(2):
        with Moves() as moves:
            space.weights(z)
        counts.append(moves.count)
    assert counts[0] > 0 == counts[1]
