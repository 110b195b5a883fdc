"""LlamaIndex: against its own `SimpleVectorStore`, and what that one cannot do."""

import datetime
import json
import math
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs vecstone[llama-index]")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import vecstone
from vecstone.llama_index import VecstoneVectorStore

DIM = 6
WORDS = ["", "a", "Ab", "abc", "ÄB", "straße", "ΑΣ", "zz", "10", "é"]
NUMBERS = [-1, 0, 1, 2, 2.5, 3, 10**6, 0.1]


def random_metadata(rng: random.Random) -> dict[str, Any]:
    makers: dict[str, Callable[[], Any]] = {
        "number": lambda: rng.choice(NUMBERS),
        "word": lambda: rng.choice(WORDS),
        "words": lambda: rng.sample(WORDS, rng.randrange(4)),
        "numbers": lambda: rng.sample(NUMBERS, rng.randrange(4)),
        "flag": lambda: rng.random() < 0.5,
        "mixed": lambda: rng.choice([rng.choice(NUMBERS), rng.choice(WORDS), True, [], ["a"], [1]]),
    }
    metadata = {key: make() for key, make in makers.items() if rng.random() < 0.8}
    return {key: None if rng.random() < 0.1 else value for key, value in metadata.items()}


def random_nodes(rng: random.Random, count: int) -> list[TextNode]:
    nodes = []
    for i in range(count):
        node = TextNode(
            id_=f"n{i}",
            text=f"text {i}",
            metadata=random_metadata(rng),
            embedding=[float(np.float32(rng.gauss(0, 1))) for _ in range(DIM)],
        )
        if rng.random() < 0.9:
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc{rng.randrange(6)}")
        nodes.append(node)
    return nodes


def random_filter(rng: random.Random, operator: FilterOperator) -> MetadataFilter:
    key = rng.choice(["number", "word", "words", "numbers", "flag", "mixed", "absent", "ref_doc_id", "doc_id"])
    one: Any = rng.choice([*NUMBERS, *WORDS, "doc1", "doc2"])
    # MetadataFilter wants lists of one type, and makes floats of mixed numbers.
    many: Any = rng.choice([rng.sample([*WORDS, "doc1"], rng.randrange(4)), rng.sample(NUMBERS, rng.randrange(4))])
    value = many
    if operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        value = rng.choice(WORDS)
    elif operator in (FilterOperator.EQ, FilterOperator.NE):
        value = rng.choice([one, one, one, many])
    elif operator not in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
        value = one
    return MetadataFilter(key=key, value=value, operator=operator)


def query_of(rng: random.Random, **options: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=[rng.gauss(0, 1) for _ in range(DIM)], **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VecstoneVectorStore]:
    with VecstoneVectorStore(tmp_path / "store") as store:
        yield store


def matches(node: TextNode, filters: MetadataFilters | MetadataFilter) -> bool:
    """The naive evaluator: LlamaIndex's own for one filter, plain recursion for the rest."""
    if isinstance(filters, MetadataFilter):
        ids = dict.fromkeys(["ref_doc_id", "doc_id", "document_id"], node.ref_doc_id or "None")
        lookup = {**node.metadata, **ids}
        try:
            return build_metadata_filter_fn(lambda _: lookup, MetadataFilters(filters=[filters]))("")
        except TypeError:  # Python cannot compare the two; vecstone's operators then do not match
            return False
    found = [matches(node, part) for part in filters.filters]
    match filters.condition:
        case FilterCondition.OR:
            return any(found) or not found
        case FilterCondition.NOT:
            return not any(found)
        case _:
            return all(found)


