"""Code of somebody's own, named as "module:Name": found and imported, or refused in a sentence."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from pso_attn.config import Configuration
from pso_attn.errors import ConfigurationError, nearest

GIVEN = "__main__"  # of what was handed over in Python, and can be imported from nowhere


def load_name(reference: str, what: str, code: str | None = None) -> Any:
    """Return what "module:Name" refers to.

    Modules are found where Python finds them, in the working directory, and in the folder `code`.
    what: the key that names it, for messages. What its module prints while it loads goes to
    stderr. Raises ConfigurationError where it does not import or has no such name.
    """
    module, _, name = reference.partition(":")
    label = f'{what} = "{reference}"'
    if not all(part.isidentifier() for part in module.split(".")) or not name.isidentifier():
        raise ConfigurationError(f'{label} is not of the form "module:Name"')
    if module == GIVEN:
        raise ConfigurationError(
            f"{label} was handed to pso_attn.tune in a script, where nothing else finds it; call "
            "tune again with the same run name, or put it into a module of its own"
        )
    folders = [os.getcwd(), *([] if code is None else [code])]
    sys.path += [folder for folder in folders if folder not in sys.path]
    importlib.invalidate_caches()  # a module may be younger than this process
    _check_found(module, label, folders)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it loads
        raise ConfigurationError(
            f"{label}: importing {module} failed with {type(error).__name__}: {error}"
        ) from error
    if not hasattr(imported, name):
        own = _own_names(imported)
        raise ConfigurationError(f"{label}: {module} has no {name}{nearest(name, own)}")
    return getattr(imported, name)


def load_function(reference: str, what: str, code: str | None = None) -> Callable[..., Any]:
    """Return the callable that "module:Name" refers to; ConfigurationError where it is none."""
    found = load_name(reference, what, code)
    if not callable(found):
        raise ConfigurationError(
            f'{what} = "{reference}" is a {type(found).__name__}, which cannot be called; name a '
            "function"
        )
    return found  # type: ignore[no-any-return]  # checked above


def call(made: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a third party's class; a mismatch of its arguments is a sentence."""
    try:
        bound = partial(made, **arguments)
        inspect.signature(made).bind(**arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(arguments) or "no arguments"
        raise ConfigurationError(f'"{name}" cannot be called with {given}: {error}') from error
    return bound()


def check_call(function: Callable[..., Any], name: str, arguments: str, count: int) -> None:
    """Raise ConfigurationError for a function that cannot be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError as error:
        raise ConfigurationError(
            f'"{name}" cannot be called with ({arguments}): {error}'
        ) from error
    except ValueError:  # of a builtin, whose signature nobody knows
        return


def refuse_imports(configuration: Configuration) -> None:
    """Raise ConfigurationError if the configuration names anything as "module:Name"."""
    for what, name in configuration.own_code.items():
        raise ConfigurationError(
            f'{what} = "{name}" would import code, which --no-import refuses; '
            "leave out the flag if you trust it"
        )


def _own_names(module: ModuleType) -> list[str]:
    """Return what a module or its package defines and may be named, without what it imports."""
    top = module.__name__.partition(".")[0]

    def is_own(value: Any) -> bool:
        defined = value.__module__ if inspect.isroutine(value) or inspect.isclass(value) else top
        return callable(value) and str(defined).partition(".")[0] == top

    return [n for n, value in vars(module).items() if not n.startswith("_") and is_own(value)]


def _check_found(module: str, label: str, folders: list[str]) -> None:
    """Raise ConfigurationError, with the nearest name, where there is no such module."""
    top = module.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    beside = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    hint = nearest(top, beside)
    hint = hint if hint.startswith("; did you mean") else ""  # a folder may hold very many
    places = " or ".join(dict.fromkeys(folders))
    raise ConfigurationError(f"{label}: there is no module {top} in {places}{hint}")
