"""vecstone in ann-benchmarks: exact search, and approximate search at each recall that is asked for."""

import os
import shutil
import tempfile

import numpy as np
import vecstone

from ..base.module import BaseANN

METRICS = {"angular": "cosine", "euclidean": "l2", "ip": "ip"}
ROWS_AT_ONCE = 50_000


class Vecstone(BaseANN):
    def __init__(self, metric):
        self.metric = METRICS[metric]
        self.recall_target = None
        self.folder = tempfile.mkdtemp()
        self.store = None
        self.name = "vecstone"

    def fit(self, X):
        self.store = vecstone.open(os.path.join(self.folder, "store"), dim=X.shape[1], metric=self.metric)
        for start in range(0, len(X), ROWS_AT_ONCE):
            rows = np.ascontiguousarray(X[start : start + ROWS_AT_ONCE], dtype=np.float32)
            self.store.put_many(np.arange(start, start + len(rows), dtype=np.uint64), rows)
        self.store.optimize()

    def set_query_arguments(self, recall_target):
        # 1 is an exact search.
        self.recall_target = None if recall_target == 1 else recall_target
        self.name = f"vecstone (recall_target={recall_target})"

    def query(self, v, n):
        return self.store.search(v, k=n, recall_target=self.recall_target).ids

    def batch_query(self, X, n):
        queries = np.ascontiguousarray(X, dtype=np.float32)
        self.res = self.store.search_many(queries, k=n, recall_target=self.recall_target).ids

    def done(self):
        if self.store is not None:
            self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)
