"""Makes the bundled rows of `vecstone demo` from all 4,096: python make.py (needs numpy).

What is near to the queries of the demo, and every so many of the others: 256 rows, as float16.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ROWS, NEAR, QUERIES = 256, 12, ["firefox-esr", "vlc", "sqlite3"]

vectors = np.load(HERE / "../data/debian-4096x384.npy")
ids = (HERE / "../data/debian-4096.ids").read_text().splitlines()
distances = [np.square(vectors - vectors[ids.index(query)]).sum(axis=1) for query in QUERIES]
near = {int(row) for of_query in distances for row in np.argsort(of_query, kind="stable")[:NEAR]}
others = [row for row in range(len(ids)) if row not in near]
spread = np.linspace(0, len(others) - 1, ROWS - len(near)).round().astype(int)
rows = sorted(near | {others[at] for at in spread})
np.save(HERE / f"debian-{ROWS}x{vectors.shape[1]}.npy", vectors[rows].astype("<f2"))
(HERE / f"debian-{ROWS}.ids").write_text("".join(f"{ids[row]}\n" for row in rows))
