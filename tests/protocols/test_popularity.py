"""The report against loops over the same answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from memkit import protocols
from memkit.errors import BadInput
from memkit.metrics import contains, wilson_interval
from memkit.protocols.popularity import ORACLE, RANDOM, ROUTER
from memkit.routing.popularity import PopularityRouter
from memkit.types import Answer, Decision, Prompt, Question


def answered(question, right, source, tokens, seconds):
    text = question.answers[0] if right else "no idea"
    return Answer(
        text, question, Decision(source), (), (), Prompt("p", tokens), logprob=-1.0, seconds=seconds
    )


def arms(seed=0, subjects=60, chance=False):
    """Weights that know popular subjects, text that helps everywhere alike; two relations each."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(subjects):
        views = float(2 ** (number // 3))  # three subjects share each popularity
        for relation in ("author", "capital"):
            question = Question(
                f"{relation} of subject {number}?",
                answers=(f"answer {number}",),
                subject=f"subject {number}",
                relation=relation,
                popularity=views,
            )
            known = 0.5 if chance else number / subjects
            rows.append((question, rng.random() < known, rng.random() < 0.5))
    return {
        "closed book": [answered(q, p, "weights", 10, 0.01) for q, p, _ in rows],
        "BM25": [answered(q, r, "retrieval", 100, 0.03) for q, _, r in rows],
        "gold passage": [answered(q, True, "retrieval", 90, 0.02) for q, _, _ in rows],
    }


def report_of(given, **options):
    return protocols.popularity(given, weights="closed book", retrieval="BM25", **options)


@pytest.fixture(scope="module")
def given():
    return arms()


@pytest.fixture(scope="module")
def report(given):
    return report_of(given)


def right(answers):
    return np.array([float(a.text == a.question.answers[0]) for a in answers])


def test_rows_are_arms_then_mixtures(report, given):
    assert [row.name for row in report.rows] == [*given, ROUTER, RANDOM, ORACLE]
    for name, answers in given.items():
        cell = report.row(name).overall
        assert cell.accuracy == pytest.approx(right(answers).mean())
        subjects = [a.question.subject for a in answers]
        assert (cell.low, cell.high) == wilson_interval(right(answers), subjects)
        assert cell.retrieval_rate == float(name != "closed book")
        assert cell.tokens == answers[0].prompt.tokens
        assert cell.milliseconds == pytest.approx(1000 * answers[0].seconds)
    assert (report.questions, report.subjects, report.unknown) == (120, 60, 0)
    assert report.relations == {"author": 60, "capital": 60}
    assert report.metric == "exact_match"


def test_oracle_and_random(report, given):
    p, r = right(given["closed book"]), right(given["BM25"])
    oracle, rate = report.row(ORACLE).overall, report.row(ROUTER).overall.retrieval_rate
    assert oracle.accuracy == pytest.approx(np.maximum(p, r).mean())
    assert oracle.retrieval_rate == pytest.approx((r > p).mean())
    random = report.row(RANDOM).overall
    assert random.retrieval_rate == pytest.approx(rate)
    assert random.accuracy == pytest.approx(rate * r.mean() + (1 - rate) * p.mean())
    assert random.tokens == pytest.approx(rate * 100 + (1 - rate) * 10)
    # drawn many times, random routes at that rate come out there
    rng = np.random.default_rng(0)
    drawn = [np.where(rng.random(120) < rate, r, p).mean() for _ in range(2000)]
    assert random.accuracy == pytest.approx(np.mean(drawn), abs=0.005)


def test_router_pays_and_its_routes_add_up(report, given):
    p, r = right(given["closed book"]), right(given["BM25"])
    routes, routed = report.routes, report.row(ROUTER).overall
    assert 0 < routed.retrieval_rate < 1
    retrieved = routes.helped + routes.hurt + routes.same
    assert retrieved == pytest.approx(routed.retrieval_rate * 120)
    assert retrieved + routes.missed + routes.fine == 120
    assert routed.accuracy == pytest.approx(p.mean() + (routes.helped - routes.hurt) / 120)
    assert routes.helped + routes.missed == (r > p).sum()
    best = max(p.mean(), r.mean())
    assert report.best == ("BM25" if r.mean() > p.mean() else "closed book")
    assert report.gain.value == pytest.approx(routed.accuracy - best)
    assert report.gain.low < report.gain.value < report.gain.high
    assert report.significant
    gap = (routed.accuracy - best) / (np.maximum(p, r).mean() - best)
    assert report.gap_closed == pytest.approx(gap)
    assert routed.tokens == pytest.approx(10 + 90 * routed.retrieval_rate)


class Memorised:
    """Knows every question that it was fitted on, and retrieves for all others."""

    def fit(self, outcomes):
        assert not hasattr(self, "known_")  # every fold starts from the router as it was given
        self.known_ = {o.question.subject for o in outcomes}
        return self

    def decide(self, question):
        return Decision("weights" if question.subject in self.known_ else "retrieval")


def test_no_router_decides_a_subject_it_was_fitted_on(given):
    router = Memorised()
    report = report_of(given, router=router, folds=7)
    assert report.row(ROUTER).overall.retrieval_rate == 1
    assert not hasattr(router, "known_")
    # the trivial case: fitted on all, it retrieves for none
    everything = protocols.outcomes(given["closed book"], given["BM25"])
    router.fit(everything)
    assert {router.decide(o.question).source for o in everything} == {"weights"}


def test_gain_on_coin_flips_is_seldom_significant():
    reports = [report_of(arms(seed, chance=True)) for seed in range(20)]
    assert sum(report.significant for report in reports) <= 2  # 1 % of 200 seeds
    assert np.mean([report.gain.value for report in reports]) < 0.01


def test_deciles_hold_whole_ties_and_are_nearly_equal(report, given):
    questions = [answer.question for answer in given["BM25"]]
    assert len(report.deciles) == 10
    assert [group.questions for group in report.deciles] == [12] * 10  # two values of six each
    for number, group in enumerate(report.deciles):
        assert (group.low, group.high) == (2.0 ** (2 * number), 2.0 ** (2 * number + 1))
        inside = [i for i, q in enumerate(questions) if group.low <= q.popularity <= group.high]
        cell = report.row("BM25").deciles[number]
        assert cell.accuracy == pytest.approx(right(given["BM25"])[inside].mean())
    # rare subjects are retrieved for, popular ones are not
    rates = [cell.retrieval_rate for cell in report.row(ROUTER).deciles]
    assert (rates[0], rates[-1]) == (1, 0)


def test_a_large_tie_leaves_neighbours_empty(given):
    def tied(answer):
        question = answer.question
        views = 1.0 if question.popularity < 2**10 else question.popularity  # half of them
        views = None if question.subject == "subject 59" else views
        changed = Question(question.text, question.answers, question.subject, None, views)
        return answered(changed, True, answer.decision.source, 1, 1)

    report = report_of({name: [tied(a) for a in answers] for name, answers in given.items()})
    sizes = [group.questions for group in report.deciles]
    assert sizes[:5] == [0, 0, 60, 0, 0]  # mid-rank 30 of 118
    assert sum(sizes) == 118
    assert report.unknown == 2
    assert report.row(ORACLE).deciles[0] is None
    assert (report.deciles[0].low, report.deciles[2].high) == (None, 1)
    assert report.relations == {}
    assert report.gap_closed is None  # both arms are always right: nothing to gain
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["gap_closed"] is None


def test_report_is_plain_data_and_reproducible(report, given):
    row = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert row["rows"][0]["relations"]["author"]["accuracy"] == pytest.approx(
        right(given["closed book"])[::2].mean()
    )
    assert row["router"] == repr(PopularityRouter(splits=0))
    assert report_of(given) == report
    assert report_of(given, seed=1).gain != report.gain


def test_another_metric_and_router(given):
    wordy = {
        name: [
            Answer(f"it is {a.text}", a.question, a.decision, (), (), a.prompt, -1.0, a.seconds)
            for a in answers
        ]
        for name, answers in given.items()
    }
    assert report_of(wordy).row("gold passage").overall.accuracy == 0
    report = report_of(wordy, metric=contains, router=PopularityRouter(rule="binned", splits=0))
    assert report.metric == "contains"
    assert report.row("gold passage").overall.accuracy == 1
    outcomes = protocols.outcomes(wordy["closed book"], wordy["BM25"], contains)
    assert [o.weights for o in outcomes] == right(given["closed book"]).tolist()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"weights": "vanilla"}, "'vanilla' is no arm.*'closed book', 'BM25'"),
        ({}, {"retrieval": "closed book"}, "both 'closed book'"),
        ({"oracle": []}, {}, "an arm is named 'oracle'"),
        ({"BM25": slice(0, 5)}, {}, "'BM25' has 5 answers, 'closed book' has 120"),
        ({"BM25": slice(None, None, -1)}, {}, "'BM25' answers 'capital of subject 59"),
        ({}, {"folds": 1}, "folds is 1 for 60 subjects"),
        ({}, {"folds": 61}, "folds is 61"),
        ({}, {"deciles": 0}, "deciles is 0"),
    ],
)
def test_bad_input(given, change, options, message):
    changed = given | {k: given[k][v] if isinstance(v, slice) else v for k, v in change.items()}
    with pytest.raises(BadInput, match=message):
        protocols.popularity(changed, **({"weights": "closed book", "retrieval": "BM25"} | options))


