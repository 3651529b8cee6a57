"""What cannot be trained is named before anything is: file, key, what came, what would do."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn.assembly import assemble
from pso_attn.cli.app import app
from pso_attn.config import configuration_from
from pso_attn.errors import ConfigurationError, PsoAttnError
from pso_attn.parts import Parts
from pso_attn.reach import check_reach, why_refused
from pso_attn.tasks.task import Split

TEXT = """
task = "{task}"
[model]
d_model = 16
{model}
[search]
{search}
[budget]
particles = 2
generations = 1
steps = 2
{rest}
"""


def written(model: str = "", search: str = "lr = {}", rest: str = "", task: str = "digits") -> str:
    return TEXT.format(model=model, search=search, rest=rest, task=task)


def parts(text: str) -> Parts:
    return assemble(configuration_from(tomllib.loads(text), "my.toml"))


FIXED = [  # [model], and what my.toml is told
    ("kv_heads = 3", "model.kv_heads is 3, which does not divide heads = 4; choose a divisor"),
    ("heads = 2\nkv_heads = 4", "model.kv_heads is 4, which does not divide heads = 2"),
    ("window_tokens = -1", "model.window_tokens is -1; expected a whole number of at least 0"),
    ("window_tokens = 1.5", "model.window_tokens is 1.5; expected a whole number of at least 0"),
    (
        'mechanism = "low_rank"\nrank = 20',
        "model.rank: rank = 20 exceeds the 16 tokens of a sequence; choose at most 16",
    ),
    (
        'mechanism = "block_low_rank"\nblock_tokens = 4\nrank = 8',
        "model.rank: rank = 8 exceeds the 4 tokens of a block; choose at most 4, or a larger",
    ),
    ('mechanism = "low_rank"\nrank = 0', "model.rank is 0; expected a whole number of at least 1"),
    ("rank = 4", "model.rank can never act: it acts only where mechanism is"),
    ("head_dim = 0", "model.head_dim is 0; expected a whole number of at least 1"),
    (
        "layers = 2\nwindow_tokens = [4, -1]",
        "model.window_tokens is -1; expected a whole number of at least 0",
    ),
    (
        "layers = 2\nwindow_tokens = [inf, 4]",
        "model.window_tokens is inf; expected a whole number of at least 0",
    ),
    (
        "layers = 2\nhead_dim = [4, 0]",
        "model.head_dim is 0; expected a whole number of at least 1",
    ),
    (
        "layers = 2\nhead_dim = [inf, 4]",
        "model.head_dim is inf; expected a whole number of at least 1",
    ),
    ("heads = 32", "model.heads: heads = 32 leaves head_dim = 0 of d_model = 16; use fewer"),
    ('heads = "four"', 'model.heads is "four"; expected a whole number of at least 1'),
    ("heads = 0", "model.heads is 0; expected a whole number of at least 1"),
    ("layers = 0", "model.layers is 0; expected a whole number from 1 to 1024"),
    ("layers = 1000000", "model.layers is 1000000; expected a whole number from 1 to 1024"),
    ('mechanism = "retention"', 'model.mechanism: mechanism "retention" looks back alone'),
    ('mechanism = "sofmax"', 'model.mechanism is "sofmax"; did you mean "softmax"?'),
    ('positions = "rotary"\nhead_dim = 3', "head_dim = 3 is odd; choose an even head_dim"),
    (
        'positions = "rotary"\nmechanism = "linear"',
        'which is not built for mechanism "linear"; choose',
    ),
    (
        'positions = "rotary"\nmechanism = "low_rank"',
        'is not built for mechanism "low_rank"; choose',
    ),
    (
        'positions = "rotary"\nmechanism = "block_low_rank"',
        'is not built for mechanism "block_low_rank"; choose',
    ),
    (
        'mechanism = "low_rank"\nqk_norm = true',
        'model.qk_norm can never act: it acts only where mechanism is "softmax"',
    ),
    ("batch_size = 5000", "batch_size = 5000 exceeds the 1078 training examples; choose at most"),
    ("dropout = 1.0", "model.dropout is 1.0; expected a finite number from 0 to 0.95"),
    ("attention_dropout = 1", "model.attention_dropout is 1; expected a finite number"),
    ("temperature = 0", "model.temperature is 0; expected a finite number from 0.001 to 1000"),
    (
        "layers = 1\ntemperature = [1, 2]",
        "model.temperature has 2 entries; expected 1, one for each layer",
    ),
    (
        "layers = 1\ntemperature = [[1.0, 2.0]]",
        "model.temperature has 2 entries; expected 4, one for each head of layer 0",
    ),
    ("warmup = 1.0", "model.warmup is 1.0; expected a finite number from 0 to 0.9"),
    ("clip_norm = 0", "model.clip_norm is 0; expected a finite number of at least 1e-06"),
    ("feedforward_ratio = 0", "model.feedforward_ratio is 0; expected a finite number of at"),
    (
        "feedforward_ratio = 0.25\nheads = 1\nd_model = 1",
        "model.feedforward_ratio: feedforward_ratio = 0.25 leaves nothing of d_model = 1",
    ),
]

LSTM = [  # [model] of an LSTM, and what my.toml is told
    ("hidden = 0", "model.hidden is 0; expected a whole number of at least 1"),
    ('score = "bahdanau"', 'model.score is "bahdanau"; choose one of additive, concat, dot'),
    (
        'local = "predictive"\nwindow_tokens = 0',
        "model.window_tokens is 0; expected a whole number",
    ),
    (
        'score = "self_attentive"\nhops = 0',
        "model.hops is 0; expected a whole number of at least 1",
    ),
    ("hops = 2", 'model.hops can never act: it acts only where score is "self_attentive"'),
    (
        'score = "self_attentive"\nsentinel = true',
        "model.sentinel can never act: it acts only where score is",
    ),
    (
        "window_tokens = 3",
        'model.window_tokens can never act: it acts only where local is "monotonic" or',
    ),
    (
        "hidden = 6\nheads = 4",
        "model.heads is 4, which does not divide hidden = 6; choose a divisor",
    ),
    (
        "heads = 4\nattention_dim = 6",
        "model.heads: heads = 4 do not divide attention_dim's 6 columns; choose a divisor",
    ),
    (
        "d_model = 16",
        'model.d_model is a knob of family "transformer", and this file\'s family is "lstm";',
    ),
    (
        "bidirectional_attention = true",
        "model.bidirectional_attention: bidirectional_attention = true is between an encoder and",
    ),
    ("bidirectional = 2", "model.bidirectional is 2; expected false or true"),
]

RANGES = [  # [search], and what my.toml is told
    ("lr = { low = 0, high = 1e-2 }", "search.lr.low is 0; expected a finite number from 1e-08"),
    ("lr = { low = -1, high = 1 }", "search.lr.low is -1; expected a finite number from 1e-08"),
    ("lr = { low = 20, high = 30 }", "search.lr.low is 20; expected a finite number from 1e-08"),
    ("lr = { low = 1 }", "search.lr is empty: low = 1.0 is above high = 0.03"),
    ("dropout = { high = 1.0 }", "search.dropout.high is 1.0; expected a finite number from 0"),
    ("window_tokens = { low = -4 }", "search.window_tokens.low is -4; expected a whole number"),
    (
        "window_tokens = { low = 20, high = 60 }",
        "search.window_tokens begins at 20, and for sequences of 16 tokens all values from 15 on "
        "do the same; begin below 15",
    ),
    ('heads = ["four"]', 'search.heads.choices[0] is "four"; expected a whole number'),
    (
        "head_dim = [0, 4]",
        "search.head_dim.choices[0] is 0; expected a whole number of at least 1",
    ),
    ("heads = []", "search.heads.choices is []; expected a list of choices"),
    ("heads = [4, 32]", "search.heads: heads = 32 leaves head_dim = 0 of d_model = 16"),
    ("kv_heads = [3, 5]", "search.kv_heads is 3 or 5, which divides none of model.heads = 4;"),
    ("kv_heads = [8, 16]\nheads = [1, 2]", "divides none of search.heads = 1 or 2"),
    ("batch_size = [32, 5000]", "search.batch_size: batch_size = 5000 exceeds the 1078"),
    (
        'mechanism = ["softmax", "low_rank"]\nrank = {}',
        "search.rank: rank = 64 exceeds the 16 tokens of a sequence; choose at most 16",
    ),
    ('mechanism = ["softmax", "retention"]', 'search.mechanism: mechanism "retention" looks back'),
    ("layers = { low = 0 }", "search.layers.low is 0; expected a whole number from 1 to 1024"),
    ("", "[search] is empty, so nothing varies"),
    (
        "heads = [1, 32]\nd_model = [16, 64]\n[[start]]\nheads = 32\nd_model = 16",
        "start 1: heads = 32 leaves head_dim = 0 of d_model = 16",
    ),
]

BUDGETS = [  # [budget], and what my.toml is told
    ("batch = 0", '"budget.batch" is 0; expected a whole number of at least 1'),
    ("batch = 3", "budget.batch is 3, more than the swarm's 2 particles; lower it, or raise"),
    ("seeds = 0", '"budget.seeds" is 0; expected a whole number of at least 1'),
    ("seeds = []", '"budget.seeds" is []; expected a whole number of at least 1'),
    ("seeds = 1000000000", '"budget.seeds" is 1000000000; expected a whole number from 1 to'),
    ("rungs = [0.5, 2]", '"budget.rungs" is [0.5, 2]; expected fractions of the steps'),
]


def refused(text: str, told: str) -> None:
    with pytest.raises(PsoAttnError) as caught:
        parts(text)
    sentence = str(caught.value)
    assert sentence.startswith("my.toml: ")
    assert told in sentence
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("model", "told"), FIXED)
def test_a_fixed_setting_that_cannot_work_is_named(model: str, told: str) -> None:
    text = written(model)
    refused(text.replace("d_model = 16\n", "") if "\nd_model" in model else text, told)


@pytest.mark.parametrize(("model", "told"), LSTM)
def test_a_fixed_setting_of_an_lstm_that_cannot_work_is_named(model: str, told: str) -> None:
    text = written().replace("d_model = 16", 'family = "lstm"')
    refused(text.replace("[search]", f"{model}\n[search]"), told)


@pytest.mark.parametrize(
    ("search", "told"),
    [
        (
            "hops = [1, 2]",
            'search.hops is a knob of family "lstm", and this file\'s family is',
        ),
        ("hopps = [1, 2]", "search.hopps is not a knob"),
    ],
)
def test_a_knob_of_another_family_is_named(search: str, told: str) -> None:
    refused(written(search=search), told)


def test_attention_both_ways_is_not_searched_where_there_is_no_decoder() -> None:
    text = written(search="bidirectional_attention = [false, true]")
    told = "search.bidirectional_attention: bidirectional_attention = true is between an encoder"
    refused(text.replace("d_model = 16", 'family = "lstm"'), told)


def test_a_task_that_asks_for_an_answer_at_each_token_is_no_task_of_an_lstm() -> None:
    text = written('family = "lstm"', task="text").replace("d_model = 16\n", "")
    refused(text, 'model.family: family "lstm" answers a sequence, or step by step after')


@pytest.mark.parametrize("lr", ["0", "-1e-3", "100", "nan", "inf", '"1e-3"', "[1e-3]", "true"])
def test_a_learning_rate_of_no_training_is_named(lr: str) -> None:
    told = f"my.toml: model.lr is {str(tomllib.loads(f'v = {lr}')['v']).lower()}"
    with pytest.raises(PsoAttnError) as caught:
        parts(written(f"lr = {lr}", "dropout = {}"))
    assert str(caught.value).replace('"', "").startswith(told)
    assert str(caught.value).endswith("; expected a finite number from 1e-08 to 10")


@pytest.mark.parametrize(("search", "told"), RANGES)
def test_a_range_that_cannot_work_is_named(search: str, told: str) -> None:
    text = written(search=search)
    refused(text.replace("d_model = 16\n", "", 1) if "d_model" in search else text, told)


@pytest.mark.parametrize(("budget", "told"), BUDGETS)
def test_a_budget_of_no_search_is_named(budget: str, told: str) -> None:
    refused(written(rest=budget), told)


@pytest.mark.parametrize(
    ("model", "search", "key"),
    [
        ('mechanism = "low_rank"', "lr = {}", "model.mechanism"),
        ("", 'mechanism = ["softmax", "low_rank"]', "search.mechanism"),
    ],
)
def test_a_mechanism_that_the_task_has_no_use_for_is_named(
    model: str, search: str, key: str
) -> None:
    told = (
        'mechanism "low_rank" mixes all tokens and is not defined for a causal task; choose '
        '"block_low_rank", "softmax" or "linear"'
    )
    with pytest.raises(PsoAttnError) as caught:
        parts(written(model, search, task="text"))
    assert str(caught.value) == f"my.toml: {key}: {told}"


@pytest.mark.parametrize(
    ("model", "search", "key"),
    [
        ('mechanism = "low_rank"\nrank = 20', "lr = {}", "model.rank"),  # whatever else varies
        ("rank = 20", 'mechanism = ["softmax", "low_rank"]', "model.rank"),
        ('positions = "rotary"', "heads = [1, 16]", "search.heads"),  # which give the odd width
        ('positions = "rotary"', "head_dim = [3, 4]", "search.head_dim"),
        ("kv_heads = 3", "heads = [1, 2, 4]", "model.kv_heads"),
        ("kv_heads = 4", "heads = [2, 4]", "search.heads"),
    ],
)
def test_the_key_that_is_named_is_the_one_to_change(model: str, search: str, key: str) -> None:
    refused(written(model, search), f"my.toml: {key}")


@pytest.mark.parametrize(
    ("search", "notes"),
    [
        ("lr = {}\nheads = [1, 2, 4]\nkv_heads = [1, 2, 4]", []),
        (
            "window_tokens = { low = 2, high = 40 }",
            ["window_tokens: for sequences of 16 tokens all values from 15 to 40 do the same; "],
        ),
        ("kv_heads = [1, 3, 4]", ["kv_heads: 3 divides none of the heads 4 and is lowered to a"]),
        (
            'positions = ["learned", "rotary"]\nmechanism = ["softmax", "linear"]',
            ["of the space cannot be trained, and a trial there fails at once; narrow [search]"],
        ),
        (
            'positions = ["rotary", "learned"]\nmechanism = ["linear", "softmax"]\n'
            '[constraints]\nexpressions = [\'positions == "learned" or mechanism == "softmax"\']',
            [],
        ),
    ],
)
def test_a_part_of_a_range_that_is_of_no_use_is_noted(search: str, notes: list[str]) -> None:
    found = parts(written(search=search)).space.notes
    assert len(found) == len(notes), found
    assert all(note in one for note, one in zip(notes, found, strict=True))


def test_knobs_of_distance_on_a_table_are_noted() -> None:
    text = written("decay = 1.0", "window_tokens = { low = 1, high = 9 }", task="table")
    found = " ".join(parts(text).space.notes)
    for name in ("decay", "window_tokens"):
        assert f"{name}: counts a table's columns in the order of the file, which says" in found
    assert "columns" not in " ".join(parts(written("decay = 1.0")).space.notes)


def test_a_range_of_a_sequence_of_one_token_has_no_lower_end_to_be_told() -> None:
    made = parts(written(search="top_k = { low = 1, high = 8 }", model='mechanism = "top_k"'))
    one: Any = SimpleNamespace(info=replace(made.task.info, length=1), train=made.task.train)
    with pytest.raises(ConfigurationError, match="all values from 1 on do the same; leave it out"):
        check_reach(made.space, one, {"mechanism"}, "my.toml")


def test_a_condition_on_what_differs_between_heads_is_refused_where_it_is_fixed_as_well() -> None:
    search = "window_tokens = { low = 1, high = 9, when = { decay = [1.0] } }"
    with pytest.raises(ConfigurationError, match="names decay, which differs between heads"):
        parts(written("layers = 1\nheads = 2\ndecay = [[0.0, 1.0]]", search))


def test_a_batch_that_nobody_named_may_not_exceed_the_examples_either() -> None:
    task = parts(written()).task
    few = replace(task, train=Split(task.train.inputs[:20], task.train.targets[:20]))
    said = "batch_size = 32 exceeds the 20 training examples"
    assert said in str(why_refused({"heads": 2}, few))
    assert why_refused({"heads": 2, "batch_size": 20}, few) is None


@pytest.mark.parametrize("flags", [[], ["--dry-run"], ["--quiet"], ["--json"]])
@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (
            ["model.mechanism=low_rank", "model.rank=20"],
            "my.toml: model.rank: rank = 20 exceeds the 16 tokens of a sequence; choose at",
        ),
        (["search.heads=[8, 32]"], "my.toml: search.heads: heads = 32 leaves head_dim = 0 of "),
        (["model.kv_heads=3"], "my.toml: model.kv_heads is 3, which does not divide heads = 4"),
    ],
)
def test_the_command_line_says_one_sentence_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    sets: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(written())
    asked = [part for one in sets for part in ("--set", one)]
    result = CliRunner().invoke(app, ["search", "my.toml", *asked, *flags])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {told}")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["my.toml"]


@pytest.mark.parametrize("flags", [["--dry-run"], ["--timeout", "0"]])
def test_notes_are_printed_before_the_search_and_before_its_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(written(search="window_tokens = { low = 2, high = 40 }"))
    result = CliRunner().invoke(app, ["search", "my.toml", *flags])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("note: window_tokens: for sequences of 16 tokens")
    assert CliRunner().invoke(app, ["search", "my.toml", *flags, "--quiet"]).stderr == ""


def test_a_default_that_cannot_work_is_named_by_the_key_that_would_change_it() -> None:
    made = parts(written())
    whole = made.task.train
    few = replace(made.task, train=Split(whole.inputs[:20], whole.targets[:20]))
    told = "my.toml: model.batch_size: batch_size = 32 exceeds the 20 training examples; choose at"
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        check_reach(made.space, few, {"d_model"}, "my.toml")


UNTRAINABLE = """
task = "digits"
[model]
d_model = 12
layers = 1
[search]
positions = { choices = ["rotary", "learned"], default = "rotary" }
head_dim = { choices = [5, 4], default = 5 }
[budget]
particles = 3
generations = 2
steps = 3
"""


def test_defaults_that_cannot_be_trained_end_neither_a_confirmation_nor_a_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text(UNTRAINABLE)

    def cli(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments)

    nothing = cli("search", "space.toml", "--dry-run", "--particles", "1", "--sampler", "random")
    assert nothing.exit_code == 2
    assert "nothing of the first generation can be trained: positions" in nothing.stderr
    assert not Path("runs").exists()
    assert cli("search", "space.toml", "--run", "r").exit_code == 0
    confirmed = cli("confirm", "r", "--seeds", "2", "--json")
    assert confirmed.exit_code == 0, confirmed.stderr
    document = json.loads(confirmed.stdout)
    defaults, winner = document["rows"][:2]
    assert (defaults["failed"], winner["failed"]) == (2, 0)
    assert "head_dim = 5 is odd" in defaults["error"]
    assert winner["test"]["loss"]["mean"] > 0
    assert "head_dim = 5 is odd" in document["verdict"]
