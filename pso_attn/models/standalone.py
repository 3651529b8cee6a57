"""The source of some definitions, and of all that they need of this package, as one module.

An exported model carries this text, so that it runs where the package is not installed. It is cut
out of the package's own files by what each definition refers to: there is no list to keep.
"""

import ast
import importlib
import inspect
import re
import symtable
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any

_PACKAGE = __name__.partition(".")[0]


def standalone_source(*roots: Callable[..., Any]) -> str:
    """Return a module that defines each of the classes and functions `roots` under its own name.

    What they refer to stands before them, in the words of its own file; of two things of one name
    the second gets its file's name in front. A file's other statements are left out, so a table
    that is filled elsewhere comes out as it was first written.
    """
    module = _Module()
    for root in roots:
        module.take(root.__module__, root.__qualname__)
    return "\n\n\n".join([module.imports(), *module.statements.values()]) + "\n"


@dataclass(frozen=True)
class _Module:
    """A module that grows.

    names: (file, name there) -> name here. statements: (file, line) -> text. outside:
    (module, name in it or "", name here) of what comes from outside the package.
    """

    names: dict[tuple[str, str], str] = field(default_factory=dict)
    statements: dict[tuple[str, int], str] = field(default_factory=dict)
    outside: set[tuple[str, str, str]] = field(default_factory=set)

    def take(self, file: str, name: str) -> str:
        """Define what a file calls `name`, and what that needs; return what it is called here."""
        source = _read(file)
        if name in source.imported:
            origin, original = source.imported[name]
            if original and origin.partition(".")[0] == _PACKAGE:
                return self.take(origin, original)
            self.outside.add((origin, original, name))
        elif name in source.defined and (file, name) not in self.names:
            taken = name in self.names.values()
            self.names[file, name] = f"{file.rpartition('.')[2]}_{name}" if taken else name
            node = source.defined[name]
            here = {used: self.take(file, used) for used in _scopes(source.text(node))[0]}
            here |= {bound: self.take(file, bound) for bound in source.bound(node)}
            changed = {there: new for there, new in here.items() if there != new}
            text = source.text(node, changed)
            self.statements.setdefault((file, node.lineno), text)
        return self.names.get((file, name), name)  # a builtin's own name, or an imported one

    def imports(self) -> str:
        """Return the lines that import from outside the package, plain ones first."""
        plain = sorted((module, here) for module, there, here in self.outside if not there)
        lines = [f"import {m}" if m == here else f"import {m} as {here}" for m, here in plain]
        named = sorted(entry for entry in self.outside if entry[1])
        for module, entries in groupby(named, key=lambda entry: entry[0]):
            shown = (old if old == new else f"{old} as {new}" for _, old, new in entries)
            lines.append(f"from {module} import {', '.join(shown)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Source:
    """One file of the package, by what it imports and defines at its top level."""

    lines: tuple[bytes, ...]  # `ast` counts columns in bytes
    tree: ast.Module

    @cached_property
    def imported(self) -> Mapping[str, tuple[str, str]]:
        """Name -> module, and the name in it or ""."""
        found: dict[str, tuple[str, str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found[alias.asname or alias.name] = (node.module, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name] = (alias.name, "")
        return found

    @cached_property
    def defined(self) -> Mapping[str, ast.stmt]:
        """Name -> the statement that defines it."""
        return {name: node for node in self.tree.body for name in self.bound(node)}

    def bound(self, node: ast.stmt) -> list[str]:
        """Return the names that a top-level statement defines."""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return [node.name]
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            return []
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        parts = (part for target in targets for part in ast.walk(target))
        return [part.id for part in parts if isinstance(part, ast.Name)]

    def text(self, node: ast.stmt, changed: Mapping[str, str] | None = None) -> str:
        """Return a statement as written, with decorators and inner comments; names changed."""
        changed = changed or {}
        decorators = getattr(node, "decorator_list", [])
        first = min(part.lineno for part in (node, *decorators))
        lines = list(self.lines[first - 1 : node.end_lineno])
        uses = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in changed]
        for use in sorted(uses, key=lambda use: (use.lineno, use.col_offset), reverse=True):
            line, end = lines[use.lineno - first], use.col_offset + len(use.id.encode())
            new = changed[use.id].encode()
            lines[use.lineno - first] = line[: use.col_offset] + new + line[end:]
        whole = b"\n".join(lines).decode()
        inner = set(changed) & _scopes(whole)[1]
        assert not inner, f"{inner} stand for two things here; rename the local one:\n{whole}"
        name = getattr(node, "name", "")
        return re.sub(
            rf"^(def|class) {name}\b", rf"\1 {changed.get(name, name)}", whole, flags=re.M
        )


@cache
def _read(file: str) -> _Source:
    text = inspect.getsource(importlib.import_module(file))
    return _Source(tuple(text.encode().split(b"\n")), ast.parse(text))


def _scopes(text: str) -> tuple[list[str], set[str]]:
    """Return the names that a statement takes from around it, and those local to it."""
    outermost = symtable.symtable(text, "<statement>", "exec")
    around = {symbol.get_name() for symbol in outermost.get_symbols() if symbol.is_referenced()}
    local, tables = set[str](), outermost.get_children()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            (around if symbol.is_global() else local).add(symbol.get_name())
    return sorted(around), local
