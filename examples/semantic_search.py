"""Ask this project's documentation a question, in your own words.

    python examples/semantic_search.py                                     # some questions to begin with
    python examples/semantic_search.py "is anything lost in a power cut?"  # yours

Each paragraph becomes a vector of 384 numbers by a real model (minilm.py, in numpy), and the paragraphs whose vectors
are nearest to that of the question are the answer. The store in target/semantic-search keeps vectors and texts: the
first run embeds everything, each later run only the paragraphs that have changed since.
"""

import argparse
import hashlib
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from minilm import DIM, MiniLM

import vecstone

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = [
    "Is anything lost when the power goes out?",
    "Can several processes use the same store?",
    "What happens to the space of rows that I delete?",
    "How are torn writes detected?",
]


def paragraphs(page: Path) -> Iterator[dict[str, str]]:
    """The paragraphs of a page, with the headings above them. Each item of a list and each line of a table is one."""
    headings: list[str] = []
    lines: list[str] = []
    in_code = False
    for line in [*page.read_text("utf-8").splitlines(), ""]:
        in_code ^= line.startswith("```")
        starts = not in_code and (not line.strip() or line.startswith(("#", "|", "- ", "1. ")))
        if starts and lines:
            yield paragraph(page, headings, "\n".join(lines))
            lines = []
        if not in_code and line.startswith("#"):
            marks, heading = line.split(" ", 1)
            headings[len(marks) - 1 :] = [heading.strip(" `")]
        elif line.strip() and not line.startswith(("|-", "| -", "```")):
            lines.append(line)


def paragraph(page: Path, headings: list[str], text: str) -> dict[str, str]:
    file, about = page.relative_to(ROOT).as_posix(), " / ".join(headings)
    # The id is made of what is said and where: one that is stored already needs no embedding.
    name = hashlib.sha256(f"{file}\n{about}\n{text}".encode()).hexdigest()[:16]
    return {"id": f"{file}:{name}", "text": f"{about}\n{text}", "file": file}


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "crates/vecstone/src/format/format.md"]


def index(store: vecstone.Store, embed: MiniLM) -> None:
    """Brings the store up to date with the pages."""
    rows = {row["id"]: row for page in pages() for row in paragraphs(page)}
    gone = store.delete_many(set(store) - set(rows))

    start = time.perf_counter()
    columns = {name: [row[name] for row in rows.values()] for name in ("id", "text", "file")}
    done = vecstone.ingest(
        store, columns, document_columns=["file"], text_column="text", embed=embed, batch_size=64, resume=True
    )
    took = time.perf_counter() - start
    print(f"{len(store)} paragraphs: {done.embedded} embedded in {took:.1f} s, {done.unchanged} as before, {gone} gone")


def answer(store: vecstone.Store, question: str, query, k: int) -> None:
    print(f"\n{question}")
    for hit in store.search(query, k, with_documents=True):
        about, _, text = hit.document["text"].partition("\n")
        print(f"  {hit.distance:.3f}  {hit.document['file']}: {about}")
        print(textwrap.indent(textwrap.fill(textwrap.shorten(text, 240, placeholder=" ..."), 100), " " * 9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("-k", type=int, default=3, help="answers to each question (default 3)")
    parser.add_argument("--store", type=Path, default=ROOT / "target" / "semantic-search")
    args = parser.parse_args()

    args.store.parent.mkdir(parents=True, exist_ok=True)
    embed = MiniLM()
    with vecstone.open(args.store, dim=DIM, metric="cosine") as store:
        index(store, embed)
        for question, query in zip(args.questions, embed(args.questions)):
            answer(store, question, query, args.k)


if __name__ == "__main__":
    main()
