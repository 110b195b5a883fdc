"""What vecstone is measured against, each through its own calls and on one thread. `search` is of one query."""

import faiss
import hnswlib
import numpy as np

K = 10


class Flat:
    """FAISS IndexFlatIP: on rows of length 1 the order is that of the cosine distance."""

    name = "FAISS Flat"

    def __init__(self, rows: np.ndarray):
        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexFlatIP(rows.shape[1])
        for at in range(0, len(rows), 50_000):
            self.index.add(np.ascontiguousarray(rows[at : at + 50_000]))

    def search(self, query: np.ndarray) -> np.ndarray:
        return self.index.search(query[None], K)[1][0]


class NumPy:
    """One product of the matrix, then the ten greatest."""

    name = "NumPy"

    def __init__(self, rows: np.ndarray):
        self.rows = rows

    def search(self, query: np.ndarray) -> np.ndarray:
        scores = self.rows @ query
        best = np.argpartition(scores, len(scores) - K)[-K:]
        return best[np.argsort(-scores[best])]

    def search_many(self, queries: np.ndarray) -> np.ndarray:
        scores = queries @ self.rows.T
        best = np.argpartition(scores, scores.shape[1] - K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)


class Hnsw:
    """hnswlib, approximate; M 16 and ef_construction 128."""

    name = "hnswlib"

    def __init__(self, rows: np.ndarray):
        self.index = hnswlib.Index(space="ip", dim=rows.shape[1])
        self.index.init_index(len(rows), M=16, ef_construction=128, random_seed=1)
        self.index.set_num_threads(1)
        self.index.add_items(np.ascontiguousarray(rows), num_threads=1)

    def set_effort(self, ef: int) -> None:
        self.index.set_ef(ef)

    def search(self, query: np.ndarray) -> np.ndarray:
        return self.index.knn_query(query, K, num_threads=1)[0][0]


class FaissHnsw:
    """FAISS IndexHNSWFlat, approximate; M 16 and efConstruction 128."""

    name = "FAISS HNSW"

    def __init__(self, rows: np.ndarray):
        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 128
        self.index.add(np.ascontiguousarray(rows))

    def set_effort(self, ef: int) -> None:
        self.index.hnsw.efSearch = ef

    def search(self, query: np.ndarray) -> np.ndarray:
        return self.index.search(query[None], K)[1][0]


def kth_distances(rows: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of all rows (queries, rows) and the tenth of each query, in float64."""
    q = queries.astype(np.float64)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    distances = np.empty((len(q), len(rows)))
    for at in range(0, len(rows), 20_000):
        x = rows[at : at + 20_000].astype(np.float64)
        distances[:, at : at + 20_000] = 1 - (q @ x.T) / np.linalg.norm(x, axis=1)
    return distances, np.partition(distances, K - 1, axis=1)[:, K - 1]


def recall(search, rows: np.ndarray, queries: np.ndarray) -> float:
    """The share of the ten nearest that a search finds. A row at the same distance as the tenth is as good."""
    return share_found(search, queries, kth_distances(rows, queries))


def share_found(search, queries: np.ndarray, true: tuple[np.ndarray, np.ndarray]) -> float:
    """The same where the distances are known."""
    good = 0
    for query, all_of_it, bar in zip(queries, *true):
        found = np.unique(np.asarray(search(query), np.int64))
        good += np.count_nonzero(all_of_it[found] <= bar + 1e-12)
    return good / (K * len(queries))
