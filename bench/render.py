"""A table (Markdown) and a plot of the newest results of one machine and size."""

import json
from pathlib import Path

COLUMNS = [  # figure, head of the column
    ("put_many", "put_many until durable, MB/s"),
    ("put durable", "single durable put, /s"),
    ("put", "buffered put, /s"),
    ("get scattered", "get, /s"),
    ("get_many", "get_many of 1,000, vectors/s"),
    ("search", "search, k = 10, /s"),
    ("open to first get", "open to first get, ms"),
    ("memory after it", "memory for it, MB"),
    ("disk", "disk / raw"),
    ("disk of half", "half deleted, compacted"),
]
PANELS = [  # figure, title, whether less is better
    ("put_many", "load until durable, MB/s", False),
    ("put durable", "single durable put, a second", False),
    ("get scattered", "get by id, a second", False),
    ("search", "search, k = 10, a second", False),
    ("open to first get", "open to first get, ms", True),
    ("disk of half", "disk / raw, half of it deleted", True),
]
OURS, DURABLE, OTHER = "#c2410c", "#475569", "#cbd5e1"


def newest(results: Path) -> tuple[dict, dict[str, dict[str, dict]]]:
    """The last line, and of its machine and size the last line of each store and figure."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    last = lines[-1]
    stores: dict[str, dict[str, dict]] = {}
    for line in lines:
        if all(line[key] == last[key] for key in ("machine", "rows", "dim")):
            stores.setdefault(line["peer"], {})[line["figure"]] = line
    return last, dict(sorted(stores.items(), key=lambda store: (store[0] != "ours", store[0])))


def about(store: dict[str, dict]) -> dict:
    """A line that says what the store is: one of a figure that was measured."""
    return next((line for line in store.values() if "version" in line), {})


def label(name: str) -> str:
    return "vecstone" if name == "ours" else name


def value(line: dict | None) -> float | None:
    return None if line is None or line["note"] else line["value"]


def cell(store: dict[str, dict], figure: str) -> str:
    found = value(store.get(figure))
    if found is None:
        return "–"
    text = f"{found:,.3g}" if found < 100 else f"{found:,.0f}"
    recall = value(store.get("recall"))
    if figure == "search" and recall is not None and not about(store).get("exact"):
        text += f" (recall {recall:.2f})"
    return text


def table(last: dict, stores: dict[str, dict[str, dict]]) -> str:
    machine = last["machine"]
    dates = sorted({line["run"][:10] for store in stores.values() for line in store.values()})
    limits = [line["limit"] for store in stores.values() if (line := store.get("put_many")) and line.get("limit")]
    text = [
        "# The stores, measured",
        "",
        f"{last['rows']:,} x {last['dim']} float32, string ids, one client; medians. {machine['cpu']},",
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['filesystem']}, {machine['system']},",
        f"Python {machine['python']}; {' and '.join(dates)}.",
    ]
    if limits:
        text.append("A raw write and fdatasync of the same bytes, in turns with each load, reached")
        text.append(f"{min(limits):,.0f} to {max(limits):,.0f} MB/s.")
    heads = " | ".join(head for _, head in COLUMNS)
    text += ["", f"| store | version | {heads} |", "|---|---|" + "---:|" * len(COLUMNS)]
    for name, store in stores.items():
        cells = [cell(store, figure) for figure, _ in COLUMNS]
        text.append(f"| {label(name)} | {about(store).get('version', '')} | " + " | ".join(cells) + " |")
    text += ["", "| store | used as | what its commit does | survives a power cut by that |", "|---|---|---|---|"]
    for name, store in stores.items():
        it = about(store)
        survives = "yes" if it.get("durable") else "no"
        text.append(f"| {label(name)} | {it.get('used', '–')} | {it.get('durability', '–')} | {survives} |")
    missing = [
        f"- {label(name)}, {figure}: {' '.join(line['note'].split())}"
        for name, store in stores.items()
        for figure, line in store.items()
        if line.get("note") and line["note"] != "it has none"
    ]
    if missing:
        text += ["", "What is missing:", "", *missing]
    text += [
        "",
        "A dash: it has none, or it was not measured. Made from `results.jsonl` by `bench/run.py --render`.",
        "",
    ]
    return "\n".join(text)


def colour(it: dict) -> str:
    return DURABLE if it.get("durable") else OTHER


def plot(last: dict, stores: dict[str, dict[str, dict]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
    figure, axes = plt.subplots(2, 3, figsize=(10, 1.7 + 0.42 * len(stores)), dpi=160)
    for axis, (name, title, less) in zip(axes.flat, PANELS):
        bars = [(label(peer), v, store) for peer, store in stores.items() if (v := value(store.get(name)))]
        bars.sort(key=lambda bar: bar[1], reverse=not less)
        bars.reverse()  # the best on top
        colours = [OURS if peer == "vecstone" else colour(about(it)) for peer, _, it in bars]
        drawn = axis.barh([peer for peer, _, _ in bars], [v for _, v, _ in bars], color=colours, height=0.72)
        texts = [cell(it, name).replace("recall 0", "recall ") for _, _, it in bars]
        axis.bar_label(drawn, texts, padding=3, fontsize=7.5, color="#334155")
        arrow = " \N{DOWNWARDS ARROW}" if less else ""
        axis.set_title(title + arrow, fontsize=9.5, loc="left", fontweight="bold", color="#0f172a")
        values = [v for _, v, _ in bars]
        if name.startswith("disk"):
            axis.set_xlim(0, max(values, default=1) * 1.25)
        elif values:
            axis.set_xscale("log")
            axis.set_xlim(min(values) / 2.5, max(values) * (max(values) / min(values)) ** 0.35 * 3)
        axis.xaxis.set_visible(False)
        axis.tick_params(axis="y", length=0, labelsize=8)
        for tick in axis.get_yticklabels():
            if tick.get_text() == "vecstone":
                tick.set_color(OURS)
                tick.set_fontweight("bold")
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
        axis.spines["left"].set_color("#94a3b8")
    keys = [
        (OURS, "vecstone"),
        (DURABLE, "what it acknowledges survives a power cut"),
        (OTHER, "it does not, or not always"),
    ]
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c, _ in keys]
    figure.legend(handles, [text for _, text in keys], loc="lower center", ncol=3, frameon=False, fontsize=8.5)
    machine = last["machine"]
    title = (
        f"{last['rows']:,} vectors of {last['dim']} float32, string ids; {machine['cores']} cores of {machine['cpu']}; "
        "logarithmic but the last; \N{DOWNWARDS ARROW} less is better"
    )
    figure.suptitle(title, fontsize=8.5, color="#475569", x=0.01, y=0.995, ha="left")
    figure.tight_layout(rect=(0, 0.04, 1, 0.985), h_pad=1.4, w_pad=1.2)
    figure.savefig(path)


def render(results: Path) -> None:
    last, stores = newest(results)
    results.with_suffix(".md").write_text(table(last, stores), "utf-8")
    plot(last, stores, results.with_suffix(".png"))
    print(f"{results.with_suffix('.md')}, {results.with_suffix('.png')}: {len(stores)} stores")
