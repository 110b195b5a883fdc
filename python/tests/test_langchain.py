"""LangChain: what the standard suite leaves out."""

import datetime
import math
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="needs vecstone[langchain]")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores.utils import maximal_marginal_relevance

import vecstone
from vecstone.langchain import VecstoneVectorStore

WORDS = ["basalt", "chalk", "flint", "gneiss", "granite", "gravel", "marble", "sand", "shale", "slate"]
YEARS = [{"year": 2000 + i, "kind": {"hard": i % 2 == 0}, "tags": WORDS[: i % 3]} for i in range(len(WORDS))]
IDS = [f"id-{i}" for i in range(len(WORDS))]


class Counting(Embeddings):
    """Counts what is embedded, and by which of the methods."""

    def __init__(self) -> None:
        self.inner = DeterministicFakeEmbedding(size=8)
        self.calls: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(f"documents {len(texts)}")
        return self.inner.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        self.calls.append("query")
        return self.inner.embed_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(f"adocuments {len(texts)}")
        return self.inner.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        self.calls.append("aquery")
        return self.inner.embed_query(text)


@pytest.fixture
def embedding() -> Counting:
    return Counting()


@pytest.fixture(params=["cosine", "ip", "l2"])
def rocks(request: pytest.FixtureRequest, tmp_path: Path, embedding: Counting) -> Iterator[VecstoneVectorStore]:
    store = VecstoneVectorStore.from_texts(
        WORDS, embedding, YEARS, ids=IDS, path=tmp_path / "rocks", metric=request.param
    )
    embedding.calls.clear()
    with store:
        yield store


@pytest.fixture
def empty(tmp_path: Path, embedding: Counting) -> Iterator[VecstoneVectorStore]:
    with VecstoneVectorStore(tmp_path / "empty", embedding) as store:
        yield store


def naive(metric: str, query: str, texts: list[str]) -> dict[str, float]:
    model = DeterministicFakeEmbedding(size=8)
    q = np.array(model.embed_query(query), np.float32).astype(float)
    distances = {}
    for text, row in zip(texts, np.array(model.embed_documents(texts), np.float32).astype(float), strict=True):
        match metric:
            case "l2":
                distances[text] = float(((q - row) ** 2).sum())
            case "ip":
                distances[text] = float(1 - q @ row)
            case _:
                distances[text] = float(1 - q @ row / (np.linalg.norm(q) * np.linalg.norm(row)))
    return distances