@pytest.mark.parametrize("operator", list(FilterOperator))
def test_one_filter_like_simple(store: VecstoneVectorStore, operator: FilterOperator) -> None:
    rng = random.Random(str(operator))
    nodes = random_nodes(rng, 80)
    store.add(nodes)
    simple = SimpleVectorStore()
    simple.add(nodes)
    hits = compared = 0
    for _ in range(120):
        filters = MetadataFilters(filters=[random_filter(rng, operator)])
        query = query_of(rng, similarity_top_k=rng.choice([1, 5, 200]), filters=filters)
        found = store.query(query)
        try:
            expected = simple.query(query)
        except TypeError:  # one node whose value Python cannot compare fails the whole of Simple's query
            everything = {node.node_id for node in nodes if matches(node, filters)}
            assert {node.node_id for node in store.get_nodes(filters=filters)} == everything
            continue
        assert found.ids == expected.ids, filters
        assert found.similarities == pytest.approx(expected.similarities, abs=1e-6)
        compared += 1
        hits += len(found.ids or [])
    assert compared > 15 and hits > 15


@pytest.mark.parametrize("condition", [*FilterCondition, None])
def test_flat_filters_and_node_ids_like_simple(store: VecstoneVectorStore, condition: FilterCondition | None) -> None:
    rng = random.Random(str(condition))
    nodes = random_nodes(rng, 80)
    store.add(nodes)
    simple = SimpleVectorStore()
    simple.add(nodes)
    hits = compared = 0
    for _ in range(300):
        chosen: list[MetadataFilter | MetadataFilters] = [
            random_filter(rng, rng.choice(list(FilterOperator))) for _ in range(rng.randrange(4))
        ]
        filters = MetadataFilters(filters=chosen, condition=condition)
        node_ids = rng.choice([None, [f"n{rng.randrange(100)}" for _ in range(rng.randrange(1, 80))]])
        query = query_of(rng, similarity_top_k=rng.choice([1, 5, 200]), filters=filters, node_ids=node_ids)
        try:
            expected = simple.query(query)
        except TypeError:
            continue
        assert store.query(query).ids == expected.ids, (filters, node_ids)
        compared += 1
        hits += len(expected.ids or [])
    assert compared > 50 and hits > 100


def test_nested_filters(store: VecstoneVectorStore) -> None:
    rng = random.Random(5)
    nodes = random_nodes(rng, 80)
    store.add(nodes)

    def nested(depth: int) -> MetadataFilters:
        parts: list[MetadataFilter | MetadataFilters] = [
            nested(depth - 1) if depth and rng.random() < 0.5 else random_filter(rng, rng.choice(list(FilterOperator)))
            for _ in range(rng.randrange(1, 4))
        ]
        return MetadataFilters(filters=parts, condition=rng.choice(list(FilterCondition)))

    counts = set()
    for _ in range(150):
        filters = nested(3)
        expected = [node.node_id for node in nodes if matches(node, filters)]
        assert [node.node_id for node in store.get_nodes(filters=filters)] == expected, filters
        assert set(store.query(query_of(rng, similarity_top_k=200, filters=filters)).ids or []) == set(expected)
        counts.add(len(expected))
    assert len(counts) > 20


ODD_KEYS = ["file.name", ".a", "a.", "a..b", "\\", "a\\.b", "$in", "a.$gt", "é.ü", " "]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_is_meant_letter_for_letter(store: VecstoneVectorStore, key: str) -> None:
    nodes = [TextNode(id_=i, text=i, metadata={key: f"{i}.pdf"}, embedding=[1.0, 0.0]) for i in "ab"]
    store.add(nodes)
    simple = SimpleVectorStore()
    simple.add(nodes)
    O = FilterOperator
    cases: list[tuple[FilterOperator, Any]] = [(O.EQ, "a.pdf"), (O.NE, "a.pdf"), (O.IN, ["a.pdf"]), (O.NIN, ["a.pdf"]), (O.TEXT_MATCH, "a.p"),
                      (O.IS_EMPTY, None), (O.GT, "a.pdf")]
    for op, value in cases:
        filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=op, value=value)])
        query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=5, filters=filters)
        assert store.query(query).ids == simple.query(query).ids, op
    store.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key=key, operator=O.NE, value="a.pdf")]))
    assert [node.node_id for node in store.get_nodes()] == ["a"]