def test_refuses_what_cannot_be_scored(report):
    answer = answered(Question("Who?", answers=("x",)), True, "weights", 1, 1)
    unscored = Answer("x", Question("Who?"), Decision("weights"), (), (), Prompt("p", 1), 0.0, 1.0)
    with pytest.raises(BadInput, match=r"'Who\?' has no accepted answers"):
        protocols.outcomes([unscored], [unscored])
    with pytest.raises(BadInput, match="'weights' has no answers"):
        protocols.outcomes([], [])
    with pytest.raises(BadInput, match="'retrieval' has 0 answers"):
        protocols.outcomes([answer], [])
    with pytest.raises(BadInput, match=r"no row 'dense'.*'router'"):
        report.row("dense")


# --- what else is printed -------------------------------------------------------------------------


def test_comparisons_with_every_other_row(report, given):
    assert [c.other for c in report.comparisons] == [*given, RANDOM, ORACLE]
    by_name = {c.other: c for c in report.comparisons}
    assert by_name[report.best].difference == report.gain
    routed = report.row(ROUTER).overall.accuracy
    for name, compared in by_name.items():
        other = report.row(name).overall.accuracy
        assert compared.difference.value == pytest.approx(routed - other)
        assert (compared.mcnemar is None) == (name == RANDOM)  # an expectation is no 0 or 1
    assert by_name[ORACLE].difference.high <= 0
    assert by_name["closed book"].mcnemar < 0.05


