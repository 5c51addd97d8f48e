"""The published prompts, letter by letter, and what makes them ours."""

from __future__ import annotations

import collections

import pytest

from memkit import BadInput, Hit, Passage, Question, protocols
from memkit.benchmarks import load
from memkit.benchmarks.popqa import RELATIONS
from memkit.protocols.mallen import (
    MATCHED,
    PUBLISHED,
    clipped,
    matched,
    published,
    published_shots,
)
from memkit.routing.popularity import PopularityRouter
from memkit.testing.models import tiny_lm


def questions(relations=4, each=5):
    return [
        Question(
            f"What is the r{r} of s{r}-{n}?",
            answers=(f"a{r}-{n}", "alias"),
            subject=f"s{r}-{n}",
            relation=f"r{r}",
            popularity=float(10**n),
            id=f"{r}-{n}",
        )
        for r in range(relations)
        for n in range(each)
    ]


class Store:
    def search(self, queries, k=10):
        assert k == 1
        return [[Hit(Passage("p", f"About {query}"), 1.0, 1)] for query in queries]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("gpt2", n_positions=1024)


def test_one_shot_from_each_other_relation(lm):
    asked = questions()
    arms = published(lm, asked, Store(), shots=3)
    for bare, fed in zip(arms["closed book"], arms["retrieval"], strict=True):
        *shots, own = bare.prompt.text.split("\n\n")
        assert own == f"Q: {bare.question.text} A:"
        lines = {f"Q: {q.text} A: {q.answers[0]}": q.relation for q in asked}
        drawn = [lines[shot] for shot in shots]
        others = {q.relation for q in asked} - {bare.question.relation}
        assert sorted(drawn) == sorted(others)
        # the retrieval arm: the same shots, without passages, and then the top one
        assert fed.prompt.text == "\n\n".join([*shots, f"About {own[3:-3]}", own])
        assert fed.decision.source == "retrieval"
    orders = {tuple(a.prompt.text.split("\n\n")[:3]) for a in arms["closed book"]}
    assert len(orders) > 10  # drawn and shuffled anew for each question


def test_shots_depend_on_seed_and_question_alone():
    asked = questions()
    one, other = published_shots(asked, 3), published_shots(asked, 3, seed=1)
    again = published_shots(asked, 3)
    backwards = [again(q) for q in reversed(asked)][::-1]
    assert [one(q) for q in asked] == backwards
    assert [one(q) for q in asked] != [other(q) for q in asked]
    assert len(published_shots(asked, 7)(asked[0]).shots) == 6  # two from each of three
    assert published_shots(asked, 0)(asked[0]).shots == ()


def test_shots_of_a_sample_come_from_the_whole_pool(lm):
    everything = questions()
    asked = everything[:1]
    (answer,) = published(lm, asked, Store(), pool=everything, shots=3)["closed book"]
    *shots, own = answer.prompt.text.split("\n\n")
    assert own == f"Q: {asked[0].text} A:"
    assert sorted(shot.split()[4] for shot in shots) == ["r1", "r2", "r3"]
    with pytest.raises(BadInput, match="3 shots from 0 other relations"):
        published(lm, asked, Store(), shots=3)


def test_15_shots_of_popqas_15_other_relations(shared):
    bench = load("popqa", shared / "data" / "popqa" / "neuropath" / "popqa.json")
    for question in bench.questions:  # upstream's templates by relation
        assert question.text == RELATIONS[question.relation][0].replace("{}", question.subject)
    template = published_shots(bench.questions)
    objects = {fact.id: fact.target for fact in bench.facts}
    assert all(q.answers[0] == objects[q.id] for q in bench.questions)
    counts = collections.Counter(len(template(q).shots) for q in bench.questions)
    relations = len({q.relation for q in bench.questions})
    assert counts == {15 // (relations - 1) * (relations - 1): len(bench.questions)}


def test_matched_shots_are_the_same_everywhere_and_never_asked(lm):
    everything = questions(each=8)
    asked, pool = everything[::2], everything
    arms = matched(lm, asked, Store(), pool=pool, shots=6)
    heads = {tuple(a.prompt.text.split("\n\n")[:6]) for arm in arms.values() for a in arm}
    (shots,) = heads
    texts = {q.text for q in asked}
    assert not any(text in shot for shot in shots for text in texts)
    lines = {f"Q: {q.text} A: {q.answers[0]}": q.relation for q in everything}
    counts = collections.Counter(lines[shot] for shot in shots)
    assert sorted(counts.values()) == [1, 1, 2, 2]  # from the relations in turn
    with pytest.raises(BadInput, match="the pool has 16 questions"):
        matched(lm, asked, Store(), pool=pool, shots=17)


def test_arms_are_scored_as_published_and_as_ours(lm):
    asked = questions(each=6)
    given = [[Passage(q.id, f"It is {q.answers[0]}."), Passage("x", "y")] for q in asked]
    arms = published(lm, asked, given=given, shots=3)
    assert all(len(a.hits) == 1 for a in arms["retrieval"])
    report = protocols.popularity(arms, **PUBLISHED)
    assert report.metric == "popqa_substring"
    assert "rule='binned'" in report.router
    ours = protocols.popularity(arms, **MATCHED)
    assert ours.metric == "contains"
    assert set(ours.rows[0].beside) == {"EM", "contains", "F1", "popqa-substring"}
    estimate = PopularityRouter(rule="binned", edges_from="all").fit(
        protocols.outcomes(arms["closed book"], arms["retrieval"], PUBLISHED["metric"])
    )
    assert estimate.estimate_.questions == sum(6 - int(0.75 * 6) for _ in range(4))


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One. Two. And thr", "One. Two."),
        ("One. Two.", "One."),  # the last ". ", as upstream: a full stop at the end is no such
        ("No stop", "."),
    ],
)
def test_clips_as_upstream(text, cut):
    assert clipped(Passage("p", text, "t")) == Passage("p", cut, "t")


def test_refuses(lm):
    asked = questions()
    with pytest.raises(BadInput, match="neither a retriever nor passages"):
        published(lm, asked, shots=3)
    with pytest.raises(BadInput, match="2 shots from 3 other relations are 0 from each"):
        published(lm, asked, Store(), shots=2)
    with pytest.raises(BadInput, match="3 shots from 0 other relations"):
        published(lm, asked[:5], Store(), shots=3)
    with pytest.raises(BadInput, match=r"'Who\?' has no relation"):
        published(lm, [*asked, Question("Who?", answers=("x",))], Store(), shots=3)
