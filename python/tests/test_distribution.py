"""What the installed wheel carries beside the code: licences, and what a registry shows of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import distribution, files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LICENCES = ["LICENSE-MIT", "LICENSE-APACHE", "LICENSES-THIRD-PARTY.txt"]


def test_the_wheel_carries_the_licences() -> None:
    carried = {file.name: file.locate() for file in files("vecstone") or [] if "licenses" in file.parts}
    assert sorted(carried) == sorted(LICENCES)
    for name, file in carried.items():
        assert Path(str(file)).read_bytes() == (ROOT / "python" / name).read_bytes(), name


def test_the_licences_are_those_of_the_locked_crates() -> None:
    subprocess.run([sys.executable, "-P", ROOT / "python/licences.py", "--lock"], check=True)


def test_what_a_registry_shows() -> None:
    told = distribution("vecstone").metadata
    assert told["License-Expression"] == "MIT OR Apache-2.0"
    assert told.get_all("License-File") == LICENCES
    assert told["Summary"] and told["Requires-Python"] == ">=3.11" and told["Keywords"]
    links = {line.partition(", ")[0] for line in told.get_all("Project-URL") or []}
    assert links == {"Homepage", "Documentation", "Repository", "Issues", "Changelog"}
    assert told["Description-Content-Type"].startswith("text/markdown") and "pip install" in told["Description"]
    assert {"langchain", "llama-index"} <= set(told.get_all("Provides-Extra") or [])


def test_the_wheel_names_no_folder_of_the_machine_that_built_it() -> None:
    assert not [file for file in files("vecstone") or [] if "sboms" in file.parts]


@pytest.mark.parametrize("module", [False, True])
def test_the_demo_needs_nothing_but_the_wheel(module: bool, tmp_path: Path) -> None:
    """Neither files of the repository nor a PATH with the command on it."""
    command = [sys.executable, "-m", "vecstone"] if module else [Path(sys.executable).with_name("vecstone")]
    ended = subprocess.run([*command, "demo", "kept", "--json"], cwd=tmp_path, env=os.environ | {"PATH": "/usr/bin:/bin"},
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["rows"] == 256 and [search["id"] for search in told["searches"]] == ["firefox-esr", "vlc", "sqlite3"]


def test_symbols_tell_their_crate() -> None:
    """What `make wheel` prints, for both ways in which Rust writes names."""
    spec = importlib.util.spec_from_file_location("wheel", ROOT / "python/wheel.py")
    assert spec and spec.loader
    wheel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wheel)
    known = {"parquet", "lz4_flex", "blake3", "gimli"}
    for symbol, crate in [
        ("_ZN7parquet6column6writer12ColumnWriter5close17ha8ec656edba9abe1E", "parquet"),
        ("_ZN84_$LT$lz4_flex..frame..FrameDecoder$LT$R$GT$$u20$as$u20$std..io..Read$GT$4read17h5efaa77a6c36fe2bE", "lz4_flex"),
        ("_ZN4core3ptr50drop_in_place$LT$blake3..Hasher$GT$17h0ae122939123d488E", "blake3"),
        ("_RNvMs4_NtNtCsduwmD7cSIQq_5gimli4read5dwarfE3newCsjrHSEGnQ3l9_3std", "gimli"),
        ("_ZN4core5slice4sort6stable9quicksort9quicksort17h0ae122939123d488E", wheel.STD),
        ("ZSTD_compressBlock_fast", "C of zstd-sys"),
        ("memcpy", wheel.STD),
    ]:
        assert wheel.crate(symbol, known) == crate, symbol
