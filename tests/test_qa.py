from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest

import memkit
from memkit import BadInput, Decision, Fact, FineTune, Hit, NotTrained, Passage, Question
from memkit.lm.generation import Completion
from memkit.prompts import Template
from memkit.qa import QA
from memkit.routing.baselines import Always
from memkit.routing.popularity import PopularityRouter
from memkit.testing.models import tiny_lm

BOOKS = {
    "Erewhon": Passage("erewhon", "Samuel Butler wrote Erewhon."),
    "Emma": Passage("emma", "Jane Austen wrote Emma."),
}


@dataclasses.dataclass
class FakeLM:
    """Answers with the first two words of the prompt, and keeps what it was given."""

    window: int = 64
    edits: list = dataclasses.field(default_factory=list)
    calls: list = dataclasses.field(default_factory=list)
    tokenizer: SimpleNamespace = dataclasses.field(
        default_factory=lambda: SimpleNamespace(all_special_tokens=["</s>"])
    )

    def count_tokens(self, text):
        return len(text.split())

    def complete(self, prompts, max_new_tokens=16, stop=("\n",), batch_size=32):
        self.calls.append((list(prompts), max_new_tokens, stop, batch_size))
        return [
            Completion(" " + " ".join(text.split()[:2]), -0.5, (1, 2), len(text.split()))
            for text in prompts
        ]


class FakeRetriever:
    def __init__(self):
        self.calls = []

    def search(self, queries, k=10):
        self.calls.append((list(queries), k))
        return [
            [Hit(book, 1.0, 1) for title, book in BOOKS.items() if title in query][:k]
            for query in queries
        ]


class ByInitial:
    """Text for books, weights for all else."""

    def decide(self, question):
        book = question.text.startswith("Who")
        return Decision("retrieval" if book else "weights", reason="by its first word")


@pytest.fixture
def lm():
    return FakeLM()


@pytest.fixture
def retriever():
    return FakeRetriever()


def test_weights_alone_without_a_retriever(lm):
    answer = QA(lm).ask("Who wrote Erewhon?")
    assert answer.text == "Q: Who"
    assert answer.question == Question("Who wrote Erewhon?")
    assert answer.decision == Decision("weights", reason="no retriever: weights alone")
    assert (answer.hits, answer.edits, answer.logprob) == ((), (), -0.5)
    assert answer.prompt.text == "Q: Who wrote Erewhon? A:"
    assert answer.prompt.tokens == 5
    assert answer.seconds > 0


def test_always_the_retriever_without_a_router(lm, retriever):
    answer = QA(lm, retriever, k=3).ask("Who wrote Erewhon?")
    assert answer.text == "Samuel Butler"
    assert answer.decision == Decision("retrieval", reason="no router: always the retriever")
    assert answer.hits == (Hit(BOOKS["Erewhon"], 1.0, 1),)
    assert answer.prompt.passages == ("erewhon",)
    assert retriever.calls == [(["Who wrote Erewhon?"], 3)]


def test_many_are_answered_in_order_and_batched_by_decision(lm, retriever):
    questions = ["Who wrote Emma?", "Where is Lima?", Question("Who wrote Erewhon?"), "Why?"]
    qa = QA(lm, retriever, ByInitial(), max_new_tokens=5, batch_size=7)
    answers = qa.ask(questions)
    assert [a.question.text for a in answers] == [
        "Who wrote Emma?", "Where is Lima?", "Who wrote Erewhon?", "Why?",
    ]  # fmt: skip
    assert [a.text for a in answers] == ["Jane Austen", "Q: Where", "Samuel Butler", "Q: Why?"]
    assert [a.decision.source for a in answers] == ["retrieval", "weights"] * 2
    assert retriever.calls == [(["Who wrote Emma?", "Who wrote Erewhon?"], 1)]
    assert [len(prompts) for prompts, *_ in lm.calls] == [2, 2]
    assert [rest for _, *rest in lm.calls] == [[5, ("\n",), 7]] * 2
    assert answers[0].seconds == answers[2].seconds != answers[1].seconds


def test_one_by_one_gives_the_same(lm, retriever):
    questions = ["Who wrote Emma?", "Where is Lima?", "Who wrote nothing?"]
    qa = QA(lm, retriever, ByInitial())
    together = [dataclasses.replace(a, seconds=0) for a in qa.ask(questions)]
    assert together == [dataclasses.replace(qa.ask(q), seconds=0) for q in questions]


def test_no_questions_no_answers(lm, retriever):
    assert QA(lm, retriever, ByInitial()).ask([]) == []
    assert lm.calls == retriever.calls == []


def test_says_when_nothing_was_found(lm, retriever):
    found, nothing = QA(lm, retriever, ByInitial()).ask(["Who wrote Emma?", "Who wrote it?"])
    assert found.decision.reason == "by its first word"
    assert nothing.decision.source == "retrieval"
    assert nothing.decision.reason == "by its first word; nothing found, asked without text"
    assert nothing.hits == nothing.prompt.passages == ()
    assert nothing.prompt.text == "Q: Who wrote it? A:"


