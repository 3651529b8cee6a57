"""Text: what is learned from, what is scored, and what cannot be read."""

import hashlib
import math
import os
import pickle
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.tasks.text import TextTask, make_text

WORDS = "the quick brown fox jumps over the lazy dog and "


@pytest.fixture(scope="module")
def manual() -> TextTask:
    """Python's own documentation."""
    return make_text()


def written(folder: Path, text: str) -> str:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def test_windows_of_training_are_views_of_one_tensor(manual: TextTask) -> None:
    begin = len(manual.ids) * 8 // 10
    assert len(manual.train) == begin - 64
    assert manual.train.inputs.data_ptr() == manual.ids.data_ptr()
    assert manual.train.targets.data_ptr() == manual.ids.data_ptr() + 8


def test_windows_go_to_a_gpu_by_pinned_memory_and_stay_views_there(
    manual: TextTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by tensors that stay here, whichever device they are sent to."""
    pinned, sent = list[torch.Tensor](), list[tuple[str, bool]]()

    def pin(memory: torch.Tensor) -> torch.Tensor:
        pinned.append(memory.clone())
        return pinned[-1]

    def to(memory: torch.Tensor, device: str, non_blocking: bool = False) -> torch.Tensor:
        assert memory is pinned[-1]
        sent.append((device, non_blocking))
        return memory

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    moved = manual.train.to("cuda:0")
    assert sent == [("cuda:0", True)] * 2
    for here, there in (
        (manual.train.inputs, moved.inputs),
        (manual.train.targets, moved.targets),
    ):
        assert there.untyped_storage().nbytes() == here.untyped_storage().nbytes()
        assert there.data_ptr() != here.data_ptr()
        assert torch.equal(there[-1], here[-1])


def test_training_knows_no_character_of_the_other_parts(tmp_path: Path) -> None:
    task = make_text(
        written(tmp_path, "ab" * 4000 + "c" * 1000 + "d" * 1000), columns={"tokens": 16}
    )
    assert task.symbols == "ab"
    assert task.info.tokens == task.info.outputs == 3
    for tensor in (task.train.inputs, task.train.targets):
        assert int(tensor.max()) == 1  # never "unknown"
    for split in (task.validation, task.test):
        assert bool((split.inputs == 2).all())
        assert bool((split.targets == 2).all())
    assert task.describe()["unknown_characters"] == 2000


def test_the_last_training_window_ends_where_validation_begins(tmp_path: Path) -> None:
    task = make_text(
        written(tmp_path, "ab" * 4000 + "c" * 1000 + "d" * 1000), columns={"tokens": 16}
    )
    assert torch.equal(task.train.targets[-1], task.ids[8000 - 16 : 8000])


def test_scored_windows_do_not_overlap_and_spread_over_their_part(manual: TextTask) -> None:
    length, starts = len(manual.ids), manual.test_positions[:, 0] - 1
    assert len(manual.validation) == 128
    assert len(starts) == len(manual.test) == 512
    assert min(b - a for a, b in pairwise(starts)) >= 64
    assert starts[0] == length * 9 // 10
    assert length - 200 < starts[-1] + 64 < length
    for row in (0, 511):
        start = starts[row]
        assert torch.equal(manual.test.inputs[row], manual.ids[start : start + 64])
        assert torch.equal(manual.test.targets[row], manual.ids[start + 1 : start + 65])


def test_ids_decode_to_the_text(tmp_path: Path) -> None:
    text = (WORDS + "für 日本語 🦊\r\n") * 80
    task = make_text(written(tmp_path, text))
    assert "".join(task.symbols[i] for i in task.ids) == text
    assert task.describe()["unknown_characters"] == 0


def test_fingerprint_is_the_hash_of_the_text(tmp_path: Path) -> None:
    text = WORDS * 100
    task = make_text(written(tmp_path, text))
    assert task.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_bits_are_nats_over_the_logarithm_of_two(manual: TextTask) -> None:
    logits = torch.zeros(1, 2, 64, manual.info.outputs)
    scores = manual.score(logits, manual.train.targets[None, :2])
    assert float(scores["bits_per_character"]) == pytest.approx(math.log2(manual.info.outputs))


def test_longer_ngrams_predict_the_manual_better(manual: TextTask) -> None:
    losses = {name: scores["loss"] for name, scores in manual.baselines().items()}
    assert list(losses) == ["2-gram", "3-gram", "4-gram"]
    assert 1.2 < losses["4-gram"] < losses["3-gram"] < losses["2-gram"] < 2.6


def test_ngrams_of_a_long_text_are_counted_in_the_end_of_its_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [make_text(written(tmp_path, begin * 600 + WORDS * 200)) for begin in ("ab ", "zq ")]
    one, other = (task.baselines() for task in tasks)
    assert one != other
    monkeypatch.setattr("pso_attn.tasks.text._MOST_COUNTED", 5000)
    one, other = (task.baselines() for task in tasks)
    assert one == other


def test_ngrams_are_scored_on_the_very_characters_that_a_model_is(manual: TextTask) -> None:
    assert torch.equal(manual.ids[manual.test_positions], manual.test.targets)


def test_a_shortest_text_works_and_one_character_less_is_refused(tmp_path: Path) -> None:
    text = (WORDS * 100)[:2570]
    assert len(make_text(written(tmp_path, text)).test) == 4
    with pytest.raises(DataError, match=r"has 2569 characters, .* at least 2570"):
        make_text(written(tmp_path, text[:-1]))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        make_text(written(tmp_path, ""))


def test_a_text_of_one_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="repeats one character, 'a'"):
        make_text(written(tmp_path, "a" * 5000))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        make_text(str(tmp_path / "none.txt"))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory"):
        make_text(str(tmp_path))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not an ordinary file"):
        make_text(str(tmp_path / "pipe"))


def test_bytes_that_are_not_utf8_are_refused_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 " * 1000)
    with pytest.raises(DataError, match="not UTF-8 at byte 3"):
        make_text(str(path))


def test_a_file_of_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)  # sparse: takes no space
    with pytest.raises(DataError, match=r"has 2\.00 GB, and at most 1 GB"):
        make_text(str(path))


def test_a_python_without_its_manual_is_told_to_name_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data", None)
    with pytest.raises(DataError, match="--set data=FILE"):
        make_text()


@pytest.mark.parametrize("tokens", [0, -1, 2.5, True, "64"])
def test_a_window_of_no_positive_whole_number_is_refused(tokens: object) -> None:
    with pytest.raises(ConfigurationError, match=r"whole number from 1"):
        make_text(columns={"tokens": tokens})


def test_a_key_of_tables_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"columns\.drop is not a key of task text"):
        make_text(columns={"drop": ["a"]})


def test_gathering_rows_of_the_views_gives_windows(manual: TextTask) -> None:
    rows = torch.tensor([5, 0, 5])
    batch = manual.train.inputs.index_select(0, rows)
    assert np.array_equal(batch[0], manual.ids[5:69])
    assert torch.equal(batch[0], batch[2])


def test_its_characters_are_sent_to_a_worker_once(manual: TextTask) -> None:
    sent = len(pickle.dumps(manual))
    scored = (manual.validation, manual.test)
    held = sum(x.numel() * x.element_size() for s in scored for x in (s.inputs, s.targets))
    text = len(manual.corpus.text.encode())
    assert sent - held - text < 1.1 * manual.ids.numel() * manual.ids.element_size()
