"""What is installed: the command, the stubs, what importing costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vecstone


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vecstone", *args], capture_output=True, text=True, timeout=60)


def test_the_command_line(path: Path) -> None:
    assert run("--version").stdout.split()[1] == vecstone.__version__
    assert run("create", str(path), "--dim", "3").returncode == 0
    assert run("get", str(path), "nope").returncode == 1
    wrong = run("create", str(path), "--dim", "x")
    assert wrong.returncode == 2 and wrong.stderr.startswith("vecstone: ")
    found = Path(sys.executable).with_name("vecstone")
    assert subprocess.run([found, "info", path], capture_output=True).returncode == 0


def test_types_that_are_exported() -> None:
    assert {"ingest", "Ingested"} <= set(dir(vecstone)) and set(vecstone.__all__) <= set(dir(vecstone))
    assert vecstone.Ingested(1, 2, 3, 4)._fields == ("rows", "written", "unchanged", "embedded")


def test_the_path_is_a_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with vecstone.open(path.name, dim=4) as store:
        assert store.path == path and (store.path / "MANIFEST").is_file()


def test_ctrl_c_ends_the_command() -> None:
    """Python's own handler would wait until the command has ended."""
    code = "import signal, sys; from vecstone.__main__ import main; main(); print(signal.getsignal(signal.SIGINT).name)"
    ended = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert ended.stdout.split()[-1] == "SIG_DFL", ended


def test_only_numpy_is_imported() -> None:
    code = "import sys, vecstone; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert not loaded & {"pyarrow", "pandas", "polars", "tqdm", "langchain_core", "llama_index", "torch"}


def test_every_public_call_is_documented() -> None:
    for cls in (vecstone.Store, vecstone.Snapshot, vecstone.Segment, vecstone.Hits, vecstone.Hit):
        for name, member in inspect.getmembers(cls):
            if not name.startswith("_") and not inspect.ismemberdescriptor(member) and vecstone.__name__ in (getattr(member, "__module__", "") or "vecstone"):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"
    assert inspect.getdoc(vecstone.open) and inspect.getdoc(vecstone.ingest)


def test_the_stub_has_the_same_docs() -> None:
    stubs = Path(__file__).parents[1] / "stubs.py"
    subprocess.run([sys.executable, "-P", stubs, "--check"], check=True)