def test_nested_metadata_by_a_filter_of_vecstones(store: VecstoneVectorStore) -> None:
    store.add([TextNode(id_=i, metadata={"author": {"name": i}, "n": 1}, embedding=[1.0, 0.0]) for i in "ab"])
    filters = MetadataFilters(filters=[MetadataFilter(key="author.name", value="a")])
    advice = r"no row has the metadata key 'author.name'.*vector_store_kwargs=\{\"filter\": \{\"metadata.author.name\""
    with pytest.warns(UserWarning, match=advice):
        assert store.get_nodes(filters=filters) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get_nodes(filters=filters) == []  # said once
        store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="no.such", value="a")]))
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=5)
    nested = {"metadata.author.name": "b"}
    assert store.query(query, filter=nested).ids == ["b"]
    n = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=5,
                         filters=MetadataFilters(filters=[MetadataFilter(key="n", value=2)]))
    assert store.query(n, filter=nested).ids == []
    with pytest.raises(TypeError, match="filter is a str"):
        store.query(query, filter="author = 'b'")
    store.delete_nodes(["a", "b"], filter=nested)
    assert [node.node_id for node in store.get_nodes()] == ["a"]


def test_metadata_is_kept_as_it_is(store: VecstoneVectorStore) -> None:
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    store.add([TextNode(id_="a", metadata={"when": when, "n": np.int64(3)}, embedding=[1.0, 0.0])])
    assert store.get_nodes(["a"])[0].metadata == {"when": "2026-01-01T00:00:00.000000+00:00", "n": 3}
    for value in (math.inf, -math.inf, math.nan, {"a": [math.inf]}):
        with pytest.raises(TypeError, match=r"the metadata of node 'b'\['x'\].* is -?(inf|nan)"):
            store.add([TextNode(id_="b", metadata={"x": value}, embedding=[1.0, 0.0])])
    assert len(store.client) == 1


@pytest.mark.parametrize("operator", ["in", "nin", "any", "all"])
def test_operators_that_need_a_list(store: VecstoneVectorStore, operator: str) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="k", value="abc", operator=FilterOperator(operator))])
    with pytest.raises(ValueError, match=f"'k': '{operator}' needs a list, not 'abc'"):
        store.get_nodes(filters=filters)


def test_a_filter_without_a_value(store: VecstoneVectorStore) -> None:
    with pytest.raises(ValueError, match="is_empty"):
        store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="k", value=None)]))


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_similarities(tmp_path: Path, metric: Any) -> None:
    rng = random.Random(metric)
    nodes = random_nodes(rng, 50)
    query = query_of(rng, similarity_top_k=7)
    q = np.array(query.query_embedding)
    expected = {}
    for node in nodes:
        v = np.array(node.embedding)
        match metric:
            case "l2":
                expected[node.node_id] = 1 / (1 + math.sqrt(float(((q - v) ** 2).sum())))
            case "ip":
                expected[node.node_id] = float(q @ v)
            case _:
                expected[node.node_id] = float(q @ v / (np.linalg.norm(q) * np.linalg.norm(v)))
    with VecstoneVectorStore(tmp_path / "s", metric=metric) as store:
        store.add(nodes)
        found = store.query(query)
        assert store.query(query, recall_target=1.0).ids == found.ids
        with pytest.raises(ValueError, match="recall target"):
            store.query(query, recall_target=2.0)
    best = sorted(expected, key=lambda id: -expected[id])[:7]
    assert found.ids == best
    assert found.similarities == pytest.approx([expected[id] for id in best], abs=1e-5)
    assert [node.node_id for node in found.nodes or []] == best


