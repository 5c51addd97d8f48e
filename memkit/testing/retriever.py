"""What every retriever promises: subclass, override a fixture or two, run pytest.

class TestMine(RetrieverContract):
    @pytest.fixture
    def retriever(self):
        return MyRetriever(CORPUS)
"""

from __future__ import annotations

from typing import Any

import pytest

from memkit.errors import BadInput
from memkit.retrieval.base import Retriever
from memkit.types import Hit, Passage

__all__ = ["CORPUS", "TWINS", "RetrieverContract"]

TWINS = "a lighthouse keeper counts ships in the fog"
CORPUS = (
    Passage("twin/b", TWINS),
    Passage("paris", "Paris is the capital of France and lies on the Seine.", "Paris"),
    Passage("erewhon", "Erewhon is a novel by Samuel Butler, published in 1872."),
    Passage("tea", "Green tea is brewed from leaves that were not fermented.", "Green tea"),
    Passage("twin/a", TWINS),
    Passage("Émile 1", "Émile is a treatise on education written by Rousseau."),
    Passage("comet", "A comet is an icy body whose tail points away from the sun."),
    Passage("twin/c", TWINS),
    Passage("bridge", "The bridge over the river was built from steel and granite."),
    Passage("chess", "Chess is played by two people on a board of sixty-four squares."),
)


class RetrieverContract:
    """Search is search. Override `retriever`, and `passages` and `wanted` where it needs others."""

    @pytest.fixture
    def passages(self) -> list[Passage]:
        """What the retriever holds."""
        return list(CORPUS)

    @pytest.fixture
    def wanted(self) -> dict[str, str]:
        """Queries, each with the id of the passage that must come first."""
        return {
            "capital of France on the Seine": "paris",
            "novel by Samuel Butler": "erewhon",
            "icy body with a tail": "comet",
            TWINS: "twin/a",
        }

    @pytest.fixture
    def retriever(self) -> Retriever:
        """The retriever, holding `passages`."""
        raise NotImplementedError

    def test_finds_what_is_wanted_for_each_query_in_order(
        self, retriever: Retriever, wanted: dict[str, str]
    ) -> None:
        """The trivial case is false: other queries, other passages."""
        found = [hits[0].passage.id for hits in retriever.search(list(wanted), k=3)]
        assert len(set(found)) > 1
        assert found == list(wanted.values())

    def test_a_hit_holds_the_passage_itself(
        self, retriever: Retriever, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """Id, title and text are those that went in."""
        by_id = {passage.id: passage for passage in passages}
        for hits in retriever.search(list(wanted), k=len(passages)):
            assert hits
            assert all(hit.passage == by_id[hit.passage.id] for hit in hits)

    def test_ranks_count_from_one_scores_fall_and_ties_are_in_order_of_id(
        self, retriever: Retriever, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """Also where k cuts through a tie."""
        for k in (1, 2, 3, len(passages)):
            for hits in retriever.search(list(wanted), k=k):
                assert len(hits) <= k
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                keys = [(-hit.score, hit.passage.id) for hit in hits]
                assert keys == sorted(set(keys))

    def test_more_hits_begin_with_the_fewer(
        self, retriever: Retriever, passages: list[Passage], wanted: dict[str, str]
    ) -> None:
        """And k beyond the matches gives the matches, each once."""
        everything = retriever.search(list(wanted), k=len(passages))
        assert retriever.search(list(wanted), k=10**9) == everything
        for k in (1, 2, 5):
            assert retriever.search(list(wanted), k=k) == [hits[:k] for hits in everything]

    def test_a_batch_equals_one_query_at_a_time(
        self, retriever: Retriever, wanted: dict[str, str]
    ) -> None:
        """The same passages; scores up to what a batch changes in floating point."""
        batch = retriever.search(list(wanted))
        single = [retriever.search([query])[0] for query in wanted]
        assert _ids(batch) == _ids(single)
        assert _scores(batch) == pytest.approx(_scores(single), rel=1e-5)

    def test_no_query_gives_no_list(self, retriever: Retriever) -> None:
        """An empty batch is no error."""
        assert retriever.search([]) == []

    @pytest.mark.parametrize("query", ["", " \n"])
    def test_refuses_an_empty_query(self, retriever: Retriever, query: str) -> None:
        """Naming it."""
        with pytest.raises(BadInput, match=r"query 1 is"):
            retriever.search(["tea", query])

    def test_refuses_a_query_that_is_not_in_a_list(self, retriever: Retriever) -> None:
        """A string is a sequence of strings, and never meant as one."""
        with pytest.raises(BadInput, match="queries is the string 'tea'"):
            retriever.search("tea")

    @pytest.mark.parametrize("k", [0, -1, True, 1.5])
    def test_refuses_a_k_that_is_no_count(self, retriever: Retriever, k: Any) -> None:
        """Naming it."""
        with pytest.raises(BadInput, match=f"k is {k!r}"):
            retriever.search(["tea"], k=k)


def _ids(results: list[list[Hit]]) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in results]


def _scores(results: list[list[Hit]]) -> list[float]:
    return [hit.score for hits in results for hit in hits]
