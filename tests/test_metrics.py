"""Each formula against an independent computation: by hand, by loops, or by scipy."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memkit.errors import BadInput
from memkit.metrics import (
    bootstrap_means,
    contains,
    exact_match,
    generation_entropy,
    grace_f1,
    harmonic_mean,
    ngram_entropy,
    normalise,
    oracle_gap_closed,
    paired_bootstrap,
    popqa_substring,
    same_answer,
    tfidf_cosines,
    token_f1,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles!", "beatles"),
        ("An a-b c.", "ab c"),
        ("theatre", "theatre"),  # an article is a word, not a prefix
        ("Łódź, the city", "łódź city"),
        ("The?", ""),
    ],
)
def test_normalises_as_squad(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "contained", "substring", "f1"),
    [
        ("Butler", ["Samuel Butler", "butler"], 1, 1, 1, 1),
        ("the author is Samuel Butler.", ["Samuel Butler"], 0, 1, 1, 2 * 2 / (4 + 2)),
        ("music", ["US"], 0, 0, 1, 0),  # the published rule finds "us" in "music"
        ("It was in Rome, Italy", ["rome italy"], 0, 1, 0, 2 * 2 / (5 + 2)),
        ("butler samuel", ["Samuel Butler"], 0, 0, 0, 1),
        ("", ["x"], 0, 0, 0, 0),
        ("the", ["The"], 0, 0, 1, 0),  # nothing is left of the answer: never a match
        ("anything", ["?", ""], 0, 0, 0, 0),
        ("anything", [], 0, 0, 0, 0),
    ],
)
def test_match_rules(prediction, answers, exact, contained, substring, f1):
    assert exact_match(prediction, answers) == exact
    assert contains(prediction, answers) == contained
    assert popqa_substring(prediction, answers) == substring
    assert token_f1(prediction, answers) == pytest.approx(f1)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["abcd", "the"]), max_size=6).map(" ".join), st.text(max_size=9))
def test_rules_are_nested(prediction, answer):
    exact, contained = exact_match(prediction, [answer]), contains(prediction, [answer])
    assert exact <= contained
    assert exact <= token_f1(prediction, [answer]) <= 1


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("the city of Paris", "City of Paris.", 1),
        ("Paris", "Lyon", 0),
        ("", " ", 1),
        ("?", "?", 1),
        ("?", "!", 0),  # nothing is left of either, so they count as they are
        ("", "?", 0),
    ],
)
def test_same_answer(a, b, same):
    assert same_answer(a, b) == same_answer(b, a) == same


def test_entropy_by_hand():
    # bigrams ab ba ab bc: 1/2, 1/4, 1/4; trigrams aba bab abc: 1/3 each
    tokens = list("ababc")
    assert ngram_entropy(tokens, 2) == pytest.approx(1.5)
    assert ngram_entropy(tokens, 3) == pytest.approx(math.log2(3))
    expected = (2 / 3 * 1.5 + 4 / 3 * math.log2(3)) / 2
    assert generation_entropy("a b a b c") == pytest.approx(expected)
    # a sign is a token of its own, so that "a." has two
    assert generation_entropy("a b a b .") == pytest.approx(expected)
    for repeated in ("", "one", "no no no no"):
        assert generation_entropy(repeated) == 0


def test_entropy_of_a_text_equals_scipys():
    words = "to be or not to be that is the question to be asked is to be".split()
    found = []
    for n in (2, 3):
        counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        found.append(stats.entropy(list(counts.values()), base=2))
        assert ngram_entropy(words, n) == pytest.approx(found[-1])
    # ROME's code: the mean of the entropies times their weights
    expected = np.mean(np.array(found) * [2 / 3, 4 / 3])
    assert generation_entropy(" ".join(words)) == pytest.approx(expected)


def test_tfidf_equals_scikit_learns():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    corpus = ["Rome is the capital of Italy.", "The capital of Peru is Lima", "Llamas eat grass"]
    texts = ["Is Lima in Peru? I say Lima.", "a b c", "nothing known here", "The capital, Rome!"]
    references = [corpus[1], corpus[0], corpus[2], corpus[2]]
    vectors = text.TfidfVectorizer().fit(corpus)
    a, b = (vectors.transform(some).toarray() for some in (texts, references))
    expected = (a * b).sum(axis=1)
    assert expected[0] > 0.5
    assert tfidf_cosines(texts, references, corpus) == pytest.approx(expected)
    assert tfidf_cosines(corpus, corpus, corpus) == pytest.approx([1, 1, 1])
    assert tfidf_cosines(["x"], [""], []) == [0]


def test_harmonic_mean_is_that_of_the_standard_library():
    assert harmonic_mean([1.0, 0.964, 0.754]) == pytest.approx(
        statistics.harmonic_mean([1.0, 0.964, 0.754])
    )
    assert harmonic_mean([[0.5, 1.0], [0.0, 1.0]]) == pytest.approx([2 / 3, 0])


def test_gap_closed():
    # davinci-003 with Contriever: 34 closed book, 41 always, 51 oracle, 46.5 adaptive
    assert oracle_gap_closed(0.465, 0.34, 0.41, 0.51) == pytest.approx(0.55)
    assert oracle_gap_closed(0.30, 0.34, 0.41, 0.51) < 0
    assert oracle_gap_closed(0.41, 0.34, 0.41, 0.41) is None


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (7, 20), (431, 1000)])
def test_wilson_equals_scipy(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    values = [1.0] * right + [0.0] * (n - right)
    assert wilson_interval(values) == pytest.approx((expected.low, expected.high), abs=1e-12)
    # groups of one are no groups
    assert wilson_interval(values, range(n)) == pytest.approx(wilson_interval(values), abs=1e-12)


def test_wilson_of_copies_is_that_of_the_originals():
    originals = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    copies = [value for value in originals for _ in range(5)]
    groups = [number for number in range(len(originals)) for _ in range(5)]
    # First the trivial case: without groups five copies look like five times the evidence.
    assert wilson_interval(copies) != pytest.approx(wilson_interval(originals), abs=1e-3)
    assert wilson_interval(copies, groups) == pytest.approx(wilson_interval(originals))
    all_right, groups = [1.0] * 10, [0] * 5 + [1] * 5
    assert wilson_interval(all_right, groups) == pytest.approx(wilson_interval([1.0, 1.0]))
    # one group says nothing of the spread between groups: as wide as one value
    alone = wilson_interval([1.0, 0.0, 1.0, 0.0], [0] * 4)
    assert alone[1] - alone[0] > 0.75


def test_bootstrap_equals_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.binomial(1, 0.5, 400), rng.binomial(1, 0.42, 400)
    ours = paired_bootstrap(a, b)
    theirs = stats.bootstrap(
        (a - b,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(2)
    )
    assert ours.value == pytest.approx(np.mean(a - b))
    interval = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=0.006)


def test_bootstrap_of_groups_equals_a_plain_loop():
    rng = np.random.default_rng(3)
    groups = [g for g in range(40) for _ in range(1 + g % 4)]
    effect = rng.normal(0.1, 0.5, 40)
    a = np.array([effect[g] for g in groups])
    b = np.zeros(len(a))
    members = [np.flatnonzero(np.array(groups) == g) for g in range(40)]
    means = []
    for _ in range(4000):
        rows = np.concatenate([members[g] for g in rng.integers(0, 40, 40)])
        means.append((a[rows] - b[rows]).mean())
    ours = paired_bootstrap(a, b, groups)
    assert (ours.low, ours.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
    # questions of one subject are no independent evidence
    alone = paired_bootstrap(a, b)
    assert ours.high - ours.low > alone.high - alone.low


def test_bootstrap_p_value():
    same = [0.0, 1.0, 1.0, 0.0] * 20
    assert paired_bootstrap(same, same).p == 1
    better = paired_bootstrap(np.ones(80), same)
    assert (better.value, better.p) == (0.5, pytest.approx(2 / 10_001))
    assert better.low > 0
    # 30 wins and 20 losses: a resample is at most 0 if it draws at most 25 wins out of 50
    a, b = [1.0] * 30 + [0.0] * 20, [0.0] * 30 + [1.0] * 20
    assert paired_bootstrap(a, b).p == pytest.approx(2 * stats.binom.cdf(25, 50, 0.6), abs=0.01)
    assert paired_bootstrap(a, b, seed=1) == paired_bootstrap(a, b, seed=1)


def test_bootstrap_means_equal_a_plain_loop():
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.binomial(1, 0.3, 200), rng.normal(0, 1, 200)]).astype(float)
    rows[::2, 1] = np.nan  # every second case has no value there
    ours = bootstrap_means(rows, resamples=4000)
    loop = np.array([np.nanmean(rows[rng.integers(0, 200, 200)], axis=0) for _ in range(4000)])
    assert ours.shape == (4000, 2)
    quantiles = [0.025, 0.5, 0.975]
    assert np.quantile(ours, quantiles, axis=0) == pytest.approx(
        np.quantile(loop, quantiles, axis=0), abs=0.02
    )
    assert (bootstrap_means(rows, seed=1) == bootstrap_means(rows, seed=1)).all()
    # one resample serves all columns
    twice = bootstrap_means(rows[:, [0, 0]])
    assert (twice[:, 0] == twice[:, 1]).all()
    assert twice[:, 0].std() > 0


def test_bootstrap_means_of_a_rare_value():
    rows = np.array([[1.0]] + [[np.nan]] * 9)
    drawn = bootstrap_means(rows, resamples=500)
    assert np.isnan(drawn).mean() == pytest.approx(0.9**10, abs=0.06)
    assert (drawn[~np.isnan(drawn)] == 1).all()


def test_bad_input_names_the_value():
    with pytest.raises(BadInput, match="no values"):
        wilson_interval([])
    with pytest.raises(BadInput, match="no cases"):
        bootstrap_means(np.empty((0, 2)))
    with pytest.raises(BadInput, match=r"1\.5.*\[0, 1\]"):
        wilson_interval([0.5, 1.5])
    with pytest.raises(BadInput, match="nan"):
        wilson_interval([0.5, float("nan")])
    with pytest.raises(BadInput, match="2 values but 1 groups"):
        wilson_interval([0.5, 1.0], ["x"])
    with pytest.raises(BadInput, match="2 values against 1"):
        paired_bootstrap([1, 0], [1])


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ((7, 8, 1), (7, 8, 1), 1.0),
        ((7, 1), (8, 1), 0.5),  # the end token alone is right
        ((7, 8, 1), (9, 5, 1), 1 / 3),  # the floor
        ((8, 7, 1), (7, 8, 1), 1.0),  # in any order
        ((7, 7, 7, 1), (7, 1), 2 * 2 / 6),  # repeats count once, and lengthen
        ((7,), (8,), 0.0),
        ((), (8,), 0.0),
    ],
)
def test_the_f1_of_the_grace_code(prediction, target, expected):
    shared = len(set(prediction) & set(target))
    if shared:
        precision, recall = shared / len(prediction), shared / len(target)
        assert 2 * precision * recall / (precision + recall) == pytest.approx(expected)
    assert grace_f1(prediction, target) == pytest.approx(expected)
