"""Signals are computed when a router asks, and what was read for them is not read again."""

from __future__ import annotations

import dataclasses
import math

import pytest

from memkit import BadInput, Decision, Fact, Hit, MissingSignal, Passage, Question
from memkit.editors.finetune import FineTune
from memkit.qa import QA
from memkit.routing.baselines import Always
from memkit.routing.cascade import Cascade
from memkit.routing.edits import EditScope
from memkit.testing.models import tiny_lm

QUESTIONS = ["Who wrote Emma?", "In Peru?", "Who wrote Erewhon?", "Why?"]


class Store:
    """Finds one passage for questions that begin with Who."""

    def __init__(self):
        self.calls = []

    def search(self, queries, k=10):
        self.calls.append(list(queries))
        hit = Hit(Passage("p", "It was so."), 2.5, 1)
        return [[hit] if query.startswith("Who") else [] for query in queries]


@dataclasses.dataclass
class By:
    """Asks for a signal and goes by a rule."""

    name: str
    rule: object

    def decide(self, question, signals=None):
        if not signals or self.name not in signals:
            raise MissingSignal(f"needs {self.name!r}", (self.name,))
        return Decision(self.rule(signals[self.name]), reason=f"by {self.name}")


@pytest.fixture
def lm(monkeypatch):
    lm = tiny_lm("gpt2")
    lm.passes = []
    for name in ("complete", "draft"):
        inner = getattr(lm, name)

        def counted(prompts, *args, name=name, inner=inner, **kwargs):
            lm.passes.append((name, list(prompts)))
            return inner(prompts, *args, **kwargs)

        monkeypatch.setattr(lm, name, counted)
    return lm


def same(answers, others):
    for one, other in zip(answers, others, strict=True):
        assert (one.text, one.prompt, one.hits) == (other.text, other.prompt, other.hits)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_an_answer_from_the_weights_goes_on_from_the_same_prefill(lm):
    plain = QA(lm, max_new_tokens=6).ask(QUESTIONS)
    lm.passes.clear()
    answers = QA(lm, router=By("margin", lambda m: "weights"), max_new_tokens=6).ask(QUESTIONS)
    assert [name for name, _ in lm.passes] == ["draft"]  # and no complete
    same(answers, plain)
    assert {a.decision.reason for a in answers} == {"by margin"}
    assert all(a.seconds > 0 for a in answers)


def test_what_goes_to_text_is_answered_with_text(lm):
    store = Store()
    margins = [s["margin"] for s in QA(lm).signals(QUESTIONS, ["margin"])]
    middle = sum(sorted(margins)[1:3]) / 2
    router = By("margin", lambda m: "weights" if m >= middle else "retrieval")
    qa = QA(lm, store, router, max_new_tokens=6)
    lm.passes.clear()
    answers = qa.ask(QUESTIONS)
    sources = ["weights" if m >= middle else "retrieval" for m in margins]
    assert [a.decision.source for a in answers] == sources
    assert set(sources) == {"weights", "retrieval"}
    assert [name for name, _ in lm.passes] == ["draft", "complete"]
    assert len(lm.passes[1][1]) == sources.count("retrieval")
    alone, fed = QA(lm, max_new_tokens=6).ask(QUESTIONS), QA(lm, store, max_new_tokens=6)
    expected = [
        a if source == "weights" else fed.ask(a.question)
        for a, source in zip(alone, sources, strict=True)
    ]
    same(answers, expected)
    same(answers, [qa.ask(question) for question in QUESTIONS])


@pytest.mark.parametrize("name", ["answer_entropy", "answer_entropy_max", "answer_logprob"])
def test_signals_of_the_whole_answer_come_with_it(lm, name):
    plain = QA(lm, max_new_tokens=6).ask(QUESTIONS)
    lm.passes.clear()
    answers = QA(lm, Store(), By(name, lambda v: "weights"), max_new_tokens=6).ask(QUESTIONS)
    assert [call for call, _ in lm.passes] == ["draft"]
    same(answers, plain)
    fed = QA(lm, Store(), By(name, lambda v: "retrieval"), max_new_tokens=6).ask(QUESTIONS)
    same(fed, QA(lm, Store(), max_new_tokens=6).ask(QUESTIONS))
    values = [s[name] for s in QA(lm, max_new_tokens=6).signals(QUESTIONS, [name])]
    assert len({round(v, 6) for v in values}) > 1
    if name == "answer_logprob":
        done = lm.complete([a.prompt.text for a in plain], 6)
        assert values == pytest.approx([d.logprob / len(d.tokens) for d in done], abs=1e-4)