def contents(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def test_survives_reopening(tmp_path: Path, embedding: Counting) -> None:
    with VecstoneVectorStore.from_texts(WORDS, embedding, YEARS, ids=IDS, path=tmp_path / "s", metric="l2") as store:
        first = store.similarity_search_with_score("granite", k=3)
        assert store.embeddings is embedding
        assert isinstance(store.store, vecstone.Store)
    store.close()  # again, which does nothing
    with pytest.raises(ValueError):
        store.similarity_search("granite")
    with VecstoneVectorStore(tmp_path / "s", embedding, metric=None, mode="r") as store:
        assert store.similarity_search_with_score("granite", k=3) == first
    with pytest.raises(ValueError, match=r"(?s)l2.*cosine|cosine.*l2"):
        VecstoneVectorStore(tmp_path / "s", embedding)


def test_what_is_stored(rocks: VecstoneVectorStore) -> None:
    assert rocks.store.get_document("id-3") == {"page_content": "gneiss", "metadata": YEARS[3]}
    assert np.allclose(rocks.store["id-3"], DeterministicFakeEmbedding(size=8).embed_query("gneiss"))


def test_from_documents_and_a_missing_path(tmp_path: Path, embedding: Counting) -> None:
    documents = [Document(id="a", page_content="x"), Document(page_content="y", metadata={"n": 1})]
    with VecstoneVectorStore.from_documents(documents, embedding, path=tmp_path / "s") as store:
        ids = list(store.store)
        assert ids[0] == "a" and uuid.UUID(ids[1])
        assert store.get_by_ids(ids) == [documents[0], documents[1].model_copy(update={"id": ids[1]})]
    from_texts: Any = VecstoneVectorStore.from_texts
    with pytest.raises(TypeError, match="'path'"):
        from_texts(["x"], embedding)


def test_from_texts_that_fails_lets_go_of_the_store(tmp_path: Path, embedding: Counting) -> None:
    with pytest.raises(ValueError):
        VecstoneVectorStore.from_texts(["x"], embedding, ids=["a", "b"], path=tmp_path / "s")
    with VecstoneVectorStore(tmp_path / "s", embedding, metric="cosine") as store:
        assert len(store.store) == 0


def test_ids(empty: VecstoneVectorStore) -> None:
    ids = empty.add_texts(iter(["a", "b", "c"]), ids=["one", None, "three"])
    assert ids[::2] == ["one", "three"] and uuid.UUID(ids[1])
    assert empty.add_documents([Document("d"), Document("e", id="five")], ids=["four", None])[0] == "four"
    assert len(empty.store) == 5
    assert contents(empty.get_by_ids(["three", "missing", ids[1], "one"])) == ["c", "b", "a"]
    assert empty.add_texts(["new"], ids=["one"]) == ["one"]  # replaces
    assert contents(empty.get_by_ids(["one"])) == ["new"] and len(empty.store) == 5
    assert empty.add_texts([]) == [] and empty.add_documents([]) == []


def test_batches(empty: VecstoneVectorStore, embedding: Counting) -> None:
    empty.add_texts(WORDS, ids=IDS, batch_size=4, durability="sync")
    assert embedding.calls == ["documents 4", "documents 4", "documents 2"]
    assert contents(empty.get_by_ids(IDS)) == WORDS


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"when": datetime.time(1)}, r"metadata\['when'\]: a time is no JSON"),
        ({"a": {"b": [1, {2}]}}, r"metadata\['a'\]\['b'\]\[1\]: a set has no order"),
        ({"a": {3: "x"}}, "keys of metadata\\['a'\\] must be strings, but 3 is a int"),
        ({"x": math.nan}, r"metadata\['x'\] is nan"),
        ({"x": b"raw"}, r"metadata\['x'\]: a bytes is no JSON"),
    ],
)
def test_metadata_that_is_not_json(
    empty: VecstoneVectorStore, embedding: Counting, metadata: dict[str, Any], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        empty.add_texts(["fine", "not"], [{}, metadata])
    assert embedding.calls == [] and len(empty.store) == 0  # nothing was paid for


def test_metadata_of_numpy_and_dates(empty: VecstoneVectorStore) -> None:
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    empty.add_texts(["a"], [{"n": np.int64(1), "x": np.float32(0.5), "when": when}], ids=["a"])
    assert empty.get_by_ids(["a"])[0].metadata == {"n": 1, "x": 0.5, "when": "2026-01-01T00:00:00.000000+00:00"}
    assert len(empty.similarity_search("a", filter={"when": {"$gte": when}, "n": np.int64(1)})) == 1
    assert empty.similarity_search("a", filter={"when": {"$gt": when}}) == []


def test_metadata_comes_back_as_it_was(empty: VecstoneVectorStore) -> None:
    metadata = {"s": "ß\n\0", "i": 2**53 + 1, "f": 0.1, "b": True, "n": None, "l": [1, [2, {}]], "": {"": []}, "a.b": 1}
    empty.add_texts(["x"], [metadata], ids=["x"])
    back = empty.get_by_ids(["x"])[0].metadata
    assert back == metadata and back["b"] is True


def test_lengths(empty: VecstoneVectorStore, embedding: Counting) -> None:
    with pytest.raises(ValueError, match="2 texts, 1 metadata and 2 ids"):
        empty.add_texts(["a", "b"], [{}], ids=["1", "2"])
    with pytest.raises(ValueError, match="2 texts, 2 metadatas and 3 ids"):
        empty.add_texts(["a", "b"], ids=["1", "2", "3"])
    assert embedding.calls == []


def test_delete(rocks: VecstoneVectorStore) -> None:
    assert rocks.delete(["id-0", "missing"]) is True
    assert "id-0" not in rocks.store and len(rocks.store) == 9
    rocks.delete([])
    assert len(rocks.store) == 9
    rocks.delete(filter={"year": {"$gte": 2008}})
    assert len(rocks.store) == 7
    with pytest.raises(TypeError, match="where"):
        rocks.delete(where={"year": 2001})
    with pytest.raises(ValueError):
        rocks.delete(["id-1"], filter={"year": 2001})
    assert len(rocks.store) == 7
    assert rocks.delete() is True
    assert len(rocks.store) == 0 and rocks.similarity_search("granite") == []
    rocks.add_texts(["again"])
    assert contents(rocks.similarity_search("again")) == ["again"]


def test_scores_are_distances(rocks: VecstoneVectorStore) -> None:
    metric = rocks.store.metric
    expected = sorted(naive(metric, "a query", WORDS).items(), key=lambda item: item[1])
    found = rocks.similarity_search_with_score("a query", k=5)
    assert [document.page_content for document, _ in found] == [text for text, _ in expected[:5]]
    assert [score for _, score in found] == pytest.approx([d for _, d in expected[:5]], rel=1e-5, abs=1e-6)
    vector = rocks.embeddings.embed_query("a query")
    assert rocks.similarity_search_with_score_by_vector(vector, k=5) == found
    assert rocks.similarity_search("a query", k=5) == [document for document, _ in found]
    assert rocks.similarity_search_by_vector(vector, k=5) == [document for document, _ in found]
    assert rocks.similarity_search("a query", k=5, recall_target=1.0) == [document for document, _ in found]
    with pytest.raises(ValueError, match="recall target"):
        rocks.similarity_search("a query", recall_target=2.0)
    assert len(rocks.similarity_search("a query")) == 4 and len(rocks.similarity_search("a query", k=99)) == 10


def test_relevance_and_thresholds(rocks: VecstoneVectorStore, recwarn: pytest.WarningsRecorder) -> None:
    metric = rocks.store.metric
    found = rocks.similarity_search_with_score("granite", k=10)
    scored = rocks.similarity_search_with_relevance_scores("granite", k=10)
    for (document, distance), (same, relevance) in zip(found, scored, strict=True):
        assert document == same and 0 <= relevance <= 1
        expected = 1 / (1 + math.sqrt(distance)) if metric == "l2" else min(1, max(0, 1 - distance))
        assert relevance == pytest.approx(expected)
    assert scored[0][1] == pytest.approx(1)
    assert [score for _, score in scored] == sorted((score for _, score in scored), reverse=True)
    above = rocks.similarity_search_with_relevance_scores("granite", k=10, score_threshold=scored[2][1])
    assert {document.id for document, _ in scored[:3]} <= {document.id for document, _ in above}
    assert all(score >= scored[2][1] for _, score in above)
    assert not recwarn.list  # LangChain warns of scores outside 0..1


FILTERS: list[tuple[dict[str, Any], set[int]]] = [
    ({"year": 2003}, {3}),
    ({"year": {"$gte": 2007}, "$document": {"metadata.kind.hard": True}}, {8}),
    ({"$or": [{"year": 2001}, {"$and": [{"year": {"$lt": 2005}}, {"$document": {"metadata.kind.hard": True}}]}]}, {0, 1, 2, 4}),
    ({"$not": {"year": {"$in": list(range(2001, 2010))}}}, {0}),
    ({"$not": {"$or": [{"year": {"$gt": 2002}}, {"year": 2000}]}}, {1, 2}),
    ({"tags": {"$contains": "chalk"}}, {2, 5, 8}),
    ({"tags": {"$empty": True}, "year": {"$ne": 2000}}, {3, 6, 9}),
    ({"page_content": "granite"}, set()),  # keys address the metadata
    ({"nothing": {"$exists": False}, "year": {"$nin": list(range(2000, 2009))}}, {9}),
    ({}, set(range(10))),
]


@pytest.mark.parametrize(("filter", "expected"), FILTERS)
async def test_filters(rocks: VecstoneVectorStore, filter: dict[str, Any], expected: set[int]) -> None:
    vector = rocks.embeddings.embed_query("query")
    for found in (
        rocks.similarity_search("query", k=20, filter=filter),
        rocks.similarity_search_by_vector(vector, k=20, filter=filter),
        [document for document, _ in rocks.similarity_search_with_relevance_scores("query", k=20, filter=filter)],
        rocks.max_marginal_relevance_search("query", k=20, filter=filter),
        await rocks.asimilarity_search("query", k=20, filter=filter),
        await rocks.amax_marginal_relevance_search("query", k=20, filter=filter),
        rocks.as_retriever(search_kwargs={"k": 20, "filter": filter}).invoke("query"),
    ):
        assert {document.id for document in found} == {f"id-{i}" for i in expected}


def test_filters_by_ids_and_bad_ones(rocks: VecstoneVectorStore) -> None:
    assert {d.id for d in rocks.similarity_search("query", k=5, filter=["id-1", "id-7", "missing"])} == {"id-1", "id-7"}
    with pytest.raises(TypeError):
        rocks.similarity_search("query", filter=lambda document: True)
    with pytest.raises(ValueError):
        rocks.similarity_search("query", filter={"year": {"$near": 2003}})
    for search in (rocks.similarity_search, rocks.max_marginal_relevance_search):
        with pytest.raises(TypeError, match="where"):
            search("query", where={"year": 2003})


@pytest.mark.parametrize("lambda_mult", [0.0, 0.3, 0.5, 1.0])
async def test_mmr(rocks: VecstoneVectorStore, embedding: Counting, lambda_mult: float) -> None:
    query = embedding.inner.embed_query("query")
    order = [WORDS.index(text) for text in contents(rocks.similarity_search("query", k=7))]
    vectors = embedding.inner.embed_documents([WORDS[i] for i in order])
    chosen = maximal_marginal_relevance(np.array(query), vectors, lambda_mult, k=4)
    expected = [WORDS[order[i]] for i in chosen]
    options: dict[str, Any] = {"k": 4, "fetch_k": 7, "lambda_mult": lambda_mult}
    embedding.calls.clear()
    assert contents(rocks.max_marginal_relevance_search("query", **options)) == expected
    assert contents(await rocks.amax_marginal_relevance_search("query", **options)) == expected
    assert embedding.calls == ["query", "aquery"]  # the rows are not embedded again
    assert contents(rocks.max_marginal_relevance_search_by_vector(query, **options)) == expected
    assert contents(await rocks.amax_marginal_relevance_search_by_vector(query, **options)) == expected
    retriever = rocks.as_retriever(search_type="mmr", search_kwargs=options)
    assert contents(retriever.invoke("query")) == expected


def test_mmr_of_nothing(empty: VecstoneVectorStore) -> None:
    assert empty.max_marginal_relevance_search("query") == []


def test_mmr_finds_what_differs(tmp_path: Path, embedding: Counting) -> None:
    with VecstoneVectorStore(tmp_path / "s", embedding) as store:
        rows = {"same": [1, 0.1], "twin": [1, 0.11], "other": [0.6, -0.8]}
        documents = [{"page_content": id, "metadata": {}} for id in rows]
        store.store.put_many(list(rows), np.array(list(rows.values()), np.float32), documents)
        assert contents(store.similarity_search_by_vector([1, 0.1], k=2)) == ["same", "twin"]
        assert contents(store.max_marginal_relevance_search_by_vector([1, 0.1], k=2)) == ["same", "other"]


async def test_retrievers(rocks: VecstoneVectorStore) -> None:
    expected = rocks.similarity_search("granite", k=2)
    retriever = rocks.as_retriever(search_kwargs={"k": 2})
    assert retriever.invoke("granite") == expected == await retriever.ainvoke("granite")
    assert retriever.tags == ["VecstoneVectorStore", "Counting"]
    strict = rocks.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"k": 10, "score_threshold": 0.9999}
    )
    assert "granite" in contents(strict.invoke("granite"))
    assert strict.invoke("granite") == await strict.ainvoke("granite")


