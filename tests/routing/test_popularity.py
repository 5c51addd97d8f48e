from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memkit.errors import BadInput
from memkit.routing.base import Outcome
from memkit.routing.popularity import PopularityRouter
from memkit.routing.table import PopularityTable
from memkit.testing.router import TrainableRouterContract
from memkit.types import Passage, Question


def outcome(popularity, weights, retrieval, relation="author", subject=None):
    question = Question(
        f"{relation} of {subject or popularity}?",
        subject=subject,
        relation=relation,
        popularity=popularity,
    )
    return Outcome(question, weights, retrieval)


def random_outcomes(n, relations=("author", "capital", None), seed=0, fractional=False):
    """Outcomes in which the weights do better the more popular the subject, as in PopQA."""
    rng = np.random.default_rng(seed)
    views = np.floor(np.exp(rng.normal(6, 3, n)))  # with ties, and some zeros
    known = 1 / (1 + np.exp(6 - np.log1p(views)))
    draw = (lambda p: rng.beta(1 + 4 * p, 5 - 4 * p)) if fractional else rng.binomial
    return [
        outcome(
            float(v),
            float(draw(k) if fractional else draw(1, k)),
            float(draw(0.5) if fractional else draw(1, 0.5)),
            relations[i % len(relations)],
        )
        for i, (v, k) in enumerate(zip(views, known, strict=True))
    ]


@pytest.fixture
def router_at_100():
    rows = [(10, 0, 1), (50, 0, 1), (100, 1, 0), (1000, 1, 0)]
    return PopularityRouter().fit([outcome(*row) for row in rows])


class TestExact(TrainableRouterContract):
    @pytest.fixture
    def untrained(self):
        return PopularityRouter(splits=3)


class TestBinned(TrainableRouterContract):
    @pytest.fixture
    def untrained(self):
        return PopularityRouter(rule="binned", bins=6, splits=0, seed=3)


class TestTable(TrainableRouterContract):
    """Popularity comes from the table, for questions that bring none."""

    @pytest.fixture
    def untrained(self, outcomes):
        return PopularityRouter(PopularityTable.from_questions(o.question for o in outcomes))

    @pytest.fixture
    def questions(self, outcomes):
        return [Question(f"Who wrote entity {n}?", relation="author") for n in range(15)]

    def test_representation_makes_an_equal_router(self, router):
        assert "<PopularityTable: 12 titles" in repr(router)  # a table is data, not a parameter


# --- decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("popularity", "source"),
    [
        (99, "retrieval"),  # below the threshold: rare, fetch it
        (100, "weights"),  # at the threshold: the weights, as the docstring says
        (101, "weights"),
        (0, "retrieval"),  # a count of zero is known, and rare
        (None, "retrieval"),  # unknown is treated as rare, never as popular
    ],
)
def test_decides_at_the_edges(router_at_100, popularity, source):
    question = Question("Who wrote Erewhon?", relation="author", popularity=popularity)
    decision = router_at_100.decide(question)
    assert (decision.source, decision.score, decision.threshold) == (source, popularity, 100)


@pytest.mark.parametrize("popularity", [-1, float("nan")])
def test_refuses_what_is_not_a_count(popularity):
    with pytest.raises(BadInput, match=f"popularity.*{popularity}.*Erewhon"):
        Question("Who wrote Erewhon?", popularity=popularity)


def test_known_zero_differs_from_unknown():
    # where the weights always do better the threshold is 0: nothing known is below it
    router = PopularityRouter().fit([outcome(0, 1, 0), outcome(9, 1, 0)])
    assert router.thresholds_ == {"author": 0}
    zero = Question("Who wrote Erewhon?", relation="author", popularity=0)
    unknown = Question("Who wrote Erewhon?", relation="author")
    assert router.decide(zero).source == "weights"
    assert router.decide(unknown).source == "retrieval"


@pytest.mark.parametrize("rule", ["exact", "binned"])
def test_always_and_never_hold_for_every_popularity(rule):
    always = PopularityRouter(rule=rule).fit([outcome(5, 0, 1), outcome(9, 0, 1)])
    never = PopularityRouter(rule=rule).fit([outcome(5, 1, 0), outcome(9, 1, 0)])
    for views in (0, 1, 5, 9, 1e9):
        question = Question("Who?", relation="author", popularity=views)
        assert always.decide(question).source == "retrieval"
        assert never.decide(question).source == "weights"


