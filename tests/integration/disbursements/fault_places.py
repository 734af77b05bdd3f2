"""Every commit that stands in the code, under the name that its fault points have: read from the sources, not from a run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import vault_core

PRODUCT = Path(vault_core.__file__).parents[1]


def commits_in(*houses: str) -> set[str]:
    """The places of all `in_transaction` calls below these folders, as vault_core/fault_points.py names them."""
    return {
        place
        for house in houses
        for path in sorted((PRODUCT / house).rglob("*.py"))
        for place in _places(ast.parse(path.read_text(encoding="utf-8")), _module(path))
    }


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PRODUCT).with_suffix("").parts)


def _places(tree: ast.Module, module: str) -> Iterator[str]:
    origins = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for enclosing, call in _calls(tree, ()):
        yield _place(call.args[1], module, enclosing, origins).removeprefix("vault_core.")


def _calls(node: ast.AST, enclosing: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.Call]]:
    for child in ast.iter_child_nodes(node):
        inside = enclosing
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = (*enclosing, child.name)
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "in_transaction":
            yield inside, child
        yield from _calls(child, inside)


def _place(work: ast.expr, module: str, enclosing: tuple[str, ...], origins: dict[str, str]) -> str:
    match work:
        case ast.Lambda() | ast.Name(id="work"):
            return ".".join((module, *enclosing))
        case ast.Name(id=name):
            return origins.get(name) or ".".join((module, *enclosing, name))
        case ast.Call(func=ast.Name(id="partial"), args=[ast.Name(id=name), *_]):
            return origins.get(name) or f"{module}.{name}"
        case ast.Attribute(value=ast.Call(func=ast.Name(id=maker)), attr=method):
            return f"{module}.{maker}.{method}"
        case _:
            raise AssertionError(f"{module}: {ast.unparse(work)} is given to in_transaction in a form that has no name here")
