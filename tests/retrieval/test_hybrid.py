from __future__ import annotations

import math

import pytest

from memkit import BM25, BadInput, Definitions, Hybrid, IndexMismatch, Passage
from memkit.retrieval.base import Retriever, check_search, ranked
from memkit.testing.retriever import CORPUS, RetrieverContract


class Table:
    """Gives typed-in scores, whatever is asked."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def search(self, queries, k=10):
        check_search(queries, k)
        scored = [(Passage(id, f"text of {id}"), score) for id, score in self.scores.items()]
        return [ranked(scored, k) for _ in queries]


A = Table({"a": 9.0, "b": 5.0, "c": 1.0})
B = Table({"c": 0.8, "a": 0.6, "d": 0.4})


def fused(*retrievers, k=10, **options):
    (hits,) = Hybrid(retrievers, **options).search(["q"], k)
    return {hit.passage.id: hit.score for hit in hits}


def test_reciprocal_ranks_are_those_of_the_hand_table():
    """Ranks: a 1 and 2, b 2 and none, c 3 and 1, d none and 3."""
    expected = {"a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62, "d": 1 / 63}
    found = fused(A, B)
    assert list(found) == ["a", "c", "b", "d"]
    assert found == pytest.approx(expected)


def test_two_equal_lists_give_the_figures_of_pyserinis_fusion():
    found = fused(Table({"x": 2, "y": 1}), Table({"y": 2, "x": 1}), Table({"z": 1}))
    assert found["x"] == found["y"] == pytest.approx(0.0325225, abs=1e-7)
    both = fused(Table({"w": 3, "x": 2, "y": 1}), Table({"w": 3, "y": 2, "x": 1}))
    assert both["x"] == pytest.approx(0.0320020, abs=1e-7)


def test_k_of_the_formula_can_be_set():
    """With 0 a first rank counts all: c and a change places only where ranks are flat."""
    assert fused(A, B, rrf_k=0) == pytest.approx({"a": 1.5, "c": 4 / 3, "b": 0.5, "d": 1 / 3})


def test_ranks_can_be_weighted():
    found = fused(A, B, weights=(1, 3))
    assert found == pytest.approx(
        {"a": 1 / 61 + 3 / 62, "c": 1 / 63 + 3 / 61, "b": 1 / 62, "d": 3 / 63}
    )
    assert list(found) == ["c", "a", "d", "b"]


def test_interpolation_is_that_of_the_hand_table():
    """A scaled: a 1, b 0.5, c 0. B scaled: c 1, a 0.5, d 0."""
    found = fused(A, B, fusion="interpolation")
    assert found == pytest.approx({"a": 0.75, "c": 0.5, "b": 0.25, "d": 0.0})
    found = fused(A, B, fusion="interpolation", weights=(0.2, 0.8))
    assert found == pytest.approx({"c": 0.8, "a": 0.6, "b": 0.1, "d": 0.0})


def test_raw_scores_count_a_missing_passage_as_the_last():
    """As pyserini's hybrid searcher: b has B's 0.4, d has A's 1.0."""
    found = fused(A, B, fusion="interpolation", normalise="none", weights=(1, 1))
    assert found == pytest.approx({"a": 9.6, "b": 5.4, "c": 1.8, "d": 1.4})


def test_a_list_of_equal_scores_or_none_has_a_scale_too():
    flat, empty = Table({"b": 3.0, "a": 3.0}), Table({})
    assert fused(flat, empty, fusion="interpolation") == {"a": 0.5, "b": 0.5}
    assert fused(flat, A, fusion="interpolation", weights=(1, 1)) == pytest.approx(
        {"a": 2.0, "b": 1.5, "c": 0.0}
    )
    assert fused(empty, empty) == {}


def test_ties_are_in_order_of_id_whatever_the_order_of_addition():
    """1/61 + 1/62 + 1/63 added in six orders: the last bit of a plain sum differs."""
    lists = [("p", "q", "r"), ("q", "r", "p"), ("r", "p", "q")]
    tables = [Table({id: -n for n, id in enumerate(ids)}) for ids in lists]
    found = fused(*tables, weights=(1, 1, 1))
    assert list(found) == ["p", "q", "r"]
    assert len(set(found.values())) == 1
    assert found["p"] == math.fsum([1 / 61, 1 / 62, 1 / 63])


def test_depth_and_not_k_says_what_takes_part():
    assert list(fused(A, B, depth=1)) == ["a", "c"]
    assert fused(A, B, depth=1, k=1) == {"a": 1 / 61}
    assert list(fused(A, B, k=2)) == ["a", "c"]


def test_refuses_two_texts_under_one_id():
    other = BM25.build([Passage("a", "another text of a")], engine="bm25s")
    with other, pytest.raises(IndexMismatch, match=r"'a' is 'text of a'.*'another text of a'"):
        Hybrid([A, other]).search(["text"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retrievers": [A]}, "1 retrievers; allowed: at least 2"),
        ({"fusion": "borda"}, "fusion is 'borda'; allowed: 'rrf', 'interpolation'"),
        ({"normalise": "z"}, "normalise is 'z'; allowed: 'min-max', 'none'"),
        ({"rrf_k": -1}, "rrf_k is -1"),
        ({"rrf_k": math.inf}, "rrf_k is inf"),
        ({"depth": 0}, "depth is 0"),
        ({"weights": (1,)}, r"weights is \(1,\) for 2 retrievers"),
        ({"weights": (1, -1)}, "at least 0"),
        ({"weights": (0, 0)}, "not all 0"),
        ({"weights": (1, math.nan)}, "nan"),
    ],
)
def test_refuses_parameters_that_make_no_sense(options, message):
    with pytest.raises(BadInput, match=message):
        Hybrid(**{"retrievers": [A, B], **options})


def test_a_change_of_a_retriever_shows_at_once():
    with BM25.build(CORPUS, engine="bm25s") as index:
        hybrid = Hybrid([index, Definitions({"Zeppelin": "An airship."})])
        assert [hit.passage.id for hit in hybrid.search(["zeppelin"])[0]] == ["Zeppelin"]
        index.add([Passage("new", "a zeppelin over the sea")])
        assert [hit.passage.id for hit in hybrid.search(["zeppelin"])[0]] == ["Zeppelin", "new"]
        assert isinstance(hybrid, Retriever)
        assert repr(hybrid) == (
            "Hybrid([BM25, Definitions], fusion='rrf', rrf_k=60.0, weights=(1.0, 1.0), depth=100)"
        )


@pytest.mark.parametrize("options", [{}, {"fusion": "interpolation"}])
class TestContract(RetrieverContract):
    @pytest.fixture
    def retriever(self, options):
        one, other = (BM25.build(CORPUS, engine="bm25s", k1=k1) for k1 in (0.9, 2.0))
        with one, other:
            yield Hybrid([one, other], **options)
