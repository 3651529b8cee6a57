"""The space files that ship: they read, defaults are allowed, and most of each is feasible."""

from pathlib import Path

import pytest

from pso_attn.assembly import assemble
from pso_attn.config import builtin_spaces, read_configuration
from pso_attn.evaluate import cost
from pso_attn.parts import Parts
from pso_attn.seeding import generator


def parts_of(space: str, *sets: str) -> Parts:
    return assemble(read_configuration(space, sets, {"device": "cpu"}))


def feasible_share(parts: Parts, draws: int = 100) -> float:
    """Return how many random positions meet the constraints, after repair."""
    positions = generator(0, "feasible").random((draws, parts.space.dimension))
    repaired = [parts.space.repair(x, 0, 0, i) for i, x in enumerate(positions)]
    return sum(not one.violations for one in repaired) / draws


@pytest.mark.parametrize("name", sorted(builtin_spaces()))
def test_random_positions_of_a_space_that_ships_can_be_repaired(name: str) -> None:
    assert feasible_share(parts_of(name)) > 0.95


@pytest.mark.parametrize("name", ["digits", "text"])
def test_the_first_particle_of_a_space_that_ships_has_the_neutral_attention(name: str) -> None:
    space = parts_of(name).space
    params = space.decode(space.starts[0])
    assert params["mechanism"] == "softmax"
    assert (params["heads"], params["kv_heads"]) == (4, 4)
    for knob, value in params.items():
        if knob.startswith(("temperature", "decay", "attention_dropout")):
            assert value == (1.0 if knob.startswith("temperature") else 0.0)


@pytest.mark.parametrize("name", sorted(builtin_spaces()))
def test_no_setting_of_a_space_that_ships_grows_the_model_by_five_percent(name: str) -> None:
    parts = parts_of(name)
    space, info = parts.space, parts.task.info
    limit = 1.05 * cost(space.settings(space.decode(space.starts[0])), info)["parameters"]
    for draw, position in enumerate(generator(1, "size").random((100, space.dimension))):
        repaired = space.repair(position, 0, 0, draw)
        if not repaired.violations:
            assert cost(space.settings(repaired.params), info)["parameters"] <= limit


def test_the_first_lstm_attends_to_all_its_states_and_reads_nothing_else() -> None:
    space = parts_of("lstm").space
    settings = space.settings(space.decode(space.starts[0]))
    assert (settings["score"], settings["query"], settings["heads"]) == ("additive", "last", 1)
    assert (settings["local"], settings["sentinel"], settings["last_state"]) == (
        "none",
        False,
        False,
    )


def test_the_text_space_takes_a_text_of_many_different_characters(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(chr(0x4E00 + i % 900) for i in range(9000)), encoding="utf-8")
    parts = parts_of("text", f"data={path}")
    assert parts.task.info.tokens == 901
    assert feasible_share(parts) > 0.95