@pytest.mark.parametrize(
    ("relation", "popularity", "reason"),
    [
        ("author", 42, "42 < 100 for relation author"),
        ("author", 1629691, "1629691 >= 100 for relation author"),
        (None, 42, "42 < 100 over all relations"),
        ("mother", 42, "42 < 100 over all relations (mother is unseen)"),
        ("author", None, "popularity unknown, treated as rare: no popularity table"),
    ],
)
def test_says_why(router_at_100, relation, popularity, reason):
    question = Question("Who wrote Erewhon?", relation=relation, popularity=popularity)
    assert router_at_100.decide(question).reason == reason


@pytest.mark.parametrize(
    ("text", "source", "score", "reason"),
    [
        ("Who wrote Erewhon?", "retrieval", 42, "42 < 100 .*page views of 'Erewhon' by title"),
        ("Who wrote HP1?", "weights", 900, "900 >= 100 .*page views of 'Harry Potter' by alias"),
        ("Who wrote Utopia?", "weights", 471, "471 >= 100 .*page views of 'Utopia' by corpus"),
        ("Who wrote Hard Times?", "retrieval", None, "unknown.*no known entity in the question"),
    ],
)
def test_popularity_by_the_chain(router_at_100, text, source, score, reason):
    passages = [
        Passage("1", "A book that is read.", title="Utopia"),
        Passage("2", "Erewhon and Harry Potter are books."),
    ]
    table = PopularityTable({"Erewhon": 42, "Harry Potter": 900}, {"HP1": "Harry Potter"})
    router_at_100.popularity = table.with_corpus(passages)
    decision = router_at_100.decide(Question(text, relation="author"))
    assert (decision.source, decision.score) == (source, score)
    assert re.search(reason, decision.reason)
    # a popularity that the question brings comes first, and a subject without any stays unknown
    own = Question(text, relation="author", popularity=7)
    assert router_at_100.decide(own).score == 7
    nobody = Question("Who wrote Erewhon?", relation="author", subject="Nobody")
    assert router_at_100.decide(nobody).reason == (
        "popularity unknown, treated as rare: "
        "'Nobody' has no page views, alias or mention in the corpus"
    )


# --- thresholds -----------------------------------------------------------------------------------


def best_by_hand(outcomes, candidates):
    """Every candidate tried by a loop over all outcomes; the first of the best."""

    def right(threshold):
        return sum(
            o.retrieval if o.question.popularity < threshold else o.weights for o in outcomes
        )

    scores = [round(right(threshold), 9) for threshold in candidates]
    return candidates[scores.index(max(scores))]


@pytest.mark.parametrize("fractional", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_exact_threshold_is_the_best_there_is(seed, fractional):
    outcomes = random_outcomes(90, seed=seed, fractional=fractional)
    router = PopularityRouter(splits=0).fit(outcomes)
    for relation in ("author", "capital"):
        own = [o for o in outcomes if o.question.relation == relation]
        values = sorted({o.question.popularity for o in own})
        expected = best_by_hand(own, [0, *values, math.inf])
        assert router.thresholds_[relation] == expected
    values = sorted({o.question.popularity for o in outcomes})
    assert router.global_threshold_ == best_by_hand(outcomes, [0, *values, math.inf])
    assert set(router.thresholds_) == {"author", "capital"}


def papers_candidate(train, edges_of, bins=10):
    """benchmarks of Mallen et al., transcribed: hybrid(i), its argmax, and the edges in ln views.

    hybrid(i) = [ sum over bins b < i of retrieval-correct
                + sum over bins b >= i of parametric-correct ] / n
    """
    logs = [math.log(o.question.popularity) for o in edges_of if o.question.popularity > 0]
    low, high = min(logs), max(logs)
    width = (high - low) / bins

    def bin_of(outcome):
        views = outcome.question.popularity
        if views == 0:
            return 0  # the guard: upstream's log gives -inf
        return min(max(int((math.log(views) - low) / width), 0), bins - 1)

    hybrid = []
    for i in range(bins + 1):
        retrieved = sum(o.retrieval for o in train if bin_of(o) < i)
        parametric = sum(o.weights for o in train if bin_of(o) >= i)
        hybrid.append((retrieved + parametric) / len(train))
    best = hybrid.index(max(hybrid))
    return best, bin_of, low + best * width


@pytest.mark.parametrize("seed", range(8))
def test_binned_rule_is_the_papers(seed):
    outcomes = random_outcomes(150, relations=("author",), seed=seed)
    assert any(o.question.popularity == 0 for o in random_outcomes(150))
    router = PopularityRouter(rule="binned", splits=0).fit(outcomes)
    best, bin_of, edge = papers_candidate(outcomes, outcomes)
    expected = {0: 0.0, 10: math.inf}.get(best, math.exp(edge))
    assert router.thresholds_["author"] == pytest.approx(expected)
    for o in outcomes:
        routed = router.decide(o.question).source
        assert routed == ("retrieval" if bin_of(o) < best else "weights")


OUTCOMES = st.tuples(st.integers(0, 9), st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1]))


