"""From a file, `--set` and flags to one configuration; what comes later in that list wins."""

import copy
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pso_attn.config.builtin import builtin_spaces, find_space
from pso_attn.config.configuration import Configuration
from pso_attn.config.schema import check_document, configuration_from
from pso_attn.errors import ConfigurationError, nearest

FLAGS: Mapping[str, tuple[str, str]] = {
    "particles": ("budget", "particles"),
    "batch": ("budget", "batch"),
    "generations": ("budget", "generations"),
    "sampler": ("run", "sampler"),
    "seed": ("run", "seed"),
    "device": ("run", "device"),
    "storage": ("run", "storage"),
    "precision": ("model", "precision"),
    "executor": ("run", "executor"),
    "workers": ("run", "workers"),
    "ray_address": ("run", "ray_address"),
    "chunk_timeout_s": ("run", "chunk_timeout_s"),
}


def read_configuration(
    space: str, sets: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Configuration:
    """Return the configuration of a space file or built-in name.

    sets: `key=value`, dotted keys of the file, each value TOML, else text. flags: by the names
    in `FLAGS`; None means not given. A swarm made smaller there takes its batch with it.
    Raises ConfigurationError for whatever cannot be meant.
    """
    path = find_space(space)
    where = space if space in builtin_spaces() else str(path)
    return configured(read_toml(path), where, path.parent, sets, flags)


def configured(
    document: Mapping[str, Any],
    where: str,
    folder: Path,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Configuration:
    """Return the configuration of a space file's document, as `read_configuration` does.

    where: what it is called in messages, and its run after it. folder: where it lies.
    """
    check_document(document, where)
    if "objective" in document and (flags or {}).get("precision") is not None:
        raise ConfigurationError(
            f"{where}: --precision is for models that are trained here, and "
            f"{document['objective']} trains its own; leave it out"
        )
    overrides = [_parse_set(text) for text in sets]
    overrides += [
        (FLAGS[name], value) for name, value in (flags or {}).items() if value is not None
    ]
    document = _locate_data(document, folder)
    if any(keys == ("run", "executor") for keys, _ in overrides):  # takes over nothing
        others = ("workers", "ray_address", "chunk_timeout_s")
        run = {k: v for k, v in document.get("run", {}).items() if k not in others}
        document = {**document, "run": run}
    document = _locate_data(apply_overrides(document, overrides), Path.cwd())
    run = document.setdefault("run", {})
    if isinstance(run, dict):  # else what comes below says so
        if isinstance(run.get("storage"), str):
            run["storage"] = located_storage(run["storage"])
        for fixed_by_the_run in ("fingerprint", "direction", "planned_generations"):
            run.pop(fixed_by_the_run, None)
        run["source"] = where
    read = configuration_from(document, f"{where} with --set and flags" if overrides else where)
    if read.maximize and not {*read.maximize} & {*read.objectives}:
        name = read.maximize[0]
        raise ConfigurationError(
            f'{where}: "maximize" has "{name}", and the objective is "{read.objectives[0]}"'
            f'{nearest(name, read.objectives)}; say objectives = ["{name}"] to maximise that'
        )
    if not read.own_code or where in builtin_spaces():
        return replace(read, code=None)
    of_its_run = folder / (read.code or "")  # where the file is the configuration of one
    code = of_its_run if os.path.isdir(of_its_run) else folder
    return replace(read, code=str(code.resolve()))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the document of a TOML file; raises ConfigurationError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as UTF-8 text: {error}") from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of a number too long, of tables too deep
        found = re.search(r"\(at line (\d+)", str(error))
        line = int(found.group(1)) if found else len(text.splitlines())
        raise ConfigurationError(f"{path}, line {line}: not valid TOML: {error}") from error


def apply_overrides(
    document: Mapping[str, Any], overrides: Sequence[tuple[tuple[str, ...], Any]]
) -> dict[str, Any]:
    """Return the document with each dotted key set, in order; missing tables are made.

    What is fixed so is no longer searched, and what is searched so is no longer fixed.
    """
    result: dict[str, Any] = copy.deepcopy(dict(document))
    for keys, value in overrides:
        table = result
        for depth, key in enumerate(keys[:-1]):
            if keys[0] == "search" and depth == 1 and isinstance(table.get(key), list):
                table[key] = {"choices": table[key]}  # the long form of a knob's list
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                parent, name = ".".join(keys[: depth + 1]), ".".join(keys)
                raise ConfigurationError(
                    f'--set {name}: "{parent}" is not a table; set "{parent}" itself'
                )
        table[keys[-1]] = value
    given = {keys for keys, _ in overrides}
    named = {keys[:2] for keys in given if len(keys) > 1}
    for kind, name in named:
        other = {"model": "search", "search": "model"}.get(kind, "")
        before = result.get(other)
        if isinstance(before, dict) and (other, name) not in named:
            before.pop(name, None)
    return _with_batch_inside_swarm(result, given)


def located_storage(url: str) -> str:
    """Return a storage's URL with the file of an SQLite database named in full."""
    scheme, mark, file = url.partition(":///")
    is_file = mark and scheme.startswith("sqlite") and file and not file.startswith((":", "file:"))
    return f"{scheme}:///{Path.cwd() / file}" if is_file else url


def _with_batch_inside_swarm(
    document: dict[str, Any], given: set[tuple[str, ...]]
) -> dict[str, Any]:
    budget = document.get("budget")
    if ("budget", "particles") in given and ("budget", "batch") not in given:
        assert isinstance(budget, dict)  # the key was just set inside it
        particles, batch = budget["particles"], budget.get("batch")
        if isinstance(batch, int) and isinstance(particles, int) and batch > particles:
            budget["batch"] = particles
    return document


def _parse_set(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    keys = tuple(part.strip() for part in key.split("."))
    if not equals or not all(keys):
        raise ConfigurationError(
            f'--set {text}: expected key=value with a dotted key, such as "model.layers=1"'
        )
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return keys, value.strip()
    return keys, parsed["value"] if set(parsed) == {"value"} else value.strip()


def _locate_data(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make files of `folder` absolute, `data` and checkpoints, so that any folder may resume."""
    data = document.get("data")
    located = dict(document)
    if isinstance(data, str):
        located["data"] = _located(data, folder)
    weights = document.get("weights")
    if isinstance(weights, Mapping) and isinstance(weights.get("start"), str | list):
        start = weights["start"]
        names = start if isinstance(start, list) else [start]
        found = [
            _located(n, folder) if isinstance(n, str) and Path(n).suffix else n for n in names
        ]
        located["weights"] = {**weights, "start": found if isinstance(start, list) else found[0]}
    return located


def _located(name: str, folder: Path) -> str:
    """Return the absolute path of what `name` names in `folder`; itself where nothing is there."""
    try:
        path = folder / Path(name).expanduser()
        return str(path.resolve()) if path.exists() else name
    except (OSError, RuntimeError):  # too long, not to be looked into, or ~ of nobody
        return name
