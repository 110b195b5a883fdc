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


NO_DESCRIPTORS = """
import os, resource, sys
import vecstone
import numpy as np
path, what = sys.argv[1], sys.argv[2]
store = vecstone.open(path)
store.put("a", [1.0, 2.0]); store.put("b", [1.0, 2.0]); store.flush()
calls = {"open": lambda: vecstone.open(path + "2"), "open made": lambda: vecstone.open(path + "2", dim=3),
         "flush": lambda: (store.put("b", [1.0, 2.0], {"x": 1}), store.flush()), "verify": store.verify,
         "backup": lambda: store.backup(path + "3"), "compact": lambda: (store.delete_many(["a"]), store.compact()),
         "reader": lambda: vecstone.open(path, mode="r"), "missing": lambda: vecstone.open(path + "4", mode="r"),
         "there": lambda: vecstone.open(path, mode="x"), "ingest": lambda: vecstone.ingest(store, path + ".parquet")}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if what == "ingest":
    vecstone.ingest  # its modules are there; those of the error must not be needed
assert "pathlib" not in sys.modules
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    calls[what]()
except OSError as error:
    print("as it should be", type(error.filename).__name__)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to set")
@pytest.mark.parametrize("what", ["open", "open made", "flush", "verify", "backup", "compact", "reader", "missing", "there",
                                  "ingest"])
def test_no_error_needs_a_descriptor(what: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NO_DESCRIPTORS, str(tmp_path / "s"), what], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "as it should be str\n", done.stderr


SUB_INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
interpreter = interpreters.create()
interpreters.run_string(interpreter, '''
try:
    import vecstone
except ImportError as error:
    print(error, flush=True)
''')
print("end", flush=True)
"""


def test_a_sub_interpreter_is_refused(tmp_path: Path) -> None:
    code = "import vecstone\n" + SUB_INTERPRETER
    for script in (SUB_INTERPRETER, code):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.endswith("end\n") and "main interpreter" in done.stdout, done.stderr