async def test_async(tmp_path: Path, embedding: Counting) -> None:
    store = await VecstoneVectorStore.afrom_texts(WORDS[:3], embedding, YEARS[:3], ids=IDS[:3], path=tmp_path / "s")
    with store:
        await store.aadd_documents([Document(WORDS[3], metadata=YEARS[3], id=IDS[3])])
        await store.aadd_texts(WORDS[4:], YEARS[4:], ids=IDS[4:], batch_size=4)
        found = await store.asimilarity_search_with_score("granite", k=10)
        assert embedding.calls == ["adocuments 3", "adocuments 1", "adocuments 4", "adocuments 2", "aquery"]
        assert found == store.similarity_search_with_score("granite", k=10)
        vector = embedding.inner.embed_query("granite")
        assert await store.asimilarity_search_with_score_by_vector(vector, k=10) == found
        assert await store.asimilarity_search_by_vector(vector, k=10) == [document for document, _ in found]
        assert await store.asimilarity_search_with_relevance_scores(
            "granite", k=10, score_threshold=0.5
        ) == store.similarity_search_with_relevance_scores("granite", k=10, score_threshold=0.5)
        assert await store.aget_by_ids(["id-2", "missing", "id-1"]) == store.get_by_ids(["id-2", "id-1"])
        assert await store.adelete(["id-1"]) is True
        assert await store.adelete() is True
        assert len(store.store) == 0