def test_signal_and_thresholds(report, given):
    p, r = right(given["closed book"]), right(given["BM25"])
    views = np.array([a.question.popularity for a in given["BM25"]])
    signal = report.signal
    # popularity is the score of every fold's router, so the curve is that of popularity itself
    order = np.unique(views)
    rates = [0.0, *(np.mean(views <= v) for v in order)]
    accuracies = [np.where(views <= v, r, p).mean() for v in order]
    assert signal.curve.rates == pytest.approx(rates)
    assert signal.curve.accuracies == pytest.approx([p.mean(), *accuracies])
    assert 0 < signal.area < 1
    pairs = [(a > b) + (a == b) / 2 for a in views[p == 1] for b in views[p == 0]]
    assert signal.known == pytest.approx(np.mean(pairs))
    assert signal.flips > 0.7
    assert 0 <= signal.calibration_error < 0.3
    assert set(report.thresholds) == {"", "author", "capital"}
    for threshold in report.thresholds.values():
        assert threshold.low <= threshold.high
    fitted = PopularityRouter(splits=0).fit(protocols.outcomes(given["closed book"], given["BM25"]))
    for relation, value in fitted.thresholds_.items():
        assert report.thresholds[relation].value == value


def test_a_score_above_whose_threshold_text_is_fetched(given):
    """Entropy falls as popularity rises; the report does not care which way a score points."""
    from memkit.routing.entropy import EntropyRouter
    from memkit.routing.margin import MarginRouter

    margins = [float(np.log(a.question.popularity)) for a in given["BM25"]]
    signals = [{"margin": m, "entropy": 9 - m} for m in margins]
    up = report_of(given, router=MarginRouter(), signals=signals)
    down = report_of(given, router=EntropyRouter(), signals=signals)
    assert up.signal.known == pytest.approx(down.signal.known)
    assert up.signal.area == pytest.approx(down.signal.area)
    assert up.row(ROUTER).overall.accuracy == down.row(ROUTER).overall.accuracy
    low, high = down.thresholds[""].low, down.thresholds[""].high
    assert low <= high
    with pytest.raises(BadInput, match="needs the signal 'margin'"):
        report_of(given, router=MarginRouter())


