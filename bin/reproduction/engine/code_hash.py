"""A hash of the code that a figure runs: its module and all modules of this project it imports.

The hash is computed from the syntax tree, so it doesn't depend on comments, docstrings and layout.
It includes imports inside functions, since TensorFlow is imported inside functions everywhere.
"""

import ast
import functools
import hashlib
import pathlib

from bin.common import roots

_PACKAGES = ("thesis_tf", "models", "bin")
# Functions that show a result and don't compute it.
SHOWING = ("draw", "claims")
_SHOWN = ("TITLE", "CAPTION", "AFTER")


def of_module(module: str, *, showing: bool = True) -> str:
    """Hashes a module of this project with all its direct and indirect imports.

    Args:
        module: a dotted name.
        showing: whether to include functions and texts that only show a result.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(module, showing)):
        digest.update(name.encode() + _parsed(name, showing or name != module)[0])
    return digest.hexdigest()[:16]


def _closure(module: str, showing: bool) -> set[str]:
    found: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        if name in found or _path(name) is None:
            continue
        found.add(name)
        parents = name.split(".")[:-1]
        left += [".".join(parents[:end]) for end in range(1, len(parents) + 1)]
        left += _parsed(name, showing or name != module)[1]
    return found


def _path(name: str) -> pathlib.Path | None:
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return None
    path = roots.of_package(parts[0]).joinpath(*parts)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _parsed(module: str, showing: bool) -> tuple[bytes, tuple[str, ...]]:
    """Returns (the syntax tree of a module, names of the modules that it may import)."""
    path = _path(module)
    assert path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    if not showing:
        tree.body = [part for part in tree.body if not _only_shows(part)]
    package = module.split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        _drop_docstring(node)
    return ast.dump(tree).encode(), tuple(names)


def _only_shows(part: ast.stmt) -> bool:
    if isinstance(part, ast.FunctionDef):
        return part.name in SHOWING
    return isinstance(part, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id in _SHOWN for target in part.targets
    )


def _drop_docstring(node: ast.AST) -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, kinds) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