def test_rows_of_others(empty: VecstoneVectorStore) -> None:
    empty.store.put("bare", np.ones(8, np.float32))
    with pytest.raises(ValueError, match=r"'bare'.*page_content"):
        empty.similarity_search("query")
    assert empty.get_by_ids(["bare"]) == []


def test_indexing_api(empty: VecstoneVectorStore) -> None:
    """LangChain's `index` adds, skips and deletes by the ids it makes."""
    records = InMemoryRecordManager("rocks")
    records.create_schema()

    def run(texts: list[str]) -> dict[str, object]:
        documents = [Document(text, metadata={"source": text}) for text in texts]
        return dict(index(documents, records, empty, cleanup="full", source_id_key="source", key_encoder="sha256"))

    assert run(["a", "b"])["num_added"] == 2
    assert run(["b", "c"]) == {"num_added": 1, "num_updated": 0, "num_skipped": 1, "num_deleted": 1}
    assert sorted(contents(empty.similarity_search("a", k=9))) == ["b", "c"]


def test_a_document_added_again_with_fewer_keys_has_only_the_new_ones(rocks: VecstoneVectorStore) -> None:
    rocks.add_documents([Document("basalt", metadata={"year": 1}), Document("chalk")], ids=IDS[:2])
    assert [found.metadata for found in rocks.get_by_ids(IDS[:2])] == [{"year": 1}, {}]


