"""The examples of the documentation run: all Python of a page, in its order, in an empty directory.

A block that begins ```python fragment is shown and not run. What needs a package that is not installed is skipped.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import vecstone

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/python.md", "python/README.md", "docs/python-migration.md"]
BLOCK = re.compile(r"^```python(?P<fragment> fragment)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    """The code of a page, each block on the lines where it stands, for tracebacks."""
    text = (ROOT / page).read_text("utf-8")
    found = [(text[: block.start("code")].count("\n"), block) for block in BLOCK.finditer(text)]
    return ["\n" * line + block["code"] for line, block in found if not block["fragment"]]


def missing(code: str) -> list[str]:
    """Packages that a block imports and that are not there."""
    names = {alias.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    return sorted(name for name in {name.partition(".")[0] for name in names} if importlib.util.find_spec(name) is None)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page}
    run = 0
    for code in blocks(page):
        if not missing(code):
            exec(compile(code, str(ROOT / page), "exec"), names)
            run += 1
    if not run:
        pytest.skip(f"needs {', '.join(sorted({name for code in blocks(page) for name in missing(code)}))}")


def test_there_are_examples() -> None:
    assert all(blocks(page) for page in PAGES)


def test_the_examples_of_the_docstrings() -> None:
    failed, tried = doctest.testmod(vecstone)
    assert tried > 0 and failed == 0


@pytest.mark.parametrize("adapter", ["langchain", "llama_index"])
def test_the_examples_of_the_adapters(adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _langchain() if adapter == "langchain" else _llama_index()
    monkeypatch.chdir(tmp_path)
    module = __import__(f"vecstone.{adapter}", fromlist=["__doc__"])
    found = [block["code"] for block in BLOCK.finditer(module.__doc__ or "")]
    assert found
    for code in found:
        exec(compile(code, f"<{adapter}>", "exec"), names)
    if "store" in names:
        names["store"].close()


def _langchain() -> dict[str, Any]:
    embeddings = pytest.importorskip("langchain_core.embeddings")
    return {"embedding": embeddings.DeterministicFakeEmbedding(size=8)}


def _llama_index() -> dict[str, Any]:
    core = pytest.importorskip("llama_index.core")
    core.Settings.embed_model = core.MockEmbedding(embed_dim=8)
    return {"documents": [core.Document(text="stone lasts")]}
