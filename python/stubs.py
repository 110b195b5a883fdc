"""Writes the docstrings of the built extension into its stub: they stand in one place, the Rust source.

`python stubs.py` rewrites `vecstone/_core.pyi`; `python stubs.py --check` exits 1 if that would change it.
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from vecstone import _core

STUB = Path(__file__).parent / "vecstone" / "_core.pyi"


def fill(body: list[ast.stmt], owner: object) -> None:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found = getattr(owner, node.name, None)
            doc = inspect.cleandoc(getattr(found, "__doc__", None) or "")
            rest = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
                                                       and isinstance(part.value.value, str))]
            public = not node.name.startswith("_")
            node.body = ([ast.Expr(ast.Constant(doc))] if doc and public else []) + rest
            if isinstance(node, ast.ClassDef):
                fill(node.body, found)


def main() -> int:
    old = STUB.read_text()
    tree = ast.parse(old)
    fill(tree.body, _core)
    new = ast.unparse(tree) + "\n"
    if "--check" in sys.argv:
        return int(new != old)
    STUB.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