@pytest.mark.parametrize("key", ["file.name", ".a", "a.", "a..b", "\\", "a\\.b", "a.$gt", "é.ü", " "])
def test_a_key_is_meant_letter_for_letter(empty: VecstoneVectorStore, key: str) -> None:
    empty.add_texts(["a", "b"], [{key: "a.pdf"}, {key: "b.pdf"}], ids=["a", "b"])

    def found(filter: Any) -> list[str]:
        return sorted(document.id or "" for document in empty.similarity_search("a", filter=filter))

    assert found({key: "a.pdf"}) == found({key: {"$ne": "b.pdf"}}) == found({"$not": {key: "b.pdf"}}) == ["a"]
    assert found({"$or": [{key: "a.pdf"}, {key: {"$in": ["b.pdf"]}}]}) == found({key: {"$exists": True}}) == ["a", "b"]
    assert empty.delete(filter={key: {"$ne": "a.pdf"}}) and found({}) == ["a"]


def test_nested_metadata_by_the_document(empty: VecstoneVectorStore) -> None:
    empty.add_texts(["a", "b"], [{"author": {"name": "Ada"}, "n": 1}, {"author": {"name": "Bob"}, "n": 1}], ids=["a", "b"])
    with pytest.warns(UserWarning, match=r'no row has the metadata key .author.name.*"\$document": {"metadata.author.name"'):
        assert empty.similarity_search("a", filter={"author.name": "Ada"}) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert empty.similarity_search("a", filter={"$and": [{"author.name": "Ada"}]}) == []
        assert empty.similarity_search("a", filter={"no.such": {"$ne": 1}, "n": 2}) == []
    filters: list[dict[str, Any]] = [
        {"$document": {"metadata.author.name": "Bob"}}, {"n": 1, "$document": {"page_content": "b"}},
        {"$and": [{"$document": {"metadata.author.name": {"$ne": "Ada"}}}, {"n": 1}]},
    ]
    for filter in filters:
        assert [document.id for document in empty.similarity_search("a", filter=filter)] == ["b"]
    with pytest.raises(TypeError, match="document is a str"):
        empty.similarity_search("a", filter={"$document": "b"})
