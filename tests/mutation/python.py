"""Mutants of Python modules: a changed comparison, number or constant, or a skipped branch. A test must kill each."""

from __future__ import annotations

import ast
import copy
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MIN_KILLED_SHARE = 0.9
#: Module: its tests, and the expression (``-k``) that selects those without a database.
MODULES = {
    "pointsman.crypto": (
        (
            "tests/unit/test_crypto.py",
            "tests/unit/test_standard_webhooks.py",
            "tests/unit/sources/test_generic.py",
        ),
        "",
    ),
    "pointsman.domain.retry_policy": (("tests/unit/domain/test_retry_policy.py",), ""),
    "pointsman.domain.circuit_breaker": (
        ("tests/integration/storage/test_circuit_breaker.py", "tests/unit/domain/test_circuit_breaker.py"),
        "silence or half or window or minutes or test_recent",
    ),
}

_OTHER = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """Source of a module with one change."""

    module: str
    line: int
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.change}"


def mutants(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for annotation in _annotations(node)
        for inner in ast.walk(annotation)
    }
    for n, node in enumerate(list(ast.walk(tree))):
        if id(node) in annotations:
            continue
        for k, change in enumerate(_changes(node)):
            mutated_tree = copy.deepcopy(tree)
            _apply(list(ast.walk(mutated_tree))[n], k)
            yield Mutant(module, getattr(node, "lineno", 0), change, ast.unparse(mutated_tree))


def _annotations(node: ast.AST) -> list[ast.expr]:
    """Return the annotations of a node, which are never executed."""
    match node:
        case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation) if annotation is not None:
            return [annotation]
        case ast.FunctionDef(returns=annotation) if annotation is not None:
            return [annotation]
        case _:
            return []


def _changes(node: ast.AST) -> list[str]:
    """Return a description of each change that a node allows."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _OTHER:
            return [f"{type(op).__name__} is {_OTHER[type(op)].__name__}"]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in _OTHER:
            return [f"{type(op).__name__} is {_OTHER[type(op)].__name__}"]
        case ast.UnaryOp(op=ast.Not()):
            return ["not is left out"]
        case ast.Constant(value=bool() as value):
            return [f"{value} is {not value}"]
        case ast.Constant(value=int() | float() as value):
            return [f"{value} is {value + 1}"]
        case ast.Return(value=value) if value is not None and not _is_none(value):
            return ["returns None"]
        case ast.IfExp():
            return ["always the first", "always the second"]
        case ast.If():
            return ["never"]
        case _:
            return []


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _apply(node: ast.AST, change: int) -> None:
    match node:
        case ast.Compare():
            node.ops = [_OTHER[type(node.ops[0])]()]
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            node.op = _OTHER[type(node.op)]()
        case ast.UnaryOp():
            node.op = ast.UAdd()
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant():
            node.value += 1
        case ast.Return():
            node.value = ast.Constant(None)
        case ast.IfExp():
            node.test = ast.Constant(change == 0)
        case ast.If():
            node.test = ast.Constant(value=False)


def killed(mutant: Mutant) -> bool:
    """Return whether a test fails with the mutant, in a forked process that has not imported the module."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    code = 1
    try:
        _install(mutant)
        tests, expression = MODULES[mutant.module]
        os.chdir(ROOT)
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests, "-k", expression]))
    finally:
        os._exit(min(code, 1))


def main() -> None:
    """Run all mutants of all modules; exit with 1 if too many of a module survive."""
    weak = False
    for module in MODULES:
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None
        original = ast.unparse(ast.parse(Path(spec.origin).read_text("utf-8")))
        assert not killed(Mutant(module, 0, "nothing", original)), (
            f"the tests of {module} fail without a mutant"
        )
        all_mutants = list(mutants(module))
        survivors = [mutant for mutant in all_mutants if not killed(mutant)]
        for mutant in survivors:
            print(f"{mutant}: SURVIVED")
        share = 1 - len(survivors) / len(all_mutants)
        print(f"{module}: {len(all_mutants)} mutants, {share:.0%} killed", flush=True)
        weak |= share < MIN_KILLED_SHARE
    sys.exit(weak)


def _install(mutant: Mutant) -> None:
    spec = importlib.util.find_spec(mutant.module)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[mutant.module] = module
    parent, _, name = mutant.module.rpartition(".")
    setattr(importlib.import_module(parent), name, module)
    exec(compile(mutant.source, f"{mutant.module} mutated", "exec"), module.__dict__)


if __name__ == "__main__":
    main()