@pytest.mark.parametrize("threshold", [None, 0.1, 0.6, 1.0])
def test_mmr_like_simple(store: VecstoneVectorStore, threshold: float | None) -> None:
    rng = random.Random(7)
    nodes = random_nodes(rng, 40)
    store.add(nodes)
    simple = SimpleVectorStore()
    simple.add(nodes)
    everything = {} if threshold is None else {"mmr_threshold": threshold}
    for _ in range(10):
        query = query_of(rng, similarity_top_k=6, mode=VectorStoreQueryMode.MMR)
        found = store.query(query, mmr_prefetch_k=40, **everything)
        assert found.ids == simple.query(query, **everything).ids
        plain = store.query(query_of(rng, similarity_top_k=40))
        assert set(found.ids or []) <= set(plain.ids or [])
        by_field = store.query(VectorStoreQuery(**{**vars(query), "mmr_threshold": threshold}), mmr_prefetch_k=40)
        assert by_field.ids == found.ids


def test_mmr_chooses_from_the_nearest(store: VecstoneVectorStore) -> None:
    rng = random.Random(8)
    store.add(random_nodes(rng, 60))
    query = query_of(rng, similarity_top_k=3, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.0)
    nearest = store.query(VectorStoreQuery(query_embedding=query.query_embedding, similarity_top_k=12))
    found = store.query(query)
    assert set(found.ids or []) <= set(nearest.ids or []) and len(found.ids or []) == 3
    similarities = dict(zip(nearest.ids or [], nearest.similarities or [], strict=True))
    assert found.similarities == [similarities[id] for id in found.ids or []]  # not MMR's own scores


def test_mmr_with_zeros_and_nothing(store: VecstoneVectorStore) -> None:
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=3, mode=VectorStoreQueryMode.MMR)
    assert store.query(query).ids == []
    store.add([TextNode(id_="zero", embedding=[0.0, 0.0]), TextNode(id_="one", embedding=[1.0, 0.0])])
    assert store.query(query).ids == ["one", "zero"]


@pytest.mark.parametrize("mode", sorted(set(VectorStoreQueryMode) - {"default", "mmr"}))
def test_other_modes(store: VecstoneVectorStore, mode: VectorStoreQueryMode) -> None:
    with pytest.raises(ValueError, match=mode.value):
        store.query(VectorStoreQuery(query_embedding=[1.0], mode=mode))
    as_text: Any = mode.value
    with pytest.raises(ValueError, match=mode.value):
        store.query(VectorStoreQuery(query_embedding=[1.0], mode=as_text))
    with pytest.raises(ValueError, match="query_embedding"):
        store.query(VectorStoreQuery(query_str="text"))


def test_empty_store(store: VecstoneVectorStore) -> None:
    assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0])).ids == []
    assert store.get_nodes() == [] and store.get_nodes(["x"]) == [] and store.add([]) == []
    store.delete("doc")
    store.delete_nodes(["x"])
    store.clear()


def all_kinds() -> list[BaseNode]:
    source = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", metadata={"page": 1}, hash="h"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c1"), RelatedNodeInfo(node_id="c2")],
    }
    return [
        TextNode(id_="t", text="ß\n", metadata={"n": 1, "deep": {"x": [None, 2.5]}}, relationships=source),
        Node(
            id_="n",
            text_resource=MediaResource(text="node"),
            image_resource=MediaResource(path=Path("i.png")),
        ),
        IndexNode(id_="i", text="index", index_id="elsewhere", obj=TextNode(id_="inner", text="inner")),
        ImageNode(id_="m", text="image", image="aGk=", image_mimetype="image/png"),
        Document(id_="d", text="document", excluded_llm_metadata_keys=["n"], metadata={"n": 1}),
    ]


def test_nodes_come_back_as_they_were(store: VecstoneVectorStore) -> None:
    nodes = all_kinds()
    for i, node in enumerate(nodes):
        node.embedding = [1.0, i / 4]
    ids = store.add(nodes)
    assert ids == ["t", "n", "i", "m", "d"]
    for node, back in zip(nodes, store.get_nodes(), strict=True):
        assert type(back) is type(node) and back.to_dict() == node.to_dict()
    found = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=5))
    for node, back in zip(nodes, found.nodes or [], strict=True):
        assert back.embedding is None and back.get_content() == node.get_content() and back.hash == node.hash
    document = store.client.get_document("t")
    assert document["metadata"] == nodes[0].metadata and document["ref_doc_id"] == "doc"
    assert "embedding" not in document["node"] and json.dumps(document).count("deep") == 1