@settings(deadline=None)
@given(st.lists(OUTCOMES, min_size=1, max_size=25))
def test_where_it_was_fitted_no_rule_loses_and_exact_is_best(rows):
    outcomes = [outcome(*row) for row in rows]

    def right(rule):
        router = PopularityRouter(rule=rule, splits=0).fit(outcomes)
        routed = [(o, router.decide(o.question).source) for o in outcomes]
        return sum(getattr(o, source) for o, source in routed)

    constants = [sum(row[1] for row in rows), sum(row[2] for row in rows)]
    assert right("exact") >= right("binned") >= max(constants)


@pytest.mark.parametrize("rule", ["exact", "binned"])
def test_of_equal_candidates_the_lowest_is_taken(rule):
    same = [outcome(views, 1, 1) for views in (1, 10, 100)]
    assert PopularityRouter(rule=rule).fit(same).thresholds_ == {"author": 0}
    # 20 and 30 give the same accuracy as each other: from 10 on, nothing changes
    flat = [outcome(5, 0, 1), outcome(10, 0, 0), outcome(20, 1, 1), outcome(30, 1, 1)]
    assert PopularityRouter().fit(flat).thresholds_ == {"author": 10}


@pytest.mark.parametrize("rule", ["exact", "binned"])
@pytest.mark.parametrize("views", [0, 7])
def test_one_value_for_all(rule, views):
    router = PopularityRouter(rule=rule).fit([outcome(views, 0, 1)] * 3 + [outcome(views, 1, 0)])
    assert router.thresholds_ == {"author": math.inf}


# --- the out-of-sample estimate -------------------------------------------------------------------


@pytest.mark.parametrize("edges_from", ["train", "all"])
def test_estimate_is_the_papers(edges_from):
    """The whole protocol by loops, on the same random splits."""
    outcomes = random_outcomes(200, relations=("author", "capital"), seed=4)
    router = PopularityRouter(rule="binned", edges_from=edges_from, splits=20, seed=9)
    estimate = router.fit(outcomes).estimate_
    rng = np.random.default_rng(9)
    rows = {r: [o for o in outcomes if o.question.relation == r] for r in ("author", "capital")}
    accuracies, rates = [], []
    for _ in range(20):
        right = retrieved = tested = 0.0
        for own in rows.values():
            mixed = [own[i] for i in rng.permutation(len(own))]
            cut = int(0.75 * len(own))
            train, test = mixed[:cut], mixed[cut:]
            best, bin_of, _ = papers_candidate(train, own if edges_from == "all" else train)
            for o in test:
                routed = bin_of(o) < best
                right += o.retrieval if routed else o.weights
                retrieved += routed
                tested += 1
        accuracies.append(right / tested)
        rates.append(retrieved / tested)
    assert estimate.questions == 50
    assert estimate.accuracy == pytest.approx(np.mean(accuracies))
    assert estimate.deviation == pytest.approx(np.std(accuracies))
    assert estimate.retrieval_rate == pytest.approx(np.mean(rates))


