"""Unstructured edits: scores by hand, and a passage that is told on every arm."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from memkit import BM25, LM, Fact, FineTune, Guards, Passage, benchmarks
from memkit import world as worlds
from memkit.errors import BadInput, MissingDependency
from memkit.protocols import unstructured
from memkit.protocols.told import Ask, Speaker, Told, hear
from memkit.protocols.unstructured import similarities
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

pytest.importorskip("rouge_score")
pytest.importorskip("sacrebleu")
OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}


def test_scores_by_hand():
    found = similarities()("the cat sat down on a mat", "the cat sat on the mat")
    # of the reference's six words the, cat, sat, on and mat are shared, one "the" is not
    assert found["rouge1"] == pytest.approx(5 / 6)
    assert found["rouge2"] == pytest.approx(2 / 5)  # the cat, cat sat
    assert found["rougeL"] == pytest.approx(5 / 6)  # the cat sat on mat
    assert found["rougeL F1"] == pytest.approx(2 * (5 / 7) * (5 / 6) / (5 / 7 + 5 / 6))
    # 5 of 7 words, 2 of 6 pairs, 1 of 5 threes, 0 of 4 fours (smoothed to half a hit); no brevity
    bleu = (5 / 7 * 2 / 6 * 1 / 5 * 0.5 / 4) ** (1 / 4)
    assert found["bleu"] == pytest.approx(bleu)
    assert found["contains"] == 0


def test_bleu_counts_words_and_not_letters():
    answer, reference = "no words are shared", "dares on rash ewer"
    assert similarities()(answer, reference)["bleu"] == 0


def test_short_references_and_empty_answers():
    similar = similarities()
    assert "rouge2" not in similar("Lima", "Lima")
    assert similar("It is Lima, in Peru.", "Lima")["contains"] == 1
    empty = similar("", "the cat sat")
    assert set(empty.values()) == {0.0}


class Letters:
    """An encoder whose vectors count the letters a and b."""

    def encode_passages(self, texts):
        return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)


def test_the_cosine_is_the_encoders():
    similar = similarities(Letters())
    assert similar("aab", "ab")["cosine"] == pytest.approx(3 / math.sqrt(5 * 2))
    assert similar(" ", "ab")["cosine"] == 0


def test_a_passage_in_the_weights_and_in_the_prompt():
    world = benchmarks.load("miniworld", split="new")
    lm = LM.load(worlds.shipped(), device="cpu")
    before = state_hash(lm)
    texts = {passage.id: passage for passage in world.passages}
    asked = [q for q in world.questions if q.gold == world.questions[0].gold]
    first, *rest = asked
    passage = texts[first.gold[0]]
    fact = Fact(
        passage.title,
        first.text,
        first.answers[0],
        paraphrases=(first.text,),
        portability=tuple((question.text, question.answers[0]) for question in rest),
        definition=passage.text,
        id="new",
    )
    index = BM25.build(world.passages, engine="bm25s")
    found = unstructured(
        lm,
        {"FT": FineTune(end=True, **OPEN)},
        [fact],
        retriever=index,
        max_new_tokens=16,
    )
    assert list(found.cells) == ["unedited", "FT", "in the prompt", "retrieval"]
    means = {
        arm: {name: cell.mean for name, cell in row.items()} for arm, row in found.cells.items()
    }
    assert means["unedited"]["question rougeL"] == 0  # nobody has told it yet
    for arm in ("FT", "in the prompt", "retrieval"):
        assert means[arm]["question rougeL"] == means[arm]["paraphrase contains"] == 1
    # what else the passage says is known where the passage is read
    assert means["unedited"]["sub-question contains"] == means["FT"]["sub-question contains"] == 0
    assert means["in the prompt"]["sub-question contains"] == 1
    assert state_hash(lm) == before
    shown = str(found)
    assert "question" in shown
    assert "in the prompt" in shown
    assert json.loads(json.dumps(found.to_dict()))["rejected"]["FT"] == 0


def test_a_refused_edit_scores_the_model_without_it():
    lm = tiny_lm("gpt2")
    fact = Fact("Peru", "The capital of {} is", "numbers", definition="Peru is one, two.")
    strict = FineTune(layer=1, lr=0.5, guards=Guards(size=1e-9))
    found = unstructured(lm, strict, [fact], max_new_tokens=4)
    assert found.rejected["FineTune"] == 1
    answers = found.records[0].answers
    assert answers["FineTune"] == answers["unedited"]
    assert "1 edits refused" in str(found)


def test_the_likeliest_option_is_chosen():
    lm = tiny_lm("gpt2")
    options = ("Lima", "numbers", "words and")
    speaker = Speaker(lm, max_new_tokens=4)
    scores = [s.total for s in lm.logprob(["Q: capital? A:"] * 3, [f" {o}" for o in options])]
    said = speaker.say([Ask("capital?", options), Ask("capital?")])
    assert said[0] == options[scores.index(max(scores))]
    assert said[1] == lm.generate(["Q: capital? A:"], 4)[0].strip()


def test_the_model_is_as_it_was_after_an_error():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    good = Fact("Peru", "The capital of {} is", "numbers")
    cases = [Told((good,), (), (Ask("capital?"),)), Told((good,), (), (Ask("word " * 99),))]
    with pytest.raises(BadInput, match="allowed: 60"):
        hear(Speaker(lm, max_new_tokens=4), {}, cases, None, 1)
    edit = FineTune(layer=1, **OPEN)
    bare = Told((Fact("Peru", "{} is", "numbers " * 99),), (), (Ask("capital?"),))
    with pytest.raises(BadInput):
        hear(Speaker(lm, max_new_tokens=4), edit, [cases[0], bare], None, 1)
    assert state_hash(lm) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": []}, "no cases"),
        ({"facts": [Fact("Peru", "{} is", "x")]}, "has no definition"),
        ({"editors": {"retrieval": FineTune()}}, "an editor is named 'retrieval'"),
        ({"k": 0}, "k is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"stop": ("",)}, "stop is"),
    ],
)
def test_refuses(change, message):
    fact = Fact("Peru", "The capital of {} is", "numbers", definition="Peru is one, two.")
    given = {"editors": {}, "facts": [fact], **change}
    with pytest.raises(BadInput, match=message):
        unstructured(tiny_lm("gpt2"), given.pop("editors"), given.pop("facts"), **given)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(MissingDependency, match=r"memkit\[scores\]"):
        similarities()


def test_passages_are_told_to_their_own_questions_alone():
    lm = tiny_lm("gpt2")
    speaker = Speaker(lm, max_new_tokens=4)
    told = [
        Told((), (Passage(name, f"{name} is one, two."),), (Ask("capital?"),))
        for name in ("Peru", "France")
    ]
    heard = hear(speaker, {}, told, None, 1)
    for case, answers in zip(told, heard["in the prompt"].answers, strict=True):
        prompt = f"{case.passages[0].text}\n\nQ: capital? A:"
        assert answers == (lm.generate([prompt], 4)[0].strip(),)
