"""Every fenced block of the pages that a user sees first is run, or what it names is there.

Python of the same pages runs in test_documentation.py, Rust as documentation tests (a test of vecstone-tidy says that both
pages have the same). Here: shell, fragments, and the picture of a directory.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FENCED = re.compile(r"^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", "python/README.md", "crates/vecstone/README.md", "crates/vecstone-arrow/README.md",
         "crates/vecstone-cli/README.md"]


class Block(NamedTuple):
    page: str
    language: str
    code: str


BLOCKS = [Block(page, found["language"], found["code"])
          for page in PAGES for found in FENCED.finditer((ROOT / page).read_text("utf-8"))]


def blocks(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def of_shell(*programs: str) -> list[Block]:
    return [block for block in blocks("sh") if block.code.split()[0] in programs]


def lines(block: Block) -> list[str]:
    """The commands of a block, one a line, without what stands behind `#`."""
    found = [re.sub(r"(^|\s)#.*", "", line).strip() for line in block.code.splitlines()]
    return [line for line in found if line]


def run(command: str, cwd: Path) -> str:
    """The output of a command line, in a shell where `vecstone` and `pip` are those of this environment."""
    ended = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=cwd, capture_output=True, text=True,
                           env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, f"{command}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    """A directory with the files that the pages name: 200 movies, near to each other, of 1950 to 2149."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ids = ["tt0111161", "tt0068646", *(f"tt{n:07}" for n in range(198))]
    vectors = (1 + np.random.default_rng(0).normal(scale=0.1, size=(200, 768))).astype("float32")
    np.save(tmp_path / "movies.npy", vectors)
    np.save(tmp_path / "questions.npy", vectors[:50])
    (tmp_path / "movies.txt").write_text("".join(f"{id}\n" for id in ids))
    table = {"id": ids, "embedding": list(vectors), "title": [f"Movie {id}" for id in ids],
             "year": list(range(1950, 2150))}
    pq.write_table(pa.table(table), tmp_path / "movies.parquet")
    return tmp_path


def test_every_block_is_of_a_known_kind() -> None:
    programs = of_shell("make", "pip", "vecstone")
    covered = [*programs, *blocks("python", "python fragment", "rust", "text")]
    assert sorted(covered) == sorted(BLOCKS)
    assert {block.page for block in BLOCKS} == set(PAGES)


@pytest.mark.parametrize("block", of_shell("vecstone"), ids=lambda block: block.page)
def test_commands(block: Block, movies: Path) -> None:
    for command in lines(block):
        assert run(command, movies) or not command.startswith(("vecstone search", "vecstone get", "vecstone info"))


def test_make_targets() -> None:
    """They are there; what they do is what runs these tests, or tests of the command line."""
    targets = set(re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {line.split()[1] for block in of_shell("make") for line in lines(block)}
    assert named == {"demo", "test"} and named < targets


@pytest.mark.parametrize("command", re.findall(r'pip install ([^\s`]+)', (ROOT / "README.md").read_text("utf-8")))
def test_pip_takes_what_the_page_installs(command: str) -> None:
    """All but the building, which takes minutes and has been done: these tests run in what it makes."""
    pytest.importorskip("maturin")
    told = run(f"pip install --disable-pip-version-check --dry-run --no-deps --no-build-isolation {command}", ROOT)
    assert "Would install vecstone" in told and "does not provide the extra" not in told


def test_cargo_takes_what_the_page_adds(tmp_path: Path) -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    added, installed = re.findall(r"`cargo (add [^`]*)`", text), re.findall(r"`cargo (install [^`]*)`", text)
    assert len(added) == len(installed) == 1
    assert 'name = "vecstone"\npath = "src/main.rs"' in (ROOT / installed[0].split()[-1] / "Cargo.toml").read_text("utf-8")
    if shutil.which("cargo") is None:
        pytest.skip("needs cargo")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").touch()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "mine"\nedition = "2024"\n')
    run(f"cargo {added[0]} --offline".replace("../vecstone/", f"{ROOT}/"), tmp_path)
    assert "crates/vecstone" in (tmp_path / "Cargo.toml").read_text()


def test_the_fragment_reads_the_rows(movies: Path) -> None:
    run("vecstone import movies movies.npy --ids movies.txt", movies)
    told = json.loads(run("vecstone info movies --json", movies))
    names = {"numpy": np, "rows": told["per_segment"][0]["rows"], "dim": told["dim"]}
    (fragment,) = blocks("python fragment")
    code = fragment.code.replace('"movies/', f'"{movies}/movies/')
    exec(code, names)
    assert np.array_equal(names["rows"], np.load(movies / "movies.npy"))


def test_the_files_of_a_store_are_those_of_the_picture(movies: Path) -> None:
    (picture,) = blocks("text")
    top, *shown = [line.split()[0] for line in picture.code.splitlines() if not line.startswith("        ")]
    run("vecstone import movies movies.parquet --vector-column embedding --document-columns title", movies)
    there = {file.suffix or file.name for file in (movies / top).iterdir()}
    # `.ids` are written for a store with more rows, `.del` after a delete.
    assert {Path(name).suffix or name for name in shown} - {".ids", ".del"} == there - {".ids"}


def test_options_that_the_pages_name() -> None:
    commands = re.findall(r"^  ([a-z]+) ", run("vecstone help", ROOT), re.MULTILINE)
    helps = "".join(run(f"vecstone help {command}", ROOT) for command in commands if command != "help")
    for page in PAGES:
        text = re.sub(r"(cargo|pip) [^`\n]*", "", (ROOT / page).read_text("utf-8"))
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
            assert re.search(rf"{option}(?![\w-])", helps), f"{page}: no command has {option}"