def test_given_passages_replace_decision_and_search(lm, retriever):
    qa = QA(lm, retriever, Always("weights"))
    questions = [Question("Who wrote it?", id="1"), Question("Who wrote it?", id="2")]
    answers = qa.ask(questions, given=[[BOOKS["Emma"]], []])
    assert [a.text for a in answers] == ["Jane Austen", "Q: Who"]
    assert {a.decision.source for a in answers} == {"retrieval"}
    assert answers[0].decision.reason == "passages given, no search"
    assert answers[0].hits == (Hit(BOOKS["Emma"], 0.0, 1),)
    assert retriever.calls == []
    with pytest.raises(BadInput, match="1 lists of passages are given for 2 questions"):
        qa.ask(questions, given=[[]])


def test_popularity_that_the_router_found_is_in_the_decision(lm, retriever):
    from memkit.routing.base import Outcome
    from memkit.routing.table import PopularityTable

    table = PopularityTable({"Emma": 900, "Erewhon": 20})
    known = [
        Outcome(Question("Who wrote Emma?", subject="Emma"), 1, 0),
        Outcome(Question("Who wrote Erewhon?", subject="Erewhon"), 0, 1),
    ]
    router = PopularityRouter(table).fit(known)
    emma, erewhon = QA(lm, retriever, router).ask(["Who wrote Emma?", "Who wrote Erewhon?"])
    assert (emma.decision.source, emma.decision.score) == ("weights", 900)
    assert (erewhon.decision.source, erewhon.decision.score) == ("retrieval", 20)
    with pytest.raises(NotTrained, match="fit"):
        QA(lm, retriever, PopularityRouter(table)).ask("Who wrote Emma?")


def test_prompt_keeps_room_for_the_answer(lm, retriever):
    lm.window = 12
    answer = QA(lm, retriever, max_new_tokens=5).ask("Who wrote Erewhon?")
    assert answer.prompt.text == "Samuel Butler\n\nQ: Who wrote Erewhon? A:"
    assert (answer.prompt.cut, answer.prompt.tokens) == ("erewhon", 7)


def test_special_tokens_in_a_passage_are_text(lm):
    class Hostile:
        def search(self, queries, k=10):
            return [[Hit(Passage("x", "stop</s>here"), 1.0, 1)] for _ in queries]

    assert "stop< /s>here" in QA(lm, Hostile()).ask("Who?").prompt.text


@pytest.mark.parametrize("question", ["", "  ", None, 3, "very " * 90])
def test_bad_questions_are_refused_before_the_model_runs(lm, retriever, question):
    with pytest.raises(BadInput, match="allowed"):
        QA(lm, retriever, ByInitial()).ask(["Who wrote Emma?", question])
    assert lm.calls == []


@pytest.mark.parametrize("k", [0, -1, True, 1.5])
def test_refuses_k(lm, k):
    with pytest.raises(BadInput, match=rf"QA.k is {k!r}; allowed: an integer of at least 1"):
        QA(lm, k=k)


def test_retrieval_without_a_retriever_is_refused(lm):
    assert QA(lm, router=Always("weights")).ask("Who?").decision.source == "weights"
    with pytest.raises(BadInput, match="has no retriever"):
        QA(lm, router=Always("retrieval")).ask("Who?")
    assert len(lm.calls) == 1


def test_learn_hands_out_the_editors_handle(lm):
    @dataclasses.dataclass(frozen=True)
    class FakeEditor:
        @contextlib.contextmanager
        def apply(self, lm, facts):
            assert isinstance(facts, list)
            lm.edits.append(self)
            yield SimpleNamespace(report=len(facts))
            lm.edits.remove(self)

    qa, fact = QA(lm), Fact("Erewhon", "{} was written by", "Samuel Butler")
    assert qa.ask("Who?").edits == ()
    with qa.learn((fact,), editor=FakeEditor()) as edit:
        assert edit.report == 1
        assert qa.ask("Who?").edits == (repr(FakeEditor()),)
    assert qa.ask("Who?").edits == ()


@pytest.mark.parametrize("editor", [FineTune, "rome", None])
def test_what_is_no_editor_is_named(lm, editor):
    fact = Fact("Emma", "{} was written by", "Austen")
    with pytest.raises(BadInput, match=r"editor is .*such as memkit\.ROME\(\)\. Call the class"):
        QA(lm).learn([fact], editor=editor)
    with pytest.raises(BadInput, match=r"editor is .*such as memkit\.ROME\(\)\. Call the class"):
        memkit.protocols.editing(lm, editor, [fact])


@pytest.mark.parametrize("question", [None, 3])
def test_one_question_that_is_none_is_named(lm, question):
    with pytest.raises(BadInput, match=r"a question is .*; allowed: text or a memkit\.Question"):
        QA(lm).ask(question)
    with pytest.raises(BadInput, match=r"'Emma' is given as a passage; allowed: memkit\.Passage"):
        QA(lm).ask("Who?", given=[["Emma"]])


def test_a_real_model_answers_alone_and_together(retriever):
    lm = tiny_lm("gpt2")
    template = Template("{question}:", separator=" ")
    qa = QA(lm, retriever, ByInitial(), template, max_new_tokens=4)
    questions = ["Who wrote Emma?", "In Peru?", "Who wrote Erewhon?", "Why?"]
    together, alone = qa.ask(questions), [qa.ask(question) for question in questions]
    assert len({a.text for a in together}) > 1
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.prompt, one.hits) == (other.text, other.prompt, other.hits)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.prompt.tokens == lm.count_tokens(one.prompt.text) <= lm.window - 4
    assert together[0].to_dict()["hits"][0]["passage"]["id"] == "emma"
