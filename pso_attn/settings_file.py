"""Settings that a person wrote down in a file of their own, to be trained as they stand."""

import json
import tomllib
from pathlib import Path
from typing import Any

from pso_attn.config import Configuration
from pso_attn.configured_space import OWN_KNOBS, declared_knobs, make_bare_space
from pso_attn.errors import ConfigurationError
from pso_attn.space import read_settings


def read_settings_file(path: Path, configuration: Configuration) -> dict[str, Any]:
    """Return a file's settings over the run's fixed ones; the knobs of neither have defaults.

    Those of built-in families stay unsaid, for a model knows them, and some follow from others.
    Of code of one's own only the space knows them, so they are said.

    path: JSON where it ends in .json, else TOML; a table "settings" in it, as `best --json`
    prints one, is read in place of the whole. Raises ConfigurationError, in one sentence, for
    what cannot be read, is no knob, or is a value that its knob does not admit.
    """
    document = _document(path)
    given = document.get("settings", document) if isinstance(document, dict) else document
    if not isinstance(given, dict) or not given:
        raise ConfigurationError(f"{path} holds no settings; write one knob a line, as heads = 4")
    if given.get("family", configuration.family) != configuration.family:
        raise ConfigurationError(
            f'{path}: family is "{given["family"]}", and the run\'s is "{configuration.family}"; '
            "give settings of that family"
        )
    knobs = declared_knobs(configuration)
    settings = read_settings({**configuration.fixed, **given}, knobs, str(path))
    if OWN_KNOBS & configuration.own_code.keys():
        return make_bare_space(configuration).completed(settings)
    return settings


def _document(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error}") from error
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        return json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not {kind}: {error}") from error
