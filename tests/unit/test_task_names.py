"""Tasks by name, with what a person may get wrong."""

import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.tasks import TASKS, make_task


def test_a_built_in_task_is_made_by_its_name() -> None:
    assert make_task("text", columns={"tokens": 16}).info.length == 16


def test_every_task_knows_the_name_it_is_found_by_and_has_a_line_for_people() -> None:
    for name, built_in in TASKS.items():
        if name != "text_labels":  # it has no data of its own
            assert make_task(name).name == name
        assert 0 < len(built_in.summary) < 80


def test_a_task_without_data_of_its_own_asks_for_a_file() -> None:
    with pytest.raises(ConfigurationError, match='"text_labels" reads a file; set data = '):
        make_task("text_labels")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r'"digit" is not a task; did you mean "digits"'):
        make_task("digit")


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r'no option "colums"; did you mean "columns"'):
        make_task("text", colums={})


def test_an_option_of_a_task_without_any_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'"digits" has no option "target"; it has none'):
        make_task("digits", target="label")
