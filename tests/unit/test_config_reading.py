import tomllib
from pathlib import Path

import pytest
import tomli_w

from pso_attn.config import builtin_spaces, configuration_from, find_space, read_configuration
from pso_attn.errors import ConfigurationError

SPACE = """
task = "digits"
[model]
family = "transformer"
d_model = 16
[search]
heads = [1, 2, 4]
lr = { low = 1e-4, high = 1e-2, log = true }
weight_decay = {}
[constraints]
expressions = ["parameters <= 60000"]
[budget]
particles = 8
generations = 3
[[start]]
heads = 4
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "a.toml"
    path.write_text(SPACE)
    return path


def test_a_document_reads_back_to_an_equal_configuration(space: Path) -> None:
    read = read_configuration(
        str(space), ["search.lr.high=0.5"], {"seed": 7, "sampler": "random", "storage": "x://y"}
    )
    written = tomli_w.dumps(read.document())
    assert configuration_from(tomllib.loads(written), "config.toml") == read


def test_a_flag_beats_set_and_set_beats_the_file_and_the_file_beats_the_default(
    space: Path,
) -> None:
    budget = read_configuration(
        str(space),
        ["budget.generations=4", "budget.steps=20", "run.seed=3"],
        {"generations": 5, "batch": None},
    ).budget
    assert (budget.particles, budget.steps, budget.generations) == (8, 20, 5)
    assert (budget.batch, budget.seeds) == (8, 1)
    assert read_configuration(str(space), ["run.seed=3"]).seed == 3


def test_a_set_knob_is_fixed_or_searched_whatever_the_file_does_with_it() -> None:
    read = read_configuration("digits", ["model.heads=4", "search.d_model=[16, 32]"])
    assert (read.model["heads"], "heads" in read.search) == (4, False)
    assert (read.search["d_model"], "d_model" in read.model) == ([16, 32], False)
    read = read_configuration("digits", ["search.d_model.low=16", "search.d_model.high=32"])
    assert (read.search["d_model"], "d_model" in read.model) == ({"low": 16, "high": 32}, False)
    with pytest.raises(ConfigurationError, match=r'"lr" is fixed in .model. and varied'):
        read_configuration("digits", ["model.lr=0.1", "search.lr={low=0.1, high=1}"])


def test_a_set_value_is_toml_where_it_parses_and_text_where_it_does_not(space: Path) -> None:
    read = read_configuration(
        str(space),
        ["search.temperature={low=0.5, high=2}", "swarm.topology=ring", "model.layers=1"],
    )
    assert read.search["temperature"] == {"low": 0.5, "high": 2}
    assert read.swarm == {"topology": "ring"}
    assert read.model["layers"] == 1


def test_a_set_value_cannot_smuggle_in_a_second_key(space: Path) -> None:
    assert read_configuration(str(space), ["swarm.topology=1\nx=2"]).swarm["topology"] == "1\nx=2"


def test_a_smaller_swarm_takes_the_files_batch_with_it(space: Path) -> None:
    space.write_text(SPACE.replace("particles = 8", "particles = 8\nbatch = 8"))
    assert read_configuration(str(space), (), {"particles": 4}).budget.batch == 4
    assert read_configuration(str(space), ["budget.particles=4"]).budget.batch == 4
    with pytest.raises(ConfigurationError, match=r"budget\.batch is 8, more than"):
        read_configuration(str(space), (), {"particles": 4, "batch": 8})


def test_the_first_budget_is_remembered_when_a_later_one_grows(space: Path) -> None:
    document = read_configuration(str(space)).document()
    document["budget"]["generations"] = 9
    assert configuration_from(document, "config.toml").planned_generations == 3


def test_a_new_search_from_a_runs_configuration_forgets_that_runs_data_and_plan(
    space: Path, tmp_path: Path
) -> None:
    document = read_configuration(str(space)).document()
    document["run"] |= {"fingerprint": "abc", "planned_generations": 99}
    again = tmp_path / "config.toml"
    again.write_text(tomli_w.dumps(document))
    read = read_configuration(str(again))
    assert (read.fingerprint, read.planned_generations) == (None, 3)


def test_a_new_search_from_a_runs_configuration_looks_for_code_where_that_run_did(
    space: Path, tmp_path: Path
) -> None:
    code, again = tmp_path / "code", tmp_path / "runs" / "a" / "config.toml"
    for folder in (code, again.parent):
        folder.mkdir(parents=True)
    begun = code / "own.toml"
    begun.write_text(SPACE.replace('"digits"', '"mine:Task"'))
    document = read_configuration(str(begun)).document()
    assert document["run"]["code"] == str(code)
    again.write_text(tomli_w.dumps(document))
    assert read_configuration(str(again)).code == str(code)
    begun.unlink()
    code.rmdir()
    assert read_configuration(str(again)).code == str(again.parent)
    assert read_configuration(str(again), ["task=digits"]).code is None


def test_data_is_found_beside_the_file_or_in_the_current_folder_and_made_absolute(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.txt").write_text("x")
    space.write_text('data = "beside.txt"\n' + SPACE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "here.txt").write_text("x")
    monkeypatch.chdir(elsewhere)
    assert read_configuration(str(space)).data == str(tmp_path / "beside.txt")
    assert read_configuration(str(space), ["data=here.txt"]).data == str(elsewhere / "here.txt")
    assert read_configuration(str(space), ["data=gone.txt"]).data == "gone.txt"


def test_malformed_toml_names_file_and_line(space: Path) -> None:
    space.write_text('task = "digits"\n[search\nheads = 3\n')
    with pytest.raises(ConfigurationError, match=r"a\.toml, line 2: not valid TOML"):
        read_configuration(str(space))
    space.write_text('task = "digits"\n[search]\nheads = [')
    with pytest.raises(ConfigurationError, match=r"a\.toml, line 3"):
        read_configuration(str(space))


def test_a_file_that_is_not_text_is_one_sentence(space: Path) -> None:
    space.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read as UTF-8 text"):
        read_configuration(str(space))


def test_a_missing_space_names_the_nearest_or_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.toml does not exist"):
        find_space(str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigurationError, match="is a folder"):
        find_space(str(tmp_path))
    with pytest.raises(ConfigurationError, match='did you mean "digits"'):
        find_space("digts")


@pytest.mark.parametrize("text", ["nokey", "=3", "a..b=3", ""])
def test_a_set_without_key_or_value_is_refused(space: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected key=value"):
        read_configuration(str(space), [text])


def test_a_set_below_something_that_is_not_a_table_is_refused(space: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'"search\.heads\.high" is not a table'):
        read_configuration(str(space), ["search.heads.high=4", "search.heads.high.top=4"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("images", r'^"images" is a task, .* give a space file that says task = "images"$'),
        ("digts", r'^"digts" is not a built-in space; did you mean "digits"\?$'),
    ],
)
def test_a_name_of_no_built_in_space_is_answered_by_what_it_may_be(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        find_space(name)


def test_every_built_in_space_reads() -> None:
    assert {"digits", "text"} <= set(builtin_spaces())
    for name in builtin_spaces():
        assert read_configuration(name).source == name


def test_a_list_is_narrowed_by_set_as_a_range_is(space: Path) -> None:
    read = read_configuration("digits", ["search.heads.high=4"])
    assert read.search["heads"] == {"choices": [1, 2, 4, 8], "high": 4}
    assert "heads" in read_configuration("digits", ["search.heads.low=2"]).search


@pytest.mark.parametrize("key", ["run", "budget"])
def test_a_table_set_to_a_word_is_one_sentence(key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf'"{key}" is "demo"; expected a table'):
        read_configuration("digits", [f"{key}=demo"])


def test_a_byte_order_mark_is_no_mistake_and_a_number_without_end_is(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('task = "digits"\n[search]\nlr = {}\n', encoding="utf-8-sig")
    assert read_configuration(str(file)).task == "digits"
    file.write_text("x = " + "1" * 5000, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        read_configuration(str(file))


def test_paths_that_nobody_can_look_at_are_one_sentence_or_stay_as_they_are() -> None:
    with pytest.raises(ConfigurationError, match="cannot be looked at"):
        find_space("~nobody-of-that-name/a.toml")
    with pytest.raises(ConfigurationError, match="cannot be looked at"):
        find_space("a" * 300 + ".toml")
    assert read_configuration("text", ["data=~nobody-here.txt"]).data == "~nobody-here.txt"


def test_an_sqlite_file_is_named_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for given, kept in (
        ("sqlite:///a.db", f"sqlite:///{tmp_path}/a.db"),
        ("sqlite+pysqlite:///b/a.db", f"sqlite+pysqlite:///{tmp_path}/b/a.db"),
        ("sqlite:////a.db", "sqlite:////a.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql:///a", "postgresql:///a"),
    ):
        assert read_configuration("digits", flags={"storage": given}).storage == kept


def test_what_is_shown_lacks_the_password_and_what_is_kept_has_it() -> None:
    url = "postgresql://ann:secret@host/db"
    read = read_configuration("digits", flags={"storage": url})
    assert read.shown()["run"]["storage"] == "postgresql://ann:***@host/db"
    assert read.document()["run"]["storage"] == url
    unnamed = read_configuration("digits")
    assert unnamed.shown() == unnamed.document()
