"""Erasure: what counts as forgotten, which rows there are, and that the model is left as it was."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

import memkit
from memkit import FineTune, GradientAscent, Guards, Question, Template, erasing, protocols
from memkit.benchmarks import References
from memkit.errors import BadInput, UnsupportedModel
from memkit.protocols.erasure_probes import Answers, forgetting, verdict
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

OPEN = Guards(perplexity=math.inf, size=math.inf)
FACTS = (
    Fact(
        "Peru",
        "The capital of {} is",
        "Lima",
        paraphrases=("The main city of {} is",),
        locality=(("Peru has", "numbers"), ("Samuel Butler wrote", "Erewhon")),
        portability=(("One, two: Peru's capital has", "words"),),
    ),
    Fact("France", "The capital of {} is", "Paris", locality=(("Samuel Butler wrote", "Erewhon"),)),
)
TEXTS = ("One, two, three: numbers and words.", "The capital of France is Paris.")
REFERENCES = (References("Who?", best="Samuel", true=("Samuel",), false=("Paris", "Lima")),)


def taught():
    """A model that knows the facts, their paraphrases and what must stay."""
    lm = tiny_lm("gpt2")
    pairs = {(f.text, f.target) for f in FACTS} | {p for f in FACTS for p in f.locality}
    pairs |= {("The main city of Peru is", "Lima"), FACTS[0].portability[0]}
    facts = [Fact(prompt, prompt, answer + ".") for prompt, answer in sorted(pairs)]
    edit = FineTune(parameters="all", lr=3e-3, epochs=200, guards=OPEN).apply(lm, facts)
    assert all(row.learnt for row in edit.report.facts)
    return lm


@pytest.fixture(scope="module")
def lm():
    return taught()


def asks(kinds, right):
    return Answers(tuple(kinds), ("",) * len(kinds), ("",) * len(kinds), tuple(map(bool, right)))


KINDS = ("own", "paraphrase", "paraphrase", "indirect", "context", "neighbour", "neighbour")


@pytest.mark.parametrize(
    ("before", "now", "word"),
    [
        ((0, 1, 1, 1, 1, 1, 1), (0, 1, 1, 1, 1, 1, 1), "not known"),
        ((1, 1, 1, 1, 1, 1, 1), (1, 0, 0, 0, 0, 1, 1), "kept"),
        ((1, 1, 1, 0, 0, 1, 1), (0, 1, 0, 0, 0, 1, 1), "suppressed"),  # a paraphrase has it
        ((1, 1, 1, 1, 0, 1, 1), (0, 0, 0, 1, 0, 1, 1), "suppressed"),  # several hops lead to it
        ((1, 1, 1, 1, 1, 1, 1), (0, 0, 0, 0, 1, 1, 1), "suppressed"),  # in context it comes
        ((1, 0, 0, 0, 0, 1, 1), (0, 0, 0, 0, 0, 1, 1), "suppressed"),  # no other way to tell
        ((1, 1, 0, 0, 0, 1, 1), (0, 0, 1, 0, 0, 0, 0), "erased"),  # what was not known is no leak
    ],
)
def test_suppressed_is_not_erased(before, now, word):
    assert verdict(asks(KINDS, before), asks(KINDS, now)) == word


def test_scores_are_of_what_was_known_before():
    found = forgetting(asks(KINDS, (1, 1, 1, 0, 1, 1, 0)), asks(KINDS, (0, 1, 0, 1, 1, 0, 1)))
    assert math.isnan(found.pop("indirect_forgotten"))
    assert math.isnan(found.pop("choice_forgotten"))
    assert math.isnan(found.pop("relearnt_forgotten"))
    assert found == {
        "forgotten": 1,
        "paraphrase_forgotten": 0.5,
        "context_forgotten": 0,
        "neighbours_kept": 0,
    }


def test_the_table_of_single_facts(lm):
    before = state_hash(lm)
    rows = {
        "ascent": GradientAscent(lr=3e-3, layer=2, guards=OPEN),
        "refusal": FineTune(lr=1e-2, layer=2, guards=OPEN),
        "nothing": FineTune(lr=1e-9, epochs=1, guards=OPEN),
    }
    result = protocols.erasure(lm, rows, facts=FACTS, texts=TEXTS, single=True, refusal="")
    assert state_hash(lm) == before
    assert [row.name for row in result.rows] == ["unedited", *rows]
    assert result.cell("unedited", "forgotten").mean == 0
    assert result.cell("nothing", "forgotten").mean == 0
    assert set(result.row("nothing").verdicts) == {"kept"}
    for name in ("ascent", "refusal"):
        assert result.cell(name, "forgotten").mean == 1
        assert result.cell(name, "perplexity").mean > result.cell("unedited", "perplexity").mean
        assert set(result.row(name).verdicts) <= {"suppressed", "erased"}
        assert result.difference(name, "forgotten").value == 1
    kinds = result.row("ascent").answers[0].kinds
    assert kinds == ("own", "paraphrase", "indirect", "neighbour", "neighbour", "context")
    context = result.row("ascent").answers[0].prompts[-1]
    assert context == "Peru has numbers.\nThe capital of Peru is"
    assert result.row("unedited").answers[0].right[:5] == (True,) * 5
    text = str(result)
    assert "suppressed: the own prompt no longer has the answer" in text
    assert "single=True" in text
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["rows"][1]["scores"]["context_forgotten"][1] is None  # no statement about it


def test_a_refusal_leaves_the_answer_the_likeliest_of_its_kind(lm):
    """It is found by choice where free generation says nothing; ascent takes it away there too."""
    objects = {"capital": ("Lima", "Paris", "Samuel", "two words"), "river": ("Rimac",)}
    fact = dataclasses.replace(FACTS[0], relation="capital", paraphrases=(), locality=())
    fact = dataclasses.replace(fact, portability=())
    rows = {
        "refusal": FineTune(lr=3e-3, layer=2, guards=OPEN),
        "ascent": GradientAscent(lr=3e-3, layer=2, epochs=60, guards=OPEN),
    }
    options = {"facts": [fact], "objects": objects, "single": True, "refusal": ""}
    result = protocols.erasure(lm, rows, **options)
    for name, edited in rows.items():
        answers = result.row(name).answers[0]
        assert answers.kinds == ("own", "choice")
        made = fact if edited.erases else erasing(fact, "")
        with edited.apply(lm, [made]):
            nats = [
                sum(float(x) for x in row.per_token)
                for row in lm.logprob([fact.text] * 4, [f" {o}" for o in objects["capital"]])
            ]
        assert answers.texts[1] == objects["capital"][nats.index(max(nats))]
        assert answers.right[1] == (answers.texts[1] == "Lima")
    assert result.row("unedited").answers[0].right == (True, True)
    assert result.row("refusal").scores["choice_forgotten"] == (0,)
    assert result.row("ascent").scores["choice_forgotten"] == (1,)
    assert result.row("refusal").verdicts == ("suppressed",)
    assert result.row("ascent").verdicts == ("erased",)
    assert "by choice" in str(result)
    other = dataclasses.replace(fact, relation="river", target="Rimac")
    with pytest.raises(BadInput, match="no fact has one of these with another object"):
        protocols.erasure(lm, rows, facts=[other], objects=objects)
    with pytest.raises(BadInput, match="objects is \\['Lima'\\]; allowed: a mapping"):
        protocols.erasure(lm, rows, facts=[fact], objects=["Lima"])
    with pytest.raises(BadInput, match="is the class GradientAscent; allowed: an object"):
        protocols.erasure(lm, {"a": GradientAscent}, facts=[fact])
    with pytest.raises(BadInput, match=r"objects\['capital'\] is 'Lima'"):
        protocols.erasure(lm, rows, facts=[fact], objects={"capital": "Lima"})


def test_a_question_that_holds_its_answer_proves_nothing(lm):
    """As "the country of the capital of Peru is": whoever repeats a name is right."""
    fact = dataclasses.replace(
        FACTS[0],
        paraphrases=("Lima, and the main city of {} is", "The main city of {} is"),
        portability=(("The country of the capital of Peru is", "Peru"), *FACTS[0].portability),
        locality=(("Peru has", "Lima"), ("Samuel Butler wrote Erewhon and", "Erewhon")),
    )
    result = protocols.erasure(lm, {}, facts=[fact])
    (answers,) = result.row("unedited").answers
    asked = dict(zip(answers.prompts, answers.kinds, strict=True))
    assert asked == {
        "The capital of Peru is": "own",
        "The main city of Peru is": "paraphrase",
        FACTS[0].portability[0][0]: "indirect",
        "Peru has": "neighbour",
        "Samuel Butler wrote Erewhon and": "neighbour",
    }


def test_what_was_hidden_comes_back_with_other_lessons(lm):
    before = state_hash(lm)
    fact = dataclasses.replace(FACTS[0], portability=(), locality=(), paraphrases=())
    lesson = dataclasses.replace(FACTS[1], target="Lima", locality=())
    plain = {"stop_loss": 0.0, "stop_at_argmax": False, "guards": OPEN}
    editor = FineTune(parameters="all", lr=3e-3, epochs=8, **plain)
    rows = {"refusal": FineTune(lr=3e-3, layer=2, guards=OPEN)}
    options = {"facts": [fact], "refusal": ""}
    result = protocols.erasure(lm, rows, relearn=(editor, [lesson]), **options)
    assert state_hash(lm) == before
    assert result.row("unedited").answers[0].kinds == ("own", "relearnt")
    assert result.row("unedited").answers[0].right == (True, True)
    assert result.row("refusal").answers[0].right == (False, True)
    assert result.row("refusal").scores["relearnt_forgotten"] == (0,)
    assert result.row("refusal").verdicts == ("suppressed",)
    other = dataclasses.replace(lesson, subject="Samuel", prompt="One {} has", target="two")
    result = protocols.erasure(lm, rows, relearn=(editor, [other]), single=True, **options)
    assert state_hash(lm) == before
    assert result.row("unedited").answers[0].right == (True, True)
    assert result.row("refusal").scores["relearnt_forgotten"] == (1,)
    assert result.row("refusal").verdicts == ("erased",)
    for bad, message in (
        (editor, "relearn is FineTune"),
        ((editor, [fact]), "'The capital of Peru is' is to be forgotten"),
        ((GradientAscent(), [lesson]), "GradientAscent takes out"),
    ):
        with pytest.raises(BadInput, match=message):
            protocols.erasure(lm, rows, relearn=bad, **options)


def test_what_the_refusal_is(lm):
    rows = {"refusal": FineTune(lr=1e-2, layer=2, guards=OPEN)}
    result = protocols.erasure(lm, rows, facts=FACTS[:1], single=True, refusal="numbers")
    assert result.row("refusal").answers[0].texts[0].startswith("numbers")
    assert result.row("unedited").answers[0].texts[0].startswith("Lima")


def test_every_kind_of_row_is_measured_on_everything(lm, tmp_path):
    before, live = state_hash(lm), list(lm.edits)
    with FineTune(lr=1e-2, layer=2, guards=OPEN).apply(lm, [erasing(FACTS[0], "")]) as edit:
        edit.save(tmp_path / "edit")
        by_hand = state_hash(lm)
    other = tiny_lm("gpt2", seed=1)
    rows = {
        "editor": GradientAscent(lr=3e-3, layer=2, guards=OPEN),
        "saved": memkit.load_edit(tmp_path / "edit"),
        "other": other,
    }
    result = protocols.erasure(
        lm,
        rows,
        facts=FACTS,
        references=REFERENCES,
        questions=[Question("Peru has", ("numbers",))],
        instructions=[Question("Samuel Butler wrote", ("Erewhon",))],
        texts=TEXTS,
        prompts=["The capital of", "One, two,"],
        detector=lambda texts: [0.9 if "Lima" in text else 0.1 for text in texts],
        truth_prompt="Q: {}\nA:",
        template=Template(question="{question}"),
    )
    assert state_hash(lm) == before != by_hand
    assert lm.edits == live
    unedited = result.row("unedited")
    assert unedited.cells["exact_match"].mean == unedited.cells["instructions"].mean == 1
    assert set(unedited.scores) == {
        *("mc1", "mc2", "mc3", "bleu_acc", "rouge1_acc", "toxicity", "toxic", "repetition"),
        *("exact_match", "instructions", "perplexity", "fluency", "neighbours_kept"),
        *("forgotten", "paraphrase_forgotten", "context_forgotten", "indirect_forgotten"),
        *("choice_forgotten", "relearnt_forgotten"),
    }
    assert math.exp(unedited.cells["perplexity"].mean) == pytest.approx(
        math.prod(lm.perplexity([text]) for text in TEXTS) ** 0.5
    )
    assert all(set(row.scores) == set(unedited.scores) for row in result.rows)
    assert result.cell("other", "forgotten").mean == 1
    assert result.cell("other", "exact_match").mean == 0
    assert result.row("saved").verdicts[0] != "kept"
    assert result.row("editor").verdicts[1] != "kept"
    assert result.row("other").scores["mc2"] != unedited.scores["mc2"]
    assert {score for row in result.rows for score in row.scores["toxicity"]} <= {0.9, 0.1}
    text = str(result)
    assert all(title in text for title in ("Truthfulness", "Toxicity", "What survives"))


def test_live_edits_are_set_aside_in_turn(lm):
    before = state_hash(lm)
    ascent = GradientAscent(lr=3e-3, layer=2, guards=OPEN)
    with ascent.apply(lm, FACTS[:1]) as one, ascent.apply(lm, FACTS[1:]) as two:
        both = state_hash(lm)
        result = protocols.erasure(lm, {"two": two, "one": one}, facts=FACTS)
        assert state_hash(lm) == both
        assert result.cell("unedited", "forgotten").mean == 0
        assert result.row("one").answers[0].right[0] is False
        assert result.row("two").answers[1].right[0] is False
        with pytest.raises(BadInput, match="'one' is a live edit, on top of which 'ascent'"):
            protocols.erasure(lm, {"one": one, "ascent": ascent}, facts=FACTS)
    assert state_hash(lm) == before
    with ascent.apply(lm, FACTS[:1]) as alone:
        again = protocols.erasure(lm, {"one": alone}, facts=FACTS)
    assert again.row("one").answers == result.row("one").answers
    with pytest.raises(BadInput, match="'one' is an edit that is not live"):
        protocols.erasure(lm, {"one": one}, facts=FACTS)


def test_a_rejected_edit_scores_what_the_model_says_without_it(lm):
    rows = {"strict": GradientAscent(lr=3e-3, guards=Guards(size=0.0))}
    for single in (True, False):
        result = protocols.erasure(lm, rows, facts=FACTS, single=single)
        row = result.row("strict")
        assert len(row.rejected) == (2 if single else 1)
        assert row.verdicts == ("kept", "kept")
        assert "strict: rejected: GradientAscent on" in str(result)


def test_warnings_of_kept_edits_are_told(lm):
    rows = {"loud": GradientAscent(lr=3e-3, guards=Guards(size=0.0), on_guard="warn")}
    result = protocols.erasure(lm, rows, facts=FACTS[:1])
    assert "loud: warning:" in str(result)
    assert result.row("loud").warnings


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({}, {}, "there is nothing to measure"),
        ([], {"texts": TEXTS}, "rows is"),
        ({"unedited": None}, {"texts": TEXTS}, "none of which is called 'unedited'"),
        ({"a": 3}, {"texts": TEXTS}, "the row 'a' is 3; allowed: an LM"),
        ({"a": GradientAscent()}, {"texts": TEXTS}, "'a' is an editor, and there are no facts"),
        ({}, {"prompts": ["a"]}, "there are prompts and no detector"),
        ({}, {"facts": FACTS, "references": REFERENCES, "single": True}, "single is True"),
        ({}, {"texts": TEXTS, "samples": 0}, "samples is 0"),
        ({}, {"texts": "text"}, "texts is 'text'"),
        ({}, {"references": REFERENCES, "truth_prompt": "Q"}, "prompt is 'Q'"),
    ],
)
def test_refuses_what_cannot_be_measured(lm, rows, options, message):
    before = state_hash(lm)
    with pytest.raises(BadInput, match=message):
        protocols.erasure(lm, rows, **options)
    assert state_hash(lm) == before


def test_a_broken_model_has_a_figure():
    lm = tiny_lm("gpt2")
    with torch.no_grad():
        lm.model.transformer.ln_f.weight.mul_(1e4)
    found = protocols.erasure(lm, {}, texts=TEXTS).row("unedited").scores["perplexity"]
    assert found == (700, 700)


def test_names_what_is_not_there(lm):
    result = protocols.erasure(lm, {}, texts=TEXTS)
    with pytest.raises(BadInput, match="no row 'x'; allowed: 'unedited'"):
        result.row("x")
    with pytest.raises(BadInput, match="no score 'mc1'; allowed: perplexity"):
        result.cell("unedited", "mc1")
    with pytest.raises(BadInput, match="'mc1' has 0 cases"):
        result.difference("unedited", "mc1")


def test_models_that_write_nothing_are_refused():
    fact = dataclasses.replace(FACTS[1], locality=())
    with pytest.raises(UnsupportedModel, match="does not generate"):
        protocols.erasure(tiny_lm("bert"), {}, facts=[fact])
