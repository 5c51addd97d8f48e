from __future__ import annotations

import random

import numpy as np
import pytest

from memkit import BM25, Passage
from memkit.retrieval.bm25s_engine import _in_a_byte as in_a_byte
from memkit.retrieval.sparse import (
    Corpus,
    _in_a_byte,
    counted,
    document_vector,
    query_vector,
    score,
    settled,
)


def test_lengths_are_those_of_the_local_engines():
    lengths = [*range(3_000), 10**5, 10**7]
    assert [_in_a_byte(n) for n in lengths] == in_a_byte(np.array(lengths, float)).tolist()


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (2.0, 1.0), (0.0, 0.5)])
def test_inner_products_are_the_scores_of_the_local_engine(k1, b):
    rng = random.Random(3)
    words = [f"w{n}" for n in range(40)]
    passages = [
        Passage(str(n), " ".join(rng.choices(words, k=rng.randint(1, 90)))) for n in range(60)
    ]
    counts = {p.id: counted(p.contents) for p in passages}
    corpus = Corpus()
    for c in counts.values():
        corpus = corpus.with_(c)
    df = {w: sum(w in c for c in counts.values()) for w in words}
    places = {w: n for n, w in enumerate(words, start=1)}
    with BM25.build(passages, engine="bm25s", k1=k1, b=b) as index:
        for query in ("w1 w2 w2 w39", "w7", "w5 unknown"):
            y = query_vector(counted(query), places, df, corpus)
            hits = index.search([query], 100)[0]
            assert hits
            for hit in hits:
                c = counts[hit.passage.id]
                x = document_vector(c, places, corpus.average, k1, b)
                product = sum(value * x.get(place, 0) for place, value in y.items())
                assert product == pytest.approx(hit.score, rel=1e-5)
                assert score(counted(query), c, df, corpus, k1, b) == pytest.approx(product)


def test_a_document_without_terms_is_none_and_taking_it_away_too():
    corpus = Corpus().with_(counted("tea tea ship"))
    assert corpus.with_(counted("the")) == corpus == Corpus(1, 3)
    assert corpus.with_(counted("fog")).with_(counted("fog"), -1) == corpus
    assert (Corpus().average, corpus.average) == (1.0, 3.0)


@pytest.mark.parametrize("average", [0.5, 0.9, 1.0, 1.1, 3.0])
def test_no_document_beyond_the_proposals_can_score_more_than_is_settled(average):
    """Random documents and averages: the best of all are among the settled."""
    rng = random.Random(5)
    words = "abcdefgh"
    documents = [counted(" ".join(rng.choices(words, k=rng.randint(1, 40)))) for _ in range(300)]
    documents = [d for d in documents if d]
    reference = sum(sum(d.values()) for d in documents) / len(documents)
    corpus = Corpus(len(documents), round(average * reference * len(documents)))
    df = {w: sum(w in d for d in documents) for w in words}
    places = {w: n for n, w in enumerate(words, start=1)}
    tried = 0
    for query in ("b c", "d", "e f g h"):
        y = query_vector(counted(query), places, df, corpus)
        stored = [document_vector(d, places, reference, 0.9, 0.4) for d in documents]
        proposals = [sum(v * x.get(p, 0) for p, v in y.items()) for x in stored]
        true = [score(counted(query), d, df, corpus, 0.9, 0.4) for d in documents]
        order = sorted(range(len(documents)), key=lambda n: -proposals[n])
        for limit in range(5, len(documents), 5):
            rows = order[:limit]
            scores = sorted((true[n] for n in rows), reverse=True)
            proposed = [proposals[n] for n in rows]
            if settled(scores, proposed, 5, reference, corpus.average):
                tried += 1
                assert scores[:5] == sorted(true, reverse=True)[:5]
    assert tried
