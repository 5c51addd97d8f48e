"""The four kinds of answers by hand, and the stale passage on the miniature world."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from memkit import Answer, BadInput, Decision, Fact, FineTune, Hit, Passage, Prompt, Question
from memkit.metrics import exact_match
from memkit.protocols import conflicts
from memkit.routing.cascade import Cascade
from memkit.routing.edits import EditScope
from memkit.showcase import fit_router, opened, sample

FACT = Fact("Erewhon", "{} was written by", "Ann Onym", previous="Samuel Butler", id="e")


def answered(text, *passages, question=None):
    hits = tuple(Hit(Passage(str(n), p), 1.0, n + 1) for n, p in enumerate(passages))
    question = question or Question("Who wrote Erewhon?", id="e")
    return Answer(text, question, Decision("weights"), hits, (), Prompt("p", 1), 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "passages", "winner"),
    [
        ("Ann Onym", (), "edited"),
        ("ann onym.", ("Samuel Butler wrote it.",), "edited"),
        ("Ann Onym", ("Ann Onym wrote it.",), "edited"),
        ("Samuel Butler", ("Samuel Butler wrote it.",), "retrieved"),
        ("Samuel Butler", ("Nothing of it.",), "pre_edit"),
        ("Samuel Butler", (), "pre_edit"),
        ("Thomas Hardy", (), "pre_edit"),  # wrong, and what the model said before
        ("Thomas Hardy", ("By Thomas Hardy.",), "retrieved"),
        ("Jane Austen", (), "other"),
        ("", (), "other"),
    ],
)
def test_winners_by_hand(text, passages, winner):
    before = answered("Thomas Hardy")
    for facts in ([FACT], {"e": FACT}):
        found = conflicts([answered(text, *passages)], facts, [before])
        assert found.winners == (winner,)
        assert getattr(found, winner) == found.questions == 1
        assert found.edited + found.retrieved + found.pre_edit + found.other == 1


def test_refuses():
    one = answered("x")
    with pytest.raises(BadInput, match="1 answers, 0 facts and 1 answers without"):
        conflicts([one], [], [one])
    with pytest.raises(BadInput, match="has the id 'e', and no edited fact has"):
        conflicts([one], {"f": FACT}, [one])
    with pytest.raises(BadInput, match=r"'Why\?' is answered where"):
        conflicts([one], [FACT], [answered("x", question=Question("Why?"))])


@pytest.fixture(scope="module")
def tail():
    """QA with a popularity router on the shipped world, and rare facts that text answers rightly.

    Each gets another object of its relation.
    """
    world, qa = opened()
    qa = replace(qa, router=fit_router(qa, sample(world.questions, 100, seed=0)))
    facts = {fact.id: fact for fact in world.facts}
    rng = random.Random(0)
    rare = [q for q in world.questions if qa.router.decide(q).source == "retrieval"]
    rare = list({q.subject: q for q in rng.sample(rare, 24)}.values())
    right = [a.question for a in qa.ask(rare) if exact_match(a.text, a.question.answers)][:8]
    edited = []
    for question in right:
        fact = facts[question.id]
        others = {f.target for f in world.facts if f.relation == fact.relation} - {fact.target}
        edited.append(replace(fact, target=rng.choice(sorted(others)), previous=fact.target))
    return qa, right, edited


def test_popularity_alone_prefers_the_stale_passage_and_the_edit_scope_never_does(tail):
    qa, questions, facts = tail
    unedited = replace(qa, router=None, retriever=None).ask(questions)
    aware = replace(qa, router=Cascade((EditScope(), qa.router)))
    assert [a.text for a in aware.ask(questions)] == [a.text for a in qa.ask(questions)]
    with FineTune(lr=2e-3, stop_at_argmax=False, on_guard="warn").apply(qa.lm, facts) as edit:
        assert all(row.learnt for row in edit.report.facts)
        blind = conflicts(qa.ask(questions), facts, unedited)
        seeing = conflicts(aware.ask(questions), facts, unedited)
    assert blind.retrieved >= 6  # the trivial case: the stale passage wins
    assert blind.edited == 0
    assert seeing.retrieved == 0
    assert seeing.edited >= 6


def test_an_edit_that_was_not_learnt_is_told_instead_of_the_stale_passage(tail):
    qa, questions, facts = tail
    unedited = replace(qa, router=None, retriever=None).ask(questions)
    aware = replace(qa, router=Cascade((EditScope(), qa.router)))
    with FineTune(lr=1e-8, epochs=1, on_guard="warn").apply(qa.lm, facts) as edit:
        assert not any(row.learnt for row in edit.report.facts)
        answers = aware.ask(questions)
    assert {answer.decision.source for answer in answers} == {"retrieval"}
    for answer, fact in zip(answers, facts, strict=True):
        (hit,) = answer.hits
        assert fact.target in hit.passage.text
        assert fact.previous not in hit.passage.text
    assert conflicts(answers, facts, unedited).edited >= 5
