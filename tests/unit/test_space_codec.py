"""One knob's values on the unit interval."""

import numpy as np
import pytest

from pso_attn.space import Knob
from pso_attn.space.codec import scale_of


def test_a_float_takes_both_ends_and_the_middle_of_its_range() -> None:
    scale = scale_of(Knob("rate", "float", "", low=-1.0, high=3.0))
    assert [scale.value(x) for x in (0.0, 0.5, 1.0)] == [-1.0, 1.0, 3.0]


def test_a_log_float_has_its_geometric_mean_in_the_middle() -> None:
    scale = scale_of(Knob("lr", "float", "", low=1e-4, high=1e-2, log=True))
    assert [scale.value(x) for x in (0.0, 0.5, 1.0)] == [1e-4, 1e-3, 1e-2]


def test_decoded_floats_carry_ten_digits_at_most() -> None:
    scale = scale_of(Knob("lr", "float", "", low=1e-4, high=1e-2, log=True))
    value = scale.value(1 / 3)
    assert value == float(f"{value:.10g}")


def test_integers_have_equal_bins_with_their_centres_as_points() -> None:
    scale = scale_of(Knob("layers", "int", "", low=1, high=4))
    assert scale.levels == 4
    assert [scale.value(x) for x in (0.0, 0.24, 0.26, 0.99, 1.0)] == [1, 1, 2, 4, 4]
    assert scale.point(1) == 0.125


def test_log_integers_have_bins_that_shrink_on_the_way_up() -> None:
    scale = scale_of(Knob("window", "int", "", low=1, high=64, log=True))
    values = [scale.value(x) for x in np.linspace(0, 1, 10_001)]
    counts = np.bincount(values)[1:]
    assert len(counts) == 64
    assert counts.min() > 0
    assert counts[0] > 5 * counts[7] > 5 * counts[63]


def test_an_integer_step_ends_at_the_last_value_inside_the_range() -> None:
    scale = scale_of(Knob("rank", "int", "", low=2, high=9, step=3))
    assert list(scale.values) == [2, 5, 8]


def test_a_float_step_gives_plain_decimals() -> None:
    scale = scale_of(Knob("dropout", "float", "", low=0.0, high=0.5, step=0.1))
    assert list(scale.values) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_whole_steps_of_ten_keep_their_last_digit() -> None:
    scale = scale_of(Knob("span", "float", "", low=0.0, high=40.0, step=10.0))
    assert list(scale.values) == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_a_bin_edge_decodes_alike_before_and_after_snapping() -> None:
    scale = scale_of(Knob("window", "int", "", low=1, high=4, log=True))
    edge = np.array([0.5])  # between 1 and 2: sqrt(0.5 * 4.5) = 1.5
    assert scale.value(0.5) == scale.value(float(scale.snap(edge)[0]))


@pytest.mark.parametrize(
    ("knob", "admitted", "refused"),
    [
        (Knob("a", "float", "", low=0.0, high=1.0), 0.5, 1.5),
        (Knob("a", "float", "", low=0.0, high=1.0), 1, True),
        (Knob("a", "int", "", low=1, high=8), 8, 9),
        (Knob("a", "int", "", low=0, high=8), 1, True),
        (Knob("a", "bool", "", choices=(False, True)), True, 1),
        (Knob("a", "categorical", "", choices=("x", "y")), "x", "z"),
    ],
)
def test_a_scale_admits_what_is_in_its_range_alone(
    knob: Knob, admitted: object, refused: object
) -> None:
    assert scale_of(knob).admits(admitted)
    assert not scale_of(knob).admits(refused)


@pytest.mark.parametrize(
    ("knob", "value", "nearest"),
    [
        (Knob("a", "float", "", low=0.0, high=1.0), 7.0, 1.0),
        (Knob("a", "int", "", low=1, high=9, step=4), 6, 5),
        (Knob("a", "int", "", low=1, high=9, step=4), -3, 1),
        (Knob("a", "int", "", low=2, high=64, log=True), 100, 64),
        (Knob("a", "ordered", "", choices=(1, 2, 8)), 6, 8),
    ],
)
def test_the_nearest_admitted_value_is_found(knob: Knob, value: float, nearest: float) -> None:
    assert scale_of(knob).nearest(value) == nearest


@pytest.mark.parametrize(("low", "high"), [(1, 2), (2, 64), (3, 5_000)])
def test_points_snap_to_the_centre_of_the_integer_that_they_decode_to(low: int, high: int) -> None:
    scale = scale_of(Knob("window", "int", "", low=low, high=high, log=True))
    start, end = np.log(low - 0.5), np.log(high + 0.5)
    edges = (np.log(np.arange(low, high) + 0.5) - start) / (end - start)
    nearby = [np.nextafter(edges, 0.0), edges, np.nextafter(edges, 1.0)]
    points = np.concatenate([*nearby, np.linspace(0, 1, 10_001)]).reshape(-1, 1)
    expected = [scale.point(scale.value(x)) for x in points.ravel().tolist()]
    np.testing.assert_array_equal(scale.snap(points), np.reshape(expected, points.shape))


def test_true_beside_labels_is_a_label_and_no_number() -> None:
    scale = scale_of(Knob("mask", "categorical", "", choices=(False, "causal", 1)))
    assert [scale.admits(value) for value in (False, "causal", 1, True, 0, "other")] == [
        *(True, True, True),
        *(False, False, False),
    ]
