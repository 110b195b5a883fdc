"""Speed and size of the Python package as ratios to the machine's limits, and beside other stores.

    python bench/run.py --ours      limit, ours, ratio and target of each figure; exit code 1 below a target
    python bench/run.py --peers     every store in bench/peers/, then ours against the best of them
    python bench/run.py --render    bench/results.md and bench/results.png, from bench/results.jsonl

The peers need `pip install -r bench/requirements.txt`. Each store is measured in a process of its own and stopped at
its time limit; what it had answered by then counts. Every figure is a line of JSON in bench/results.jsonl.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from threading import Timer

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in (HERE / "peers").glob("[a-z]*.py"))
ROUNDS = 3  # of single durable puts over all peers
TEXT = {
    "put_many": "put_many {rows:,} x {dim} until durable (raw write, fdatasync)",
    "put_many vs numpy": "the same (numpy file, pickled ids, synced)",
    "open to first get": "open to first get, fresh process",
    "memory after it": "memory after it, beyond the import",
    "memory after a search": "memory after a search, beyond the import",
    "get": "get of one id, in the order of writing",
    "get scattered": "get of one id, in no order",
    "get_many": "get_many of 1,000 ids",
    "get_many vs numpy": "the same (numpy's fancy indexing, a dict of ids)",
    "search": "search, exact, k = 10",
    "disk": "bytes on the disk after load and close",
    "disk of half": "bytes on the disk, half deleted, compacted, closed",
    "put": "put of one row, buffered",
    "put durable": "put of one row, durable (4 KiB append, fdatasync)",
    "import": "import vecstone, beyond numpy",
    "search overhead": "search, Python call above the Rust call",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ours", action="store_true", help="our figures and their targets")
    what.add_argument("--peers", action="store_true", help="all stores")
    what.add_argument("--render", action="store_true", help="table and plot from the results")
    what.add_argument("--child", nargs=3, metavar=("WHAT", "PEER", "PATH"), help=argparse.SUPPRESS)
    parser.add_argument("--only", metavar="A,B", help=f"some of the stores: {', '.join(NAMES)}")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--limit", type=float, default=900, help="seconds for one store (default 900)")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="file of JSON lines")
    parser.add_argument("--place", type=Path, default=HERE.parent / "target", help="where the stores are made")
    return parser.parse_args()


def machine(place: Path) -> dict:
    def first(path: str, word: str) -> str:
        with open(path) as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(word)), "unknown")

    mounts = [line.split()[1:3] for line in open("/proc/mounts")]
    within = [mount for mount in mounts if place.resolve().is_relative_to(mount[0])]
    return {
        "cpu": first("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(first("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
        "filesystem": max(within, key=lambda mount: len(mount[0]))[1],
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


class Run:
    """One run over some stores: prints each figure when it is there and keeps it as a line of JSON."""

    def __init__(self, args):
        args.place.mkdir(parents=True, exist_ok=True)
        self.args = args
        self.about = {
            "run": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(args.place),
            "rows": args.rows,
            "dim": args.dim,
        }
        self.below = []

    def child(self, what: str, name: str, rows: int) -> list[dict]:
        """Measures one store in a process and a directory of its own, within the time limit."""
        place = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=self.args.place))
        command = [sys.executable, __file__, "--child", what, name, str(place)]
        command += ["--rows", str(rows), "--dim", str(self.args.dim)]
        figures = []
        with open(place / "stderr", "w") as stderr:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)
            timer = Timer(self.args.limit, os.killpg, (child.pid, signal.SIGKILL))
            timer.start()
            for line in child.stdout:
                if line.startswith("{"):
                    figures.append(self.keep(json.loads(line)))
            code, late = child.wait(), not timer.is_alive()
            timer.cancel()
        if code:
            last = (place / "stderr").read_text().strip().splitlines() or [f"exit code {code}"]
            note = f"stopped at the time limit of {self.args.limit:.0f} s" if late else last[-1][:200]
            figures.append(self.keep({"peer": name, "figure": what, "unit": "", "value": 0, "note": note}))
        shutil.rmtree(place, ignore_errors=True)
        return figures

    def keep(self, figure: dict) -> dict:
        if figure["figure"] != "put durable" or "rounds" in figure:
            with open(self.args.results, "a") as results:
                results.write(json.dumps(self.about | figure) + "\n")
            if not self.show(figure):
                self.below.append(figure["figure"])
        return figure

    def show(self, figure: dict) -> bool:
        """Prints it in the layout of the Rust benches; false if it is below its target."""
        from measure import Figure

        fields = {name: figure[name] for name in Figure.__dataclass_fields__ if name in figure}
        it = Figure(**fields)
        name = TEXT.get(it.figure, it.figure).format(**self.about)
        if it.note:
            print(f"{name:<58} {it.note}", flush=True)
            return True
        limit = "" if it.limit is None else number(it.limit, it.unit)
        ratio = "" if it.ratio is None else f"{it.ratio:.2f}"
        target = "" if it.target is None else f"{it.target:.2f}"
        print(f"{name:<58} {limit:>19} {number(it.value, it.unit):>19} {ratio:>7} {target:>7}", flush=True)
        return it.target is None or it.ratio >= it.target

    def stores(self, names: list[str]):
        for name in names:
            start = time.monotonic()
            print(f"\n{name:<58} {'limit':>19} {'measured':>19} {'ratio':>7} {'target':>7}", flush=True)
            self.child("all", name, self.args.rows)
            print(f"({time.monotonic() - start:.0f} s)")

    def durable_puts(self, names: list[str]):
        """Single durable puts, in rounds over all stores; ours against the best that is durable."""
        names = list(names)
        print(f"\n{'single puts, each durable':<58} {'limit':>19} {'measured':>19} {'ratio':>7} {'target':>7}")
        rounds: dict[str, list[dict]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in list(names):
                some = [it for it in self.child("put_durable", name, 1000) if it["value"]]
                rounds[name] += some
                if not some:
                    names.remove(name)
        medians = {}
        for name, some in rounds.items():
            if some:
                medians[name] = median(it["value"] for it in some)
                limit = median(it["limit"] for it in some)
                print(f"{name}: ", end="")
                self.keep(some[-1] | {"value": medians[name], "limit": limit, "rounds": len(some), "turns": len(some)})
        durable = [name for name in medians if name != "ours" and rounds[name][0]["durable"]]
        best = max(durable, key=medians.get, default=None)
        if "ours" in medians and best:
            note = {"figure": f"put durable, ours against {best}", "limit": medians[best], "value": medians["ours"]}
            self.keep(rounds["ours"][-1] | note | {"target": 2.0, "turns": ROUNDS})


def number(value: float, unit: str) -> str:
    return f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def child(what: str, name: str, place: Path, args):
    import measure

    if what == "first":
        print(*measure.first(name, place, args.rows, args.dim))
        return
    runner = [sys.executable, __file__, "--rows", str(args.rows), "--dim", str(args.dim)]
    figures = measure.Measure(name, args.rows, args.dim, place, runner)
    for line in measure.lines(getattr(figures, what)(), name):
        print(json.dumps(line), flush=True)


def main():
    args = arguments()
    if args.child:
        what, name, place = args.child
        return child(what, name, Path(place), args)
    if args.render:
        import render

        return render.render(args.results)
    run = Run(args)
    names = args.only.split(",") if args.only else ["ours"] + [name for name in NAMES if name != "ours"]
    if args.ours:
        names = ["ours"]
    run.stores(names)
    run.durable_puts(names)
    if run.below:
        sys.exit(f"\nbelow the target: {', '.join(run.below)}")


if __name__ == "__main__":
    main()
