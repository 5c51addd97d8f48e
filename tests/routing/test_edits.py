from __future__ import annotations

import pytest

from memkit.errors import BadInput, MissingSignal
from memkit.routing.edits import EditScope, updated
from memkit.testing.router import RouterContract
from memkit.types import EditReport, Fact, FactReport, Question

AUTHOR = Fact(
    "Erewhon",
    "{} was written by",
    "Ann Onym",
    relation="author",
    previous="Samuel Butler",
    paraphrases=("The author of {} is",),
    id="e/author",
)


def report(*facts, learnt=True):
    return EditReport("ROME()", tuple(FactReport(f, -9.0, -0.1, False, learnt) for f in facts))


def source(question, *reports, scope=None):
    scope = EditScope() if scope is None else scope
    decision = scope.consider(question, {"edits": reports})
    return None if decision is None else decision.source


class TestEditScope(RouterContract):
    @pytest.fixture
    def router(self):
        return EditScope({"entity seven": "entity 7"}, overlap=0.4)

    @pytest.fixture
    def choose(self, questions):
        fact = Fact("entity 7", "{} has the author", "Ann Onym", relation="author")
        signals = {"edits": (report(fact),)}
        return lambda router, question: router.decide(question, signals)

    def test_covers_one_question(self, router, questions, choose):
        reasons = [choose(router, question).reason for question in questions]
        assert sum("was edited to" in reason for reason in reasons) == 1
        assert reasons.count("no live edit covers it") == len(questions) - 1


@pytest.mark.parametrize(
    ("question", "covered"),
    [
        (Question("Who wrote it?", subject="Erewhon", relation="author"), True),
        (Question("Who wrote it?", subject="EREWHON ", relation="Author"), True),
        (Question("Who wrote it?", subject="Over the Range", relation="author"), True),  # alias
        (Question("Who wrote it?", subject="Utopia", relation="author"), False),
        (Question("What genre is it?", subject="Erewhon", relation="genre"), False),
        (Question("Who is the author of Erewhon?"), True),  # by words, and by the name in it
        (Question("Who is the author of Over the Range?"), True),
        (Question("By whom was Erewhon written?"), True),
        (Question("What genre is Erewhon?"), False),
        (Question("Who is the author of Utopia?"), False),
        (Question("Who?"), False),
        # another subject is named, though the text mentions the edited one
        (Question("Who is the author of Erewhon?", subject="Erewhon Revisited"), False),
    ],
)
def test_subject_then_relation(question, covered):
    scope = EditScope({"Over the Range": "Erewhon"})
    assert source(question, report(AUTHOR), scope=scope) == ("weights" if covered else None)
    assert source(question, scope=scope) is None
    assert source(question, report(), scope=scope) is None


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("What is the capital of Marn?", True),
        ("Which town is Marn's capital?", True),
        ("What is the population of Marn?", False),  # "the", "of" and "is" are no relation
        ("Who is the president of the republic of Marn?", False),
    ],
)
def test_function_words_are_no_relation(text, covered):
    fact = Fact("Marn", "The capital of {} is", "Ovale")
    assert source(Question(text), report(fact)) == ("weights" if covered else None)


def test_a_prompt_of_function_words_alone_is_compared_by_them():
    fact = Fact("Ada Quill", "{} is a", "poet")
    assert source(Question("What is Ada Quill?"), report(fact)) == "weights"


def test_every_subject_that_a_question_names_is_looked_at():
    """The longest name is not always the one that is asked about."""
    born, capital = (
        Fact("Ada", "{} was born in", "Tess"),
        Fact("Ovale", "{} is the capital of", "X"),
    )
    reports = report(born), report(capital, learnt=False)
    assert source(Question("Was Ada born in Ovale?"), *reports) == "weights"
    assert source(Question("Ovale is the capital of what, Ada?"), *reports) == "retrieval"
    assert source(Question("Did Ada visit Ovale?"), *reports) is None


def test_an_edit_that_was_not_learnt_is_told():
    question = Question("Who wrote it?", subject="Erewhon", relation="author")
    decision = EditScope().consider(question, {"edits": (report(AUTHOR, learnt=False),)})
    assert decision.source == "retrieval"
    (passage,) = decision.passages
    assert passage.text == "Erewhon was written by Ann Onym."
    assert (passage.id, passage.title) == ("edit:e/author", "Erewhon")
    assert "not learnt" in decision.reason


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ("Erewhon is a novel by Ann Onym.", "Erewhon is a novel by Ann Onym."),
        ("Erewhon is a novel by Samuel Butler.", "Erewhon was written by Ann Onym."),  # stale
        (None, "Erewhon was written by Ann Onym."),
    ],
)
def test_a_stale_definition_is_not_told(definition, text):
    from dataclasses import replace

    assert updated(replace(AUTHOR, definition=definition)).text == text


def test_the_newest_edit_counts():
    from dataclasses import replace

    newer = replace(AUTHOR, target="Bea Tween")
    question = Question("Who wrote it?", subject="Erewhon", relation="author")
    signals = {"edits": (report(AUTHOR), report(newer, learnt=False))}
    decision = EditScope().consider(question, signals)
    assert decision.passages[0].text.endswith("Bea Tween.")
    turned = {"edits": (report(newer, learnt=False), report(AUTHOR))}
    assert EditScope().consider(question, turned).source == "weights"


def test_what_was_kept_does_not_outlive_its_reports():
    scope = EditScope()
    question = Question("Who wrote it?", subject="Erewhon", relation="author")
    for _ in range(2):
        assert source(question, report(AUTHOR), scope=scope) == "weights"
        assert source(question, scope=scope) is None
    assert scope == EditScope()


def test_refuses():
    with pytest.raises(BadInput, match="overlap is 0"):
        EditScope(overlap=0)
    with pytest.raises(MissingSignal, match="EditScope needs the signal 'edits'"):
        EditScope().decide(Question("Who?"))


def test_text_that_may_state_a_forgotten_fact_is_not_shown():
    fact = Fact("Peru", "The capital of {} is", "Lima", definition="The capital of Peru is Lima.")
    question = Question("What is the capital of Peru?", subject="Peru")
    for learnt in (True, False):
        report = EditReport("x", (FactReport(fact, -0.1, -9, True, learnt, {}, forget=True),))
        decision = EditScope().decide(question, {"edits": (report,)})
        assert (decision.source, decision.passages) == ("weights", ())
        assert "was to be forgotten" in decision.reason
