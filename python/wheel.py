"""Finishes a wheel that was built with symbols: `python wheel.py FILE.whl`.

Prints the ten largest crates of its extension, strips that, and exits 1 if the wheel is larger than it may be. Needs nm
and strip, which come with the linker.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MOST = 7_000_000  # bytes
ROOT = Path(__file__).resolve().parents[1]
STD = "std and what it links"


def names(symbol: str) -> Iterator[str]:
    """What may be a crate in a mangled name, in its order: of both manglings that Rust has."""
    for length in re.finditer(r"^_ZN(\d+)|C(?:s[0-9A-Za-z]+_)?(\d+)_?", symbol):
        yield symbol[length.end() :][: int(length[1] or length[2])]
    yield from re.findall(r"(\w+?)\.\.", symbol)


def crate(symbol: str, known: set[str]) -> str:
    """Whose code a symbol is. What the standard library has for the type of a crate is that crate's."""
    if not symbol.startswith(("_ZN", "_R")):
        return "C of zstd-sys" if re.match("ZSTD|HUF|FSE|HIST|COVER|ZDICT|XXH|ERR|POOL", symbol) else STD
    return next((name for name in names(symbol) if name in known), STD)


def largest(extension: Path) -> None:
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))["package"]
    known = {package["name"].replace("-", "_") for package in locked} | {"_core"}
    listed = subprocess.run(["nm", "--print-size", "--radix=d", extension], stdout=subprocess.PIPE, text=True, check=True)
    sizes: Counter[str] = Counter()
    places = set()
    for line in listed.stdout.splitlines():
        parts = line.split()
        # Functions with the same code are one, with several names.
        if len(parts) == 4 and parts[0] not in places:
            places.add(parts[0])
            sizes[crate(parts[3], known)] += int(parts[1])
    total = sizes.total()
    print(f"the ten largest crates, of {total / 1e6:.1f} MB that have a name:")
    for name, size in sizes.most_common(10):
        print(f"  {size / 1e6:6.2f} MB  {size / total:5.1%}  {name}")


def finish(wheel: Path) -> None:
    """Strips the extension in a wheel; RECORD gets its new sum."""
    with zipfile.ZipFile(wheel) as old, tempfile.TemporaryDirectory() as folder:
        entries = [(entry, old.read(entry)) for entry in old.infolist()]
        (at,) = [at for at, (entry, _) in enumerate(entries) if entry.filename.endswith(".so")]
        entry, data = entries[at]
        extension = Path(folder, "extension.so")
        extension.write_bytes(data)
        largest(extension)
        subprocess.run(["strip", "--strip-all", extension], check=True)
        data = extension.read_bytes()
        entries[at] = (entry, data)
    sum_of = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    line = f"{entry.filename},sha256={sum_of},{len(data)}"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for entry_, content in entries:
            if entry_.filename.endswith("/RECORD"):
                content = re.sub(rf"^{re.escape(entry.filename)},.*$", line, content.decode(), flags=re.M).encode()
            new.writestr(entry_, content, zipfile.ZIP_DEFLATED, 9)


def main() -> int:
    wheel = Path(sys.argv[1])
    finish(wheel)
    size = wheel.stat().st_size
    print(f"{wheel}: {size / 1e6:.2f} MB")
    if size > MOST:
        print(f"that is more than {MOST / 1e6} MB", file=sys.stderr)
    return int(size > MOST)


if __name__ == "__main__":
    sys.exit(main())
