"""Draws the newest runs of `bench/search/run.py --only sizes curves`.

    python bench/search/plot.py [--results FILE] [--to docs]      writes search-speed.svg and search-recall.svg there

`search-speed` has milliseconds a query by the number of rows, `search-recall` queries/s by recall of approximate search.
"""

import argparse
import json
import sys
from math import log10
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

HERE = Path(__file__).resolve().parent
STYLES = {  # colour, line, marker
    "vecstone, exact": ("#c2410c", "-", "o"),
    "vecstone, 0.95": ("#c2410c", "--", "o"),
    "FAISS Flat": ("#1d4ed8", "-", "s"),
    "NumPy": ("#475569", "-", "^"),
    "hnswlib": ("#15803d", "--", "D"),
}
OF_RECALL = {
    "vecstone": ("#c2410c", "-", "o"),
    "hnswlib": ("#1d4ed8", "-", "s"),
    "FAISS HNSW": ("#0891b2", "-", "D"),
    "FAISS IVF FastScan": ("#7c3aed", "-", "v"),
    "USearch": ("#15803d", "-", "^"),
    "zvec": ("#a16207", "-", "P"),
    "turbovec, re-ranked": ("#be185d", "-", "X"),
    "LanceDB": ("#64748b", "-", "*"),
}
RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 1.0)
TEXT, GRID = "#0f172a", "#e2e8f0"

Lines = dict[str, dict[str, dict[int, float]]]  # data set, library, rows: queries/s


def latencies(lines: Lines) -> Lines:
    """Milliseconds a query."""
    each = ((data, peer, points) for data, of_it in lines.items() for peer, points in of_it.items())
    found: Lines = {}
    for data, peer, points in each:
        found.setdefault(data, {})[peer] = {rows: 1e3 / rate for rows, rate in points.items()}
    return found


def newest(results: Path, row: str, along: str) -> tuple[dict, Lines]:
    """A line of the newest run that has this row, and the lines to draw of it."""
    found = [line for line in map(json.loads, results.read_text().splitlines()) if line.get("row") == row]
    found = [line for line in found if not line["note"]]
    if not found:
        sys.exit(f"{results} has no {row}: run bench/search/run.py --only {row}")
    lines: Lines = {}
    for line in found:
        if line["run"] == found[-1]["run"]:
            about = line["about"]
            lines.setdefault(about["data"], {}).setdefault(line["peer"], {})[about[along]] = line["value"]
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
    """The names of the lines: at their ends, but of hnswlib, which ends before the others, below it."""
    names = sorted(set(lines) - {"hnswlib"}, key=lambda peer: list(lines[peer].values())[-1])
    ends = [axis.transData.transform(list(lines[peer].items())[-1]) for peer in names]
    apart = 11 * axis.figure.dpi / 72
    for peer, (x, y), place in zip(names, ends, spread([y for _, y in ends], apart)):
        at = axis.transData.inverted().transform((x + apart, place))
        weight = "bold" if peer.startswith("vecstone") else "normal"
        axis.annotate(peer, at, color=STYLES[peer][0], fontweight=weight, va="center", fontsize=8.5)
    if "hnswlib" in lines:
        place = {"xytext": (0, -13), "textcoords": "offset points", "ha": "center", "fontsize": 8.5}
        end = list(lines["hnswlib"].items())[-1]
        axis.annotate("hnswlib, 0.95", end, color=STYLES["hnswlib"][0], **place)


def panel(axis, data: str, lines: dict[str, dict[int, float]]):
    for peer, points in lines.items():
        colour, line, marker = STYLES[peer]
        width = 2.4 if peer.startswith("vecstone") else 1.6
        axis.plot(list(points), list(points.values()), line, color=colour, marker=marker, markersize=5, linewidth=width)
    counts = sorted({rows for points in lines.values() for rows in points})
    axis.set(xscale="log", yscale="log", xlabel="rows")
    axis.set_xlim(counts[0] / 1.3, counts[-1] * 5)
    axis.set_xticks(counts)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(short))
    dress(axis, data)


def recalls(axis, data: str, lines: dict[str, dict[float, float]]):
    """Recall to the right, in steps that grow smaller towards 1, since the last ones are the dearest."""
    def place(recall: float) -> float:
        return -log10(1.001 - recall)

    for peer, points in lines.items():
        colour, line, marker = OF_RECALL[peer]
        best: dict[float, float] = {}
        for recall, rate in sorted(points.items(), reverse=True):
            if recall >= RECALLS[0] and rate > max(best.values(), default=0):
                best[recall] = rate
        width, size = (2.6, 6) if peer == "vecstone" else (1.3, 4)
        order = 3 if peer == "vecstone" else 2
        places = [place(recall) for recall in best]
        axis.plot(places, list(best.values()), line, color=colour, marker=marker, markersize=size, linewidth=width,
                  label=peer, zorder=order)
    axis.set(yscale="log", xlabel="recall of the 10 nearest")
    axis.set_xlim(place(RECALLS[0]), place(1.0) + 0.08)
    axis.set_xticks([place(recall) for recall in RECALLS], [f"{recall:g}" for recall in RECALLS])
    dress(axis, data)


def dress(axis, title: str):
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(short))
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=TEXT)
    axis.grid(True, which="major", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, labelleft=True)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def entitle(figure, line: dict, what: str):
    title = f"{what}, k = 10, one query a call, one core of {line['machine']['cpu']}, {line['run'][:10]}"
    figure.suptitle(title, fontsize=9, color="#475569", x=0.012, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.canvas.draw()


def plot_recall(line: dict, lines: Lines, to: Path):
    figure, axes = plt.subplots(1, len(lines), figsize=(5.2 * len(lines), 4.4), dpi=160, squeeze=False)
    for axis, (data, of_it) in zip(axes.flat, lines.items()):
        recalls(axis, data, of_it)
    axes.flat[0].set_ylabel("queries a second of one core")
    entitle(figure, line, "Approximate search")
    names, rows = axes.flat[0].get_legend_handles_labels(), 0.13
    figure.tight_layout(rect=(0, rows, 1, 0.98))
    figure.legend(*names, frameon=False, fontsize=8.5, loc="lower center", ncol=4)
    write(figure, to)


def write(figure, to: Path):
    figure.savefig(to, metadata={"Date": None})
    print(to)


def plot_speed(line: dict, lines: Lines, to: Path):
    figure, axes = plt.subplots(1, len(lines), figsize=(5.2 * len(lines), 4.2), dpi=160, sharey=True, squeeze=False)
    for axis, (data, of_it) in zip(axes.flat, lines.items()):
        panel(axis, data, of_it)
    axes.flat[0].set_ylabel("milliseconds a query, one core")
    entitle(figure, line, "Search")
    for axis, of_it in zip(axes.flat, lines.values()):
        label(axis, of_it)
    write(figure, to)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--to", type=Path, default=HERE.parent.parent / "docs", help="the folder of the pictures")
    args = parser.parse_args()
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "search", "svg.fonttype": "none"})
    plot_recall(*newest(args.results, "curves", "recall"), args.to / "search-recall.svg")
    line, lines = newest(args.results, "sizes", "rows")
    plot_speed(line, latencies(lines), args.to / "search-speed.svg")


if __name__ == "__main__":
    main()