def test_add_replaces_and_checks(store: VecstoneVectorStore) -> None:
    store.add([TextNode(id_="x", text="old", embedding=[1.0, 0.0])])
    store.add([TextNode(id_="x", text="new", embedding=[0.0, 1.0])])
    [node] = store.get_nodes()
    assert node.get_content() == "new" and node.embedding == [0.0, 1.0]
    with pytest.raises(ValueError, match="embedding"):
        store.add([TextNode(id_="y", text="none")])
    with pytest.raises(ValueError):
        store.add([TextNode(id_="y", embedding=[1.0, 2.0, 3.0])])
    assert len(store.client) == 1


def test_deleting(store: VecstoneVectorStore) -> None:
    rng = random.Random(3)
    nodes = random_nodes(rng, 80)
    simple = SimpleVectorStore()
    for each in (store, simple):
        each.add(nodes)
        each.delete("doc2")
        each.delete("missing")
        each.delete_nodes([f"n{i}" for i in range(0, 120, 9)])
        each.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="flag", value=1)]))
        each.delete_nodes(
            [f"n{i}" for i in range(0, 80, 2)],
            MetadataFilters(filters=[MetadataFilter(key="word", value="", operator=FilterOperator.IS_EMPTY)]),
        )
        each.delete_nodes([])
    assert list(store.client) == list(simple.data.embedding_dict)
    assert 5 < len(store.client) < 60
    nothings: list[dict[str, Any]] = [{}, {"filters": MetadataFilters(filters=[])}]
    for nothing in nothings:
        with pytest.raises(ValueError, match="clear"):
            store.delete_nodes(**nothing)
    store.clear()
    assert len(store.client) == 0


def test_get_nodes(store: VecstoneVectorStore) -> None:
    nodes = random_nodes(random.Random(4), 20)
    store.add(nodes)
    assert [node.node_id for node in store.get_nodes()] == [f"n{i}" for i in range(20)]
    assert [node.node_id for node in store.get_nodes(["n7", "missing", "n3"])] == ["n7", "n3"]
    empty = MetadataFilters(filters=[MetadataFilter(key="absent", value="", operator=FilterOperator.IS_EMPTY)])
    assert [node.node_id for node in store.get_nodes(["n7", "missing", "n3"], empty)] == ["n7", "n3"]
    assert store.get_nodes([]) == []


def test_doc_ids(store: VecstoneVectorStore) -> None:
    rng = random.Random(6)
    nodes = random_nodes(rng, 60)
    store.add(nodes)
    filters = MetadataFilters(filters=[MetadataFilter(key="number", value=2, operator=FilterOperator.GTE)])
    some = [f"n{i}" for i in range(30)]
    query = query_of(rng, similarity_top_k=60, doc_ids=["doc1", "doc3"], node_ids=some, filters=filters)
    expected = {node.node_id for node in nodes[:30] if node.ref_doc_id in ("doc1", "doc3") and matches(node, filters)}
    assert set(store.query(query).ids or []) == expected and expected
    everything = query_of(rng, similarity_top_k=99, doc_ids=[], node_ids=[], filters=MetadataFilters(filters=[]))
    assert len(store.query(everything).ids or []) == 60  # what LlamaIndex's retriever sends for all nodes


async def test_async(store: VecstoneVectorStore) -> None:
    rng = random.Random(9)
    nodes = random_nodes(rng, 30)
    assert await store.async_add(nodes) == [node.node_id for node in nodes]
    query = query_of(rng, similarity_top_k=5)
    assert (await store.aquery(query)).ids == store.query(query).ids
    assert (await store.aquery(query, mmr_threshold=1)).ids == store.query(query).ids
    assert [node.node_id for node in await store.aget_nodes(["n1"])] == ["n1"]
    await store.adelete("doc0")
    assert all(node.ref_doc_id != "doc0" for node in store.get_nodes())
    await store.adelete_nodes(["n1", "n2", "n3"])
    assert not store.get_nodes(["n1", "n2", "n3"])
    await store.aclear()
    assert len(store.client) == 0


