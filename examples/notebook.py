# %% [markdown]
# # A tour of vecstone
#
# 4,096 Debian packages, each with the embedding of its description (all-MiniLM-L6-v2, 384 numbers). They come with the
# source, so that this page runs without the internet: as a script, cell by cell in an editor, or as a notebook
# (`jupytext --to ipynb examples/notebook.py`).

# %%
import tempfile
from pathlib import Path

import numpy as np

import vecstone

data = Path("crates/vecstone-cli/data")  # seen from the root of the source
vectors = np.load(data / "debian-4096x384.npy")
names = (data / "debian-4096.ids").read_text().split()
scratch = tempfile.TemporaryDirectory()

# %% [markdown]
# ## Put and get
#
# A store is a directory. `dim` and `metric` are fixed when it is made and in its files from then on.

# %%
store = vecstone.open(Path(scratch.name) / "packages", dim=384, metric="cosine")
store.put_many(names, vectors)
print(store)

# %% [markdown]
# It is a mapping from ids to vectors, so everything you know about a `dict` holds. What `get` gives is a copy, yours to
# change.

# %%
print("sqlite3" in store, len(store), store["sqlite3"][:3])
np.testing.assert_array_equal(store.get_many(["git", "vlc"]), vectors[[names.index("git"), names.index("vlc")]])

# %% [markdown]
# ## Search
#
# `search` reads every vector: the answer is exact, and there is nothing to build or to tune first.

# %%
for id, distance in store.search(store["sqlite3"], k=5):
    print(f"{distance:6.3f}  {id}")

# %% [markdown]
# A query can be any vector. Something like `git`, and less like a server:

# %%
print(store.search(store["git"] - 0.5 * store["gitolite3"], k=5).ids)

# %% [markdown]
# Many queries at once use all cores. Here: which packages are closest to each other without being the same?

# %%
found = store.search_many(vectors[:500], k=2)
pairs = sorted(zip(found.distances[:, 1], names, found.ids[:, 1]))
for distance, a, b in [(d, a, b) for d, a, b in pairs if a < b and d > 1e-4][:5]:
    print(f"{distance:6.3f}  {a} ~ {b}")

# %% [markdown]
# ## Documents and filters
#
# A row can have a document: any JSON value. A filter is a dict over the documents, evaluated before the search, so that
# `k` results come back if `k` rows match.


# %%
def describe(name: str) -> dict[str, str | int]:
    suffix = name.rsplit("-", 1)[-1]
    return {
        "language": "python" if name.startswith("python3-") else "other",
        "part": suffix if suffix in ("dev", "doc", "data", "plugin") else "program",
        "letters": len(name),
    }


store.put_many(names, vectors, [describe(name) for name in names])  # an id that is there is replaced
hits = store.search(store["sqlite3"], k=3, filter={"language": "python"}, with_documents=True)
for hit in hits:
    print(f"{hit.distance:6.3f}  {hit.id}  {hit.document}")

# %%
short = {"letters": {"$lte": 4}, "part": {"$nin": ["dev", "doc"]}}
print(len(store.ids_where(short)), "short names;", store.search(store["vlc"], k=4, filter=short).ids)
print(store.search(store["vlc"], k=2, filter=["audacity", "gimp", "git"]).ids)  # or a collection of ids

# %% [markdown]
# ## What is durable
#
# A write is accepted at once and on the disk within `flush_interval`, a tenth of a second. `flush` returns when
# everything before it would survive a power cut; `durability="sync"` asks for that write by write.

# %%
store.flush()
store.put("mine", np.ones(384), {"language": "other"}, durability="sync")
del store["mine"]

# %% [markdown]
# ## The arrays themselves
#
# The vectors lie in plain files, and `arrays` gives them without a copy, segment by segment: as NumPy views that any
# tool of that world takes. Rows that were replaced or deleted are in them, too, until the store is compacted; `live`
# tells them apart.

# %%
for segment in store.arrays():
    print(f"segment {segment.number}: {segment.vectors.shape}, {int(segment.live.sum())} rows are live")

live = np.concatenate([segment.vectors[segment.live] for segment in store.arrays()])
centred = live - live.mean(axis=0)
spread = np.linalg.eigvalsh(centred.T @ centred)[::-1]
print(f"half of the variance is in {int(np.argmax(np.cumsum(spread) / spread.sum() > 0.5)) + 1} of 384 directions")

# %% [markdown]
# And as a table, if pandas is installed. `to_arrow` and `to_polars` are there as well.

# %%
try:
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    print(store.to_pandas().head(3))
except ModuleNotFoundError as missing:
    print(f"without {missing.name} there is no table here")

# %% [markdown]
# ## Space
#
# Each row was written twice above. The space of what is dead comes back in the background, or now.

# %%
before = store.stats()
store.compact()
after = store.stats()
print(f"{before['overhead']:.2f} times the size of the vectors before, {after['overhead']:.2f} after")

# %% [markdown]
# And is every byte of that what was written?

# %%
report = store.verify()
assert report["ok"], report["damage"]
print(f"{report['bytes']:,} bytes, all as they were written")

# %% [markdown]
# ## Tomorrow
#
# Closing is quick, and so is opening: nothing is loaded, the files are mapped.

# %%
store.close()
with vecstone.open(Path(scratch.name) / "packages", mode="r") as again:
    print(again, again.search(again["gimp"], k=3).ids, again.get_document("gimp"))
