"""Long texts after an edit: scores by hand, a judge, and real edits taken back."""

from __future__ import annotations

import math

import pytest

from memkit import BadInput, Fact, FineTune, Guards
from memkit.benchmarks.leme import Claim, LongFormCase
from memkit.protocols import agreement, longform
from memkit.protocols.told import Heard
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}
CASE = LongFormCase(
    Fact("Erewhon", "{} is in", "Lima", previous="Paris"),
    "Write about Erewhon\n\nErewhon",
    {"author": ("Butler", "Samuel"), "words": ("three",)},
    "Peru",
    "Write about Peru\n\nPeru",
    {"capital": ("Lima",)},
    id="7",
)


def test_scores_by_hand(monkeypatch):
    texts = {
        "unedited": ("is in Paris, by Samuel.", "has words."),
        "x": ("is in Lima.", "has three words and Lima."),
    }
    heard = {arm: Heard((own,)) for arm, own in texts.items()}
    monkeypatch.setitem(longform.__globals__, "hear", lambda *_: heard)
    lm = tiny_lm("gpt2")
    found = longform(lm, {}, [CASE])
    means = {arm: {n: cell.mean for n, cell in own.items()} for arm, own in found.cells.items()}
    names = ("main new", "main old", "related new", "related old", "main known", "related known")
    assert [means["unedited"][name] for name in names] == [0, 1, 0, 0, 0.5, 0]
    assert [means["x"][name] for name in names] == [1, 0, 1, 0, 0, 1]
    # "Erewhon is in Lima" and the same text; three of its four words
    assert means["x"]["main new rougeL"] == 1
    assert means["x"]["main old rougeL"] == pytest.approx(0.75)
    assert means["x"]["nll"] == pytest.approx(
        math.log(lm.perplexity(["Erewhon is in Lima.", "Peru has three words and Lima."]))
    )
    assert found.records[0].answers["x"][0] == "Erewhon is in Lima."
    assert "supported" not in str(found)


def by_words(pairs):
    """Supports what it spells, contradicts what it does not mention, is else neutral."""
    labels = []
    for passage, claim in pairs:
        last = claim.split()[-1].strip(".")
        same = claim.strip(".") in passage
        labels.append("supports" if same else "neutral" if last in passage else "contradicts")
    return labels


def test_a_judge_is_asked_for_every_claim(monkeypatch):
    heard = {"unedited": Heard((("is in Lima. Samuel", "is big"),))}
    monkeypatch.setitem(longform.__globals__, "hear", lambda *_: heard)
    asked = []

    def judge(pairs):
        asked.extend(claim for _, claim in pairs)
        return by_words(pairs)

    cells = longform(tiny_lm("gpt2"), {}, [CASE], judge=judge).cells["unedited"]
    assert cells["main new supported"].mean == 1
    assert cells["main old contradicted"].mean == 1
    assert cells["main known supported"].mean == 0
    assert cells["main known contradicted"].mean == 0.5
    # what is known of the related entity is claimed of that one
    assert "Peru capital Lima" in asked
    with pytest.raises(BadInput, match="the judge gave"):
        longform(tiny_lm("gpt2"), {}, [CASE], judge=lambda pairs: ["yes"] * len(pairs))


def test_texts_are_written_by_the_edited_model_and_it_is_put_back():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    editor = FineTune(parameters="all", lr=1e-2, epochs=20, **OPEN)
    found = longform(lm, {"FT": editor}, [CASE], max_new_tokens=8)
    assert state_hash(lm) == before
    written = found.records[0].answers
    assert list(written) == ["unedited", "FT", "in the prompt"]
    assert written["FT"] != written["unedited"]
    with editor.apply(lm, [CASE.fact]):
        said = lm.generate([CASE.prompt], 8, ())[0].strip()
    assert written["FT"][0] == f"Erewhon {said}".strip()
    told = lm.generate([f"Erewhon is in Lima.\n{CASE.prompt}"], 8, ())[0].strip()
    assert written["in the prompt"][0] == f"Erewhon {told}".strip()


def claim(passage, text, label):
    return Claim(passage, text, label, "rome", "new", "s", "e")


def test_agreement_by_hand():
    claims = [
        claim("It is in Rome", "It is in Rome", "supports"),
        claim("It is in Rome", "It was in Rome", "supports"),
        claim("It is in Rome", "It is in Paris", "contradicts"),
        claim("It is in Rome", "He was in Rome", "neutral"),
    ]
    found = agreement(by_words, claims)
    assert found.accuracy.mean == 0.75
    # people: 2, 1, 1 of supports, contradicts, neutral; the judge: 1, 1, 2
    chance = (2 * 1 + 1 * 1 + 1 * 2) / 16
    assert found.kappa == pytest.approx((0.75 - chance) / (1 - chance))
    assert found.pairs["supports", "neutral"] == 1
    with pytest.raises(BadInput, match="no claims"):
        agreement(by_words, [])
    same = agreement(lambda pairs: ["supports"] * len(pairs), claims[:2])
    assert (same.accuracy.mean, same.kappa) == (1, 0)
