"""Scores by teacher forcing, beside those by free generation."""

from __future__ import annotations

import pytest

from memkit import LM, QA, Decision, Question
from memkit.compare.grid import Cell
from memkit.compare.rows import Block, Row
from memkit.compare.scoring import FORCED, scored
from memkit.errors import BadInput
from memkit.testing.models import tiny_lm
from memkit.world import shipped

CELL = Cell("c", "m", "x", "b", 0, 0, "")


def records(lm: LM, texts, answers, role="reliability", router=None):
    rows = [
        Row(str(i), role, Question(text, given))
        for i, (text, given) in enumerate(zip(texts, answers, strict=True))
    ]
    said = QA(lm, router=router).ask([row.question for row in rows])
    block = Block(0, (), tuple(rows))
    return scored(lm, CELL, block, rows, said, [None] * len(rows), peak_bytes=0, batch_size=8)


def test_forced_tokens_are_those_of_the_prompt_that_was_answered():
    lm = tiny_lm("gpt2", n_positions=256)
    texts, answers = ["Who is there?", "And now?"], [("Paris",), ("a long answer", "short")]
    made = records(lm, texts, answers)
    for record, given in zip(made, answers, strict=True):
        prompt, target = record.answer.prompt.text, f" {given[0]}"
        one = lm.logprob([prompt], [target])[0]
        assert record.metrics[FORCED] == sum(one.argmax) / len(one.argmax)


def test_what_the_model_says_itself_is_right_by_both():
    lm = LM.load(shipped())
    text = "What is the occupation of Waithai Peaklur?"
    said = QA(lm).ask(text).text
    (record,) = records(lm, [text], [(said,)], role="question")
    assert record.metrics["exact_match"] == record.metrics[FORCED] == 1.0
    (wrong,) = records(lm, [text], [("zzz",)], role="question")
    assert wrong.metrics["exact_match"] == 0.0
    assert wrong.metrics[FORCED] < 1.0


def test_a_prompt_that_is_gone_on_with_ends_at_a_full_stop_and_a_question_does_not():
    lm = LM.load(shipped())
    fact = "Waithai Peaklur works as a"
    (record,) = records(lm, [fact], [("judge",)])
    assert record.scored == record.answer.text.split(".")[0]


class Silent:
    """A router that never answers."""

    def decide(self, question):
        return Decision("abstain", reason="on purpose")


def test_who_abstains_has_no_score_by_teacher_forcing():
    lm = tiny_lm("gpt2", n_positions=256)
    (record,) = records(lm, ["Who?"], [("Paris",)], router=Silent())
    assert record.answer.text == ""
    assert FORCED not in record.metrics
    assert record.metrics["exact_match"] == 0.0


def test_a_question_without_answers_is_refused():
    with pytest.raises(BadInput, match="no accepted answers"):
        records(tiny_lm("gpt2", n_positions=256), ["Who?"], [()])
