"""LangChain's own suite for vector stores. CI counts it: 25 passed, none skipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("langchain_tests", reason="needs vecstone[langchain] and langchain-tests")

from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from vecstone.langchain import VecstoneVectorStore


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with VecstoneVectorStore(tmp_path / "store", self.get_embeddings()) as store:
            yield store