def test_estimate_is_out_of_sample():
    """On coin flips the best threshold looks better than chance in sample, and is not."""
    rng = np.random.default_rng(0)
    flips = [outcome(v, float(rng.random() < 0.5), float(rng.random() < 0.5)) for v in range(200)]
    router = PopularityRouter().fit(flips)
    fitted = np.mean(
        [
            o.retrieval if router.decide(o.question).source == "retrieval" else o.weights
            for o in flips
        ]
    )
    assert fitted > router.estimate_.accuracy + 0.02
    never, always = (np.mean([getattr(o, arm) for o in flips]) for arm in ("weights", "retrieval"))
    assert fitted >= max(never, always)


def test_questions_without_relation_are_estimated_by_the_global_threshold():
    rows = [outcome(v, float(v >= 50), float(v < 50), r) for v in range(100) for r in ("a", None)]
    estimate = PopularityRouter(splits=10).fit(rows).estimate_
    assert estimate.questions == 50
    assert estimate.accuracy == pytest.approx(1, abs=0.05)
    assert PopularityRouter(splits=0).fit(rows).estimate_ is None
    assert PopularityRouter().fit([outcome(5, 0, 1)]).estimate_ is None  # no question to spare


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"popularity": {"Erewhon": 42}}, r"popularity is \{'Erewhon': 42\}.*PopularityTable"),
        ({"rule": "median"}, "rule is 'median'.*'exact' or 'binned'"),
        ({"bins": 0}, "bins is 0.*at least 1"),
        ({"scope": "all"}, "scope is 'all'.*'relation' or 'global'"),
        ({"edges_from": "test"}, "edges_from is 'test'"),
        ({"splits": -1}, "splits is -1"),
        ({"train_share": 1.0}, "train_share is 1.0"),
    ],
)
def test_refuses_hyper_parameters(arguments, message):
    with pytest.raises(BadInput, match=message):
        PopularityRouter(**arguments)


def test_a_refused_fit_leaves_the_router_as_it_was(router_at_100):
    for outcomes, message in (
        ([], "got no outcomes"),
        ([outcome(None, 0, 1)], "none of 1 outcomes has a known popularity"),
        ([outcome(1, 0, 1), outcome(7, 0, float("nan"))], r"author of 7.*nan.*\[0, 1\]"),
        ([outcome(7, 2, 0)], r"'author of 7\?' is 2 from weights"),
    ):
        with pytest.raises(BadInput, match=message):
            router_at_100.fit(outcomes)
        assert router_at_100.thresholds_ == {"author": 100}


def test_outcomes_of_unknown_popularity_are_left_out():
    known = [outcome(10, 0, 1), outcome(100, 1, 0)]
    unknown = [outcome(None, 1, 0)] * 5
    assert PopularityRouter().fit(known + unknown).thresholds_ == {"author": 100}
    # a table makes them known
    named = [outcome(None, 1, 0, subject="Erewhon")] * 5
    router = PopularityRouter(PopularityTable({"Erewhon": 3})).fit(known + named)
    assert router.thresholds_ == {"author": 0}


# --- scope and units ------------------------------------------------------------------------------


def test_a_global_scope_has_one_threshold():
    outcomes = random_outcomes(120, seed=1)
    router = PopularityRouter(scope="global", splits=5).fit(outcomes)
    assert router.thresholds_ == {}
    assert router.global_threshold_ == PopularityRouter(splits=0).fit(outcomes).global_threshold_
    for o in outcomes:
        assert router.decide(o.question).threshold == router.global_threshold_
    assert router.estimate_.questions == 30


def test_refuses_logarithms_of_popularity():
    views = [outcome(float(v), 1, 0) for v in range(2, 42)]
    PopularityRouter().fit(views)  # small counts are fine
    logs = [outcome(math.log(v), 1, 0) for v in range(2, 42)]
    with pytest.raises(BadInput, match="as logarithms are; allowed: monthly page views"):
        PopularityRouter().fit(logs)


@pytest.mark.parametrize(("factor", "fine"), [(1, True), (3, True), (12, False), (1 / 30, False)])
def test_refuses_another_unit_than_the_tables(factor, fine):
    table = PopularityTable({f"entity {n}": 100.0 * n for n in range(1, 40)})
    rows = [outcome(100.0 * n * factor, 1, 0, subject=f"entity {n}") for n in range(1, 40)]
    router = PopularityRouter(table, splits=0)
    if fine:
        router.fit(rows)
    else:
        with pytest.raises(BadInput, match=f"{factor:.3g} times .median. that of the Popularity"):
            router.fit(rows)
