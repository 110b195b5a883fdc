"""Search measured against other libraries, and against itself: each row of the table with its target.

    python bench/search/run.py                       all rows; exit code 1 if one is below its target
    python bench/search/run.py --only real filter    some of them
    python bench/search/run.py --quick               a tenth of the rows: tries the programme, the figures mean nothing

The peers need `pip install -r bench/search/requirements.txt`; the rows of real embeddings need the file that
bench/make_embeddings.py makes. Each row is measured in a process of its own, pinned to one core (some to two), with one
thread in each library; sides take turns in each round and medians are compared. VECSTONE_CPU=avx2 or portable is passed
on: with avx2 the targets of speed are 0.8 of theirs, with portable there are none. Every figure is a line of JSON in
bench/search/results.jsonl, with the rounds behind it and what `explain` said; bench/search/plot.py draws `sizes` and `curves`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Timer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[0] = str(ROOT)

from bench.run import machine, number  # noqa: E402

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = ("vecstone", "faiss-cpu", "hnswlib", "numpy", "usearch", "zvec", "turbovec", "lancedb")
OF_TARGET = {"avx2": 0.8, "portable": None}  # by VECSTONE_CPU: the share of a target of speed


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows, in this order; --list names them")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows or less, to try the programme")
    parser.add_argument("--data", type=Path, default=ROOT / "target/search-data", help="where the data sets are kept")
    parser.add_argument("--place", type=Path, default=ROOT / "target", help="where the stores are made")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl", help="file of JSON lines")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to be pinned to")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one row (default 3600)")
    parser.add_argument("--child", metavar="ROW", help=argparse.SUPPRESS)
    return parser.parse_args()


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def child(args):
    from bench.search.data import Data
    from bench.search.approximate import measure

    for row in measure(args.child, Data(args.data, args.quick), args.place, args.core):
        print(json.dumps(asdict(row) | {"ratio": row.ratio}, default=str), flush=True)


class Run:
    """One run over some rows: keeps each figure as a line of JSON and prints it beside its target."""

    def __init__(self, args):
        args.place.mkdir(parents=True, exist_ok=True)
        self.args, self.below = args, []
        self.cpu = os.environ.get("VECSTONE_CPU", "")
        self.about = {
            "run": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(args.place),
            "versions": {package: version_of(package) for package in PACKAGES},
            "cpu": self.cpu,
            "quick": args.quick,
        }

    def measure(self, name: str):
        """One row in a process and a directory of its own, within the time limit."""
        start, place = time.monotonic(), Path(tempfile.mkdtemp(prefix=f"search-{name}-", dir=self.args.place))
        command = [sys.executable, __file__, "--child", name, "--place", str(place), "--data", str(self.args.data)]
        command += ["--core", str(self.args.core)] + ["--quick"] * self.args.quick
        environment = os.environ | dict.fromkeys(THREADS, "1")
        with tempfile.TemporaryFile("w+") as stderr:
            pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
            process = subprocess.Popen(command, env=environment, **pipes)
            timer = Timer(self.args.limit, process.kill)
            timer.start()
            for line in process.stdout:
                self.keep(json.loads(line))
            code, late = process.wait(), not timer.is_alive()
            timer.cancel()
            stderr.seek(0)
            last = (stderr.read().strip().splitlines() or [f"exit code {code}"])[-1]
        shutil.rmtree(place, ignore_errors=True)
        if code:
            note = f"stopped at the time limit of {self.args.limit:.0f} s" if late else last[:200]
            self.keep({"row": name, "figure": name, "unit": "", "value": 0, "note": note})
        print(f"    ({name}: {time.monotonic() - start:.0f} s)", flush=True)

    def keep(self, row: dict):
        if row.get("target") is not None and row["scaled"]:
            share = OF_TARGET.get(self.cpu, 1.0)
            row["target"] = None if share is None else round(share * row["target"], 3)
        with open(self.args.results, "a") as results:
            results.write(json.dumps(self.about | row) + "\n")
        if not self.show(row):
            self.below.append(row["figure"])

    def show(self, row: dict) -> bool:
        """Prints it; false if it is below its target or was not measured."""
        figure = row["figure"][:52]
        if row["note"]:
            print(f"{figure:<52} {row['note']}", flush=True)
            return False
        told = [number(row["value"], row["unit"])]
        told.append("" if row["limit"] is None else number(row["limit"], row["unit"]))
        told += ["" if row[name] is None else f"{row[name]:,.2f}" for name in ("ratio", "target")]
        good = row["target"] is None or row["ratio"] >= row["target"]
        verdict = "" if row["target"] is None else "pass" if good else "FAIL"
        told += [verdict, row["peer"]]
        print("{:<52} {:>16} {:>16} {:>8} {:>7} {:<4} {}".format(figure, *told), flush=True)
        return good


def main():
    args = arguments()
    if args.child:
        return child(args)
    from bench.search.approximate import NAMES

    if args.list:
        return print(*NAMES)
    if unknown := set(args.only or ()) - set(NAMES):
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    run = Run(args)
    print(json.dumps(run.about))
    print(f"{'':<52} {'ours':>16} {'theirs':>16} {'ratio':>8} {'target':>7}      theirs is", flush=True)
    for name in args.only or NAMES:
        run.measure(name)
    if run.below and not args.quick:
        sys.exit(f"\nbelow the target, or not measured: {'; '.join(run.below)}")


if __name__ == "__main__":
    main()