def test_a_search_for_its_score_is_the_search_for_its_text(lm):
    store = Store()
    router = By("score", lambda s: "retrieval" if s > 1 else "weights")
    answers = QA(lm, store, router).ask(QUESTIONS)
    assert store.calls == [QUESTIONS]  # once, for all
    assert [a.decision.source for a in answers] == ["retrieval", "weights"] * 2
    assert [len(a.hits) for a in answers] == [1, 0, 1, 0]
    scores = [s["score"] for s in QA(lm, store).signals(QUESTIONS, ["score"])]
    assert scores == [2.5, -math.inf] * 2
    with pytest.raises(BadInput, match="has no retriever"):
        QA(lm, router=router).ask("Who?")


def test_hidden_states_by_layer(lm):
    (signals,) = QA(lm).signals(["Who?"], ["hidden", "hidden@0", "margin", "edits"])
    middle = len(lm.layout.layers(lm.model)) // 2
    (again,) = QA(lm).signals(["Who?"], [f"hidden@{middle}"])
    assert (signals["hidden"] == again[f"hidden@{middle}"]).all()
    assert (signals["hidden"] != signals["hidden@0"]).any()
    assert signals["edits"] == ()
    assert [name for name, _ in lm.passes] == ["draft", "draft"]


def test_only_what_reaches_a_stage_has_its_signal(lm):
    class Peru:
        def consider(self, question, signals):
            return Decision("weights", reason="Peru") if "Peru" in question.text else None

    qa = QA(lm, Store(), Cascade((Peru(), By("margin", lambda m: "weights"))))
    answers = qa.ask(QUESTIONS)
    assert answers[1].decision.reason == "Peru: Peru"
    (draft,) = [prompts for name, prompts in lm.passes if name == "draft"]
    assert len(draft) == 3
    assert not any("Peru" in prompt for prompt in draft)


def test_an_abstention_has_no_answer_and_costs_none(lm):
    class Silent:
        def decide(self, question):
            return Decision("abstain", reason="promised")

    answer = QA(lm, Store(), Silent()).ask("Who wrote it?")
    assert (answer.text, answer.hits, answer.prompt.tokens, answer.logprob) == ("", (), 0, 0.0)
    assert answer.decision.reason == "promised"
    assert lm.passes == []


def test_live_edits_and_the_text_of_a_decision(lm):
    fact = Fact("Erewhon", "{} was written by", "me", relation="author")
    question = Question("Who wrote Erewhon?", subject="Erewhon", relation="author")
    store = Store()
    qa = QA(lm, store, Cascade((EditScope(), Always("retrieval"))))
    assert qa.ask(question).hits[0].passage.id == "p"
    with FineTune(parameters="all", lr=1e-2, on_guard="warn").apply(lm, [fact]) as edit:
        assert edit.report.facts[0].learnt
        assert qa.ask(question).decision.source == "weights"
        with edit.paused():
            assert qa.ask(question).hits[0].passage.id == "p"
    with FineTune(epochs=1, lr=1e-9, on_guard="warn").apply(lm, [fact]) as edit:
        assert not edit.report.facts[0].learnt
        store.calls.clear()
        answer = qa.ask(question)
        assert [hit.passage.text for hit in answer.hits] == ["Erewhon was written by me."]
        assert "Erewhon was written by me." in answer.prompt.text
        assert store.calls == []
    assert qa.ask(question).hits[0].passage.id == "p"


def test_refuses_signals_that_nobody_computes(lm):
    with pytest.raises(BadInput, match="'mood'; allowed: 'edits', 'score', 'margin'"):
        QA(lm, router=By("mood", lambda v: "weights")).ask("Who?")
    with pytest.raises(BadInput, match="'hidden@x'"):
        QA(lm).signals(["Who?"], ["hidden@x"])

    class Never:
        def decide(self, question, signals=None):
            raise MissingSignal("needs 'margin' again", ("margin",))

    with pytest.raises(MissingSignal, match="again"):
        QA(lm, router=Never()).ask("Who?")
