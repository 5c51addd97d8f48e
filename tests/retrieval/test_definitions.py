from __future__ import annotations

import pytest

from memkit import BadInput, Passage
from memkit.retrieval.base import Retriever
from memkit.retrieval.definitions import Definitions
from memkit.testing.retriever import RetrieverContract

DEFINITIONS = {
    "Erewhon": "Erewhon is a novel.",
    "York": "York is a city in England.",
    "New York": "New York is a city in America.",
    "Oslo": "Oslo is a city in Norway.",
    "oslo": "An oslo is a dance.",
}


@pytest.fixture
def retriever():
    return Definitions(DEFINITIONS)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Who wrote it?", []),  # names none
        ("Who wrote EREWHON?", [("Erewhon", 7)]),  # whatever the case
        ("Where is New York?", [("New York", 8)]),  # the longest match, not York too
        ("Where is Yorkshire?", []),  # whole words
        ("York or New York?", [("New York", 8), ("York", 4)]),  # longest first
        ("York or York?", [("York", 4)]),  # once
        ("From York to oslo", [("Oslo", 4), ("York", 4), ("oslo", 4)]),  # ties by subject
    ],
)
def test_finds_the_subjects_that_a_query_names(retriever, query, expected):
    (hits,) = retriever.search([query])
    assert [(hit.passage.id, hit.score) for hit in hits] == expected
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_a_hit_is_the_definition_under_its_subject(retriever):
    ((hit,),) = retriever.search(["Who wrote Erewhon?"])
    assert hit.passage == Passage("Erewhon", "Erewhon is a novel.", title="Erewhon")


def test_a_batch_equals_one_by_one_and_k_cuts(retriever):
    queries = ["From York to Oslo", "Erewhon", "nothing"]
    batch = retriever.search(queries)
    assert batch == [retriever.search([query])[0] for query in queries]
    assert [len(hits) for hits in batch] == [3, 1, 0]
    assert retriever.search(queries, k=2) == [hits[:2] for hits in batch]


def test_is_a_retriever_with_a_length(retriever):
    assert isinstance(retriever, Retriever)
    assert len(retriever) == 5


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        ({}, "corpus is empty"),
        ({"": "A thing."}, "''.*A thing"),
        ({"X": " "}, "'X' is ' '"),
        ({"X": None}, "'X' is None"),
    ],
)
def test_refuses_what_defines_nothing(definitions, message):
    with pytest.raises(BadInput, match=message):
        Definitions(definitions)


@pytest.mark.parametrize(("queries", "k"), [([""], 1), (["Oslo"], 0), ("Oslo", 1)])
def test_refuses_what_is_no_search(retriever, queries, k):
    with pytest.raises(BadInput):
        retriever.search(queries, k=k)


class TestContract(RetrieverContract):
    @pytest.fixture
    def passages(self):
        return [Passage(subject, text, subject) for subject, text in DEFINITIONS.items()]

    @pytest.fixture
    def wanted(self):
        return {"Who wrote Erewhon?": "Erewhon", "New York or York?": "New York", "oslo": "Oslo"}

    @pytest.fixture
    def retriever(self):
        return Definitions(DEFINITIONS)