def test_reopening_and_serializing(tmp_path: Path) -> None:
    with VecstoneVectorStore(tmp_path / "s", metric="ip", flush_interval=0.5) as store:
        store.add([TextNode(id_="x", text="x", embedding=[1.0, 0.0])])
        store.persist("ignored", None)
        assert not (Path("ignored")).exists()
        as_dict, pickled = store.to_dict(), pickle.dumps(store)
        copy = pickle.loads(pickled)
        assert copy.query(VectorStoreQuery(query_embedding=[1.0, 0.0])).ids == ["x"]
        copy.close()
    assert json.loads(json.dumps(as_dict)) == {
        "path": str(tmp_path / "s"),
        "metric": "ip",
        "open_options": {"flush_interval": 0.5},
        "stores_text": True,
        "is_embedding_query": True,
        "class_name": "VecstoneVectorStore",
    }
    with VecstoneVectorStore.from_dict(as_dict) as again:
        assert [node.node_id for node in again.get_nodes()] == ["x"] and again.client.metric == "ip"
    store.close()
    with pytest.raises(ValueError):
        store.get_nodes()
    with pytest.raises(ValueError, match=r"(?s)ip.*cosine|cosine.*ip"):
        VecstoneVectorStore(tmp_path / "s")


def test_rows_of_others(store: VecstoneVectorStore) -> None:
    store.client.put("bare", [1.0, 0.0], {"page_content": "x"})
    with pytest.raises(ValueError, match="'bare'"):
        store.query(VectorStoreQuery(query_embedding=[1.0, 0.0]))


class Letters(BaseEmbedding):
    """Counts letters: enough to find a text by its words."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(text.lower().count(chr(97 + i))) for i in range(26)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


async def test_an_index_on_top(tmp_path: Path) -> None:
    texts = {"rock": "granite basalt gneiss", "metal": "iron copper silver", "gas": "helium neon argon"}
    documents = [Document(id_=id, text=text, metadata={"kind": id}) for id, text in texts.items()]
    with VecstoneVectorStore(tmp_path / "s") as store:
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=Letters())
        index.insert(Document(id_="wood", text="oak birch", metadata={"kind": "wood"}))
        index.delete_ref_doc("metal")
    with VecstoneVectorStore(tmp_path / "s") as store:
        index = VectorStoreIndex.from_vector_store(store, embed_model=Letters())
        [best] = index.as_retriever(similarity_top_k=1).retrieve("granite gneiss")
        assert best.node.get_content() == texts["rock"] and best.node.metadata == {"kind": "rock"}
        assert best.score is not None and 0.8 < best.score <= 1
        assert isinstance(store.client, vecstone.Store) and len(store.client) == 3
        not_rock = MetadataFilters(filters=[MetadataFilter(key="kind", value="rock", operator=FilterOperator.NE)])
        for mode in ("default", "mmr"):
            retriever = index.as_retriever(similarity_top_k=5, filters=not_rock, vector_store_query_mode=mode)
            for found in (retriever.retrieve("granite"), await retriever.aretrieve("granite")):
                assert {hit.node.metadata["kind"] for hit in found} == {"gas", "wood"}


def test_a_node_added_again_with_fewer_keys_has_only_the_new_ones(tmp_path: Path) -> None:
    with VecstoneVectorStore(tmp_path / "s") as store:
        store.add([TextNode(id_="n", text="t", metadata={"a": 1, "b": 2}, embedding=[1.0] * DIM)])
        store.add([TextNode(id_="n", text="t", metadata={"b": 3}, embedding=[1.0] * DIM)])
        (node,) = store.get_nodes(["n"])
        assert node.metadata == {"b": 3}
