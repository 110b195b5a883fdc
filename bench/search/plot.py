"""Draws exact queries/s by the number of rows, of the newest run of `bench/search/run.py --only sizes`.

    python bench/search/plot.py [--results FILE] [--to docs/search-speed]      writes .png and .svg
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

HERE = Path(__file__).resolve().parent
STYLES = {  # colour, line, marker
    "vecstone": ("#c2410c", "-", "o"),
    "FAISS Flat": ("#1d4ed8", "-", "s"),
    "NumPy": ("#475569", "-", "^"),
    "hnswlib": ("#94a3b8", "--", "D"),
}
TEXT, GRID = "#0f172a", "#e2e8f0"

Lines = dict[str, dict[str, dict[int, float]]]  # data set, library, rows: queries/s


def newest(results: Path) -> tuple[dict, Lines]:
    """A line of the newest run that has sizes, and the lines to draw of it."""
    found = [line for line in map(json.loads, results.read_text().splitlines()) if line.get("row") == "sizes"]
    found = [line for line in found if not line["note"]]
    if not found:
        sys.exit(f"{results} has no sizes: run bench/search/run.py --only sizes")
    lines: Lines = {}
    for line in found:
        if line["run"] == found[-1]["run"]:
            about = line["about"]
            lines.setdefault(about["data"], {}).setdefault(line["peer"], {})[about["rows"]] = line["value"]
    return found[-1], lines


def short(value: float, _=None) -> str:
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def spread(values: list[float], apart: float) -> list[float]:
    """Moves values, least first, away from each other where two are nearer than that."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + apart) if places else value)
    return places


def label(axis, lines: dict[str, dict[int, float]]):
    """The names of the lines: at their ends, but of hnswlib, which ends before the others, above it."""
    names = sorted(set(lines) - {"hnswlib"}, key=lambda peer: list(lines[peer].values())[-1])
    ends = [axis.transData.transform(list(lines[peer].items())[-1]) for peer in names]
    apart = 11 * axis.figure.dpi / 72
    for peer, (x, y), place in zip(names, ends, spread([y for _, y in ends], apart)):
        at = axis.transData.inverted().transform((x + apart, place))
        weight = "bold" if peer == "vecstone" else "normal"
        axis.annotate(peer, at, color=STYLES[peer][0], fontweight=weight, va="center", fontsize=8.5)
    if "hnswlib" in lines:
        place = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center", "fontsize": 8.5}
        end = list(lines["hnswlib"].items())[-1]
        axis.annotate("hnswlib, recall 0.99", end, color="#64748b", **place)


def panel(axis, data: str, lines: dict[str, dict[int, float]]):
    for peer, points in lines.items():
        colour, line, marker = STYLES[peer]
        width = 2.4 if peer == "vecstone" else 1.6
        axis.plot(list(points), list(points.values()), line, color=colour, marker=marker, markersize=5, linewidth=width)
    counts = sorted({rows for points in lines.values() for rows in points})
    axis.set(xscale="log", yscale="log", xlabel="rows")
    axis.set_xlim(counts[0] / 1.3, counts[-1] * 2.6)
    axis.set_xticks(counts)
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(FuncFormatter(short))
    axis.set_title(data, loc="left", fontsize=10, fontweight="bold", color=TEXT)
    axis.grid(True, which="major", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, labelleft=True)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def plot(line: dict, lines: Lines, to: Path):
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "search"})
    figure, axes = plt.subplots(1, len(lines), figsize=(5.2 * len(lines), 4.2), dpi=160, sharey=True, squeeze=False)
    for axis, (data, of_it) in zip(axes.flat, lines.items()):
        panel(axis, data, of_it)
    axes.flat[0].set_ylabel("queries a second of one core")
    machine, date = line["machine"], line["run"][:10]
    title = f"Exact search, k = 10, one query a call, one core of {machine['cpu']}, {date}"
    figure.suptitle(title, fontsize=9, color="#475569", x=0.012, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.canvas.draw()
    for axis, of_it in zip(axes.flat, lines.values()):
        label(axis, of_it)
    for ending in (".png", ".svg"):
        figure.savefig(to.with_suffix(ending), metadata={"Date": None} if ending == ".svg" else None)
        print(to.with_suffix(ending))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--to", type=Path, default=HERE.parent.parent / "docs/search-speed", help="without its ending")
    args = parser.parse_args()
    plot(*newest(args.results), args.to)


if __name__ == "__main__":
    main()
