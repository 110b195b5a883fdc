"""Writes the licences of the crates that the package links to LICENSES-THIRD-PARTY.txt; wheel and sdist carry that file.

`python licences.py` reads the sources that cargo has downloaded. `--check` exits 1 if the file would change. `--lock` needs
neither cargo nor the network: it exits 1 unless the file names the packages that Cargo.lock names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "python/LICENSES-THIRD-PARTY.txt"
# What wheels are made for.
PLATFORMS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin",
             "x86_64-pc-windows-gnu", "x86_64-pc-windows-msvc"]
NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
HEAD = """\
What the vecstone package links, under which terms, with the texts of the licences. `make licences` writes this file from
Cargo.lock. vecstone itself is under MIT or Apache-2.0: LICENSE-MIT, LICENSE-APACHE.

The Rust standard library is linked as well: MIT or Apache-2.0, Copyright (c) The Rust Project Contributors.

LINKED: name, version, terms, numbers of the texts below
"""
NOT_LINKED = """
NOT LINKED: what Cargo.lock has beside these, to build and test vecstone, and for other platforms
"""


def linked() -> list[dict[str, Any]]:
    """The packages of the registry whose code is in the extension, on one platform or another."""
    platforms = [part for name in PLATFORMS for part in ("--filter-platform", name)]
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1", *platforms]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found = {id for id, package in packages.items() if package["name"] == "vecstone-python"}
    todo = list(found)
    while todo:
        for edge in nodes[todo.pop()]["deps"]:
            runs = any(kind["kind"] is None for kind in edge["dep_kinds"])
            macro = any("proc-macro" in target["kind"] for target in packages[edge["pkg"]]["targets"])
            if runs and not macro and edge["pkg"] not in found:
                found.add(edge["pkg"])
                todo.append(edge["pkg"])
    return sorted((packages[id] for id in found if packages[id]["source"]), key=lambda p: (p["name"], p["version"]))


def locked() -> set[str]:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))["package"]
    return {f"{package['name']} {package['version']}" for package in packages if "source" in package}


def texts(package: dict[str, Any], known: dict[str, Path]) -> Iterator[str]:
    """The licences in a package, also those of sources that it brings along; else the usual text of its terms."""
    folder = Path(package["manifest_path"]).parent
    paths = sorted(path for path in folder.iterdir() if path.name.upper().startswith(NAMES))
    paths += sorted(path for path in folder.rglob("LICENSE*") if path.parent != folder)
    found = [path.read_text("utf-8") for path in paths if path.is_file()]
    if found:
        yield from found
    elif "Apache-2.0" in package["license"]:
        yield (ROOT / "LICENSE-APACHE").read_text("utf-8")
    else:
        usual = {"MIT": ROOT / "LICENSE-MIT", "BSD-3-Clause": known["alloc-no-stdlib"] / "LICENSE"}
        text = usual[package["license"]].read_text("utf-8")
        authors = ", ".join(package["authors"])
        yield re.sub(r"Copyright .*", f"Copyright (c) {authors}", text, count=1)


def write() -> str:
    packages = linked()
    folders = {package["name"]: Path(package["manifest_path"]).parent for package in packages}
    numbers: dict[str, int] = {}
    bodies: list[str] = []
    lines = []
    for package in packages:
        of_package = []
        for text in texts(package, folders):
            number = numbers.setdefault(" ".join(text.split()), len(bodies) + 1)
            if number > len(bodies):
                bodies.append("\n".join(line.rstrip() for line in text.expandtabs().splitlines()).strip("\n"))
            if number not in of_package:
                of_package.append(number)
        terms = package["license"].replace("/", " OR ")
        lines.append(f"{package['name']} {package['version']}: {terms}: {', '.join(map(str, of_package))}\n")
    others = sorted(locked() - {f"{package['name']} {package['version']}" for package in packages})
    tail = "".join(f"\n{'=' * 30} {number}\n\n{body}\n" for number, body in enumerate(bodies, 1))
    return HEAD + "".join(lines) + NOT_LINKED + "".join(f"{name}\n" for name in others) + tail


def named(text: str) -> set[str]:
    """The packages that the file names, linked or not."""
    lists = text.partition("LINKED: ")[2].partition("\n=====")[0]
    return {match[0] for match in re.finditer(r"^[\w-]+ \d[^\s:]*", lists, re.MULTILINE)}


def main() -> int:
    old = FILE.read_text("utf-8") if FILE.exists() else ""
    if "--lock" in sys.argv:
        wrong = sorted(named(old) ^ locked())
        if wrong:
            print(f"{FILE.name} is not of this Cargo.lock: {', '.join(wrong)}; run make licences", file=sys.stderr)
        return int(bool(wrong))
    new = write()
    if "--check" in sys.argv:
        if new != old:
            print(f"{FILE.name} is out of date; run make licences", file=sys.stderr)
        return int(new != old)
    FILE.write_text(new, "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
