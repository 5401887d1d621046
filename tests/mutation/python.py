"""Python code with one thing wrong: a comparison, a number, a word, a step left out. The tests of the module must fail."""

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
ENOUGH = 0.9
#: Module, its tests, and which of them run without a database.
MODULES = {
    "pointsman.crypto": (
        ("tests/unit/test_crypto.py", "tests/unit/test_standard_webhooks.py", "tests/unit/sources/test_generic.py"),
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
    """A module with one thing changed."""

    module: str
    line: int
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.what}"


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    types = {id(inner) for node in ast.walk(tree) for one in _types(node) for inner in ast.walk(one)}
    for n, node in enumerate(list(ast.walk(tree))):
        if id(node) in types:
            continue
        for k, what in enumerate(_changes(node)):
            made = copy.deepcopy(tree)
            changed = list(ast.walk(made))[n]
            _apply(changed, k)
            yield Mutant(module, getattr(node, "lineno", 0), what, ast.unparse(made))


def _types(node: ast.AST) -> list[ast.expr]:
    """Annotations: nobody runs them."""
    match node:
        case ast.arg(annotation=one) | ast.AnnAssign(annotation=one) if one is not None:
            return [one]
        case ast.FunctionDef(returns=one) if one is not None:
            return [one]
        case _:
            return []


def _changes(node: ast.AST) -> list[str]:
    """What can be changed in a node, in words."""
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


def noticed(mutant: Mutant) -> bool:
    """Whether a test fails with it; in a process of its own, which has everything imported but the module."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    code = 1
    try:
        _install(mutant)
        tests, only = MODULES[mutant.module]
        os.chdir(ROOT)
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests, "-k", only]))
    finally:
        os._exit(min(code, 1))


def main() -> None:
    """All mutants of all modules; fails where too many were not noticed."""
    weak = False
    for module in MODULES:
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None
        right = ast.unparse(ast.parse(Path(spec.origin).read_text("utf-8")))
        assert not noticed(Mutant(module, 0, "nothing", right)), (
            f"the tests of {module} fail without a mutant"
        )
        made = list(mutants(module))
        survivors = [mutant for mutant in made if not noticed(mutant)]
        for mutant in survivors:
            print(f"{mutant}: SURVIVED")
        share = 1 - len(survivors) / len(made)
        print(f"{module}: {len(made)} mutants, {share:.0%} noticed", flush=True)
        weak |= share < ENOUGH
    sys.exit(weak)


def _install(mutant: Mutant) -> None:
    spec = importlib.util.find_spec(mutant.module)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[mutant.module] = made
    parent, _, name = mutant.module.rpartition(".")
    setattr(importlib.import_module(parent), name, made)
    exec(compile(mutant.source, f"{mutant.module} mutated", "exec"), made.__dict__)


if __name__ == "__main__":
    main()