def test_a_router_without_scores_has_no_signal(given):
    report = report_of(given, router=Memorised())
    assert report.signal is None
    assert report.thresholds == {}


def test_scores_of_several_units_are_no_signal(given):
    from memkit.routing.cascade import Cascade
    from memkit.routing.margin import MarginRouter

    signals = [{"margin": float(n % 7)} for n, _ in enumerate(given["BM25"])]
    cascade = Cascade((PopularityRouter(splits=0), MarginRouter()))
    report = report_of(given, router=cascade, signals=signals)
    assert report.signal is None
    assert 0 < report.row(ROUTER).overall.retrieval_rate < 1


def test_costs_have_median_and_95th_percentile(report, given):
    cell = report.row("BM25").overall
    assert (cell.tokens_p50, cell.tokens_p95) == (100, 100)
    routed = report.row(ROUTER).overall
    rate = routed.retrieval_rate
    assert routed.tokens_p50 == (100 if rate > 0.5 else 10)
    assert routed.tokens_p95 == 100
    assert report.row(RANDOM).overall.tokens_p95 == 100
    assert routed.milliseconds_p95 == pytest.approx(30)


def test_other_rules_beside(report, given):
    for name in given:
        row = report.row(name)
        assert row.beside["EM"] == pytest.approx(row.overall.accuracy)
        assert row.beside["contains"] >= row.beside["EM"]
        assert row.beside["F1"] >= row.beside["EM"]
    assert set(report.row(ORACLE).beside) == {"EM", "contains", "F1", "popqa-substring"}
    alone = report_of(given, beside={"EM": contains})
    assert set(alone.row(ROUTER).beside) == {"EM"}


def test_correlation_and_relative_popularity(report, given):
    p = right(given["closed book"])
    views = np.array([a.question.popularity for a in given["BM25"]])
    row = report.row("closed book")
    assert row.correlation == pytest.approx(np.corrcoef(np.log1p(views), p)[0, 1])
    assert row.correlations["author"] == pytest.approx(
        np.corrcoef(np.log1p(views[::2]), p[::2])[0, 1]
    )
    assert report.row("gold passage").correlation is None  # always right
    logs = np.log1p(views)
    share = (logs - logs.min()) / np.ptp(logs)  # both relations have the same subjects
    for number, cell in enumerate(row.relative):
        inside = (share >= number / 10) & (share < (number + 1) / 10 + (number == 9))
        assert cell.accuracy == pytest.approx(p[inside].mean())


def test_abstentions(given):
    class Shy(Memorised):
        """Answers popular subjects from the weights and says nothing about the others."""

        def decide(self, question):
            popular = question.popularity >= 2**15
            return Decision("weights" if popular else "abstain", question.popularity, 2.0**15)

    report = report_of(given, router=Shy())
    views = np.array([a.question.popularity for a in given["BM25"]])
    p, popular = right(given["closed book"]), views >= 2**15
    assert report.routes.abstained == (~popular).sum()
    assert sum(getattr(report.routes, f) for f in ("missed", "fine", "abstained")) == 120
    cell = report.row(ROUTER).overall
    assert cell.accuracy == pytest.approx((p * popular).mean())
    assert report.answered_error == pytest.approx(1 - p[popular].mean())
    assert cell.tokens == pytest.approx(10 * popular.mean())
