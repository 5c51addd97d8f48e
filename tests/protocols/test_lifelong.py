"""Lifelong editing: the columns by hand, on models of three kinds, and after a kill."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from memkit import (
    GRACE,
    ROME,
    Defer,
    Fact,
    FineTune,
    FineTuneEWC,
    FineTuneRetrain,
    Guards,
    Memory,
    Question,
    Statistics,
    protocols,
)
from memkit.benchmarks.base import Stream
from memkit.editors.base import Draft, Editor, Made
from memkit.errors import BadInput, UnsupportedModel
from memkit.protocols import lifelong_judges
from memkit.protocols.lifelong_judges import JUDGES, ByF1
from memkit.protocols.lifelong_result import LifelongResult, summary
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=math.inf, size=math.inf)
SMALL = Guards(perplexity=math.inf, size=1.0)
PLACES = ("Peru", "France", "Paris", "Lima", "Butler", "Erewhon")
FACTS = tuple(
    Fact(place, "The capital of {} is", "numbers" if i % 2 else "words and", id=str(i))
    for i, place in enumerate(PLACES)
)
ASKED = tuple(
    Question(f"{fact.subject}, and the capital", answers=(fact.target,), id=fact.id)
    for fact in FACTS
)
UPSTREAM = (
    Question("Who wrote Erewhon?", answers=("Samuel Butler",)),
    Question("One, two", answers=("three",)),
)
STREAM = Stream("tiny", "f1", FACTS, UPSTREAM, ASKED)


def grace(**how) -> GRACE:
    return GRACE(**{"eps": 0.05, "steps": 8, "layer": 1, "guards": OPEN, **how})


@dataclass(frozen=True, kw_only=True)
class Nudge(Editor):
    """Changes a weight a little, or enough to be refused where the subject is `refused`."""

    kinds: ClassVar = ("decoder", "encoder-decoder")
    guards: Guards = SMALL
    refused: str = ""

    def write(self, draft: Draft) -> Made:
        site = draft.lm.layout.site(draft.lm.model, 0)
        size = 100.0 if draft.facts[0].subject == self.refused else 1e-4
        d_out, d_in = site.weight.shape
        draft.add(site, size * torch.ones(d_out, 1), torch.ones(d_in, 1))
        return Made()


SCORES = {  # of each prompt after 0, 1, 2, ... steps that were kept
    "The capital of Peru is": [0.0, 1.0, 0.5, 0.5, 0.5],
    "The capital of France is": [0.25, 1.0, 1.0, 1.0, 1.0],  # wrong, then right by itself
    "The capital of Paris is": [0.0, 0.0, 0.75, 0.25, 0.25],
    "The capital of Lima is": [0.0, 0.0, 0.0, 0.125, 0.125],
    "Who wrote Erewhon?": [1.0, 1.0, 0.5, 0.25, 0.0],
    "One, two": [0.5, 0.5, 0.5, 0.5, 0.5],
    "Peru, and the capital": [0.0, 0.5, 0.5, 0.5, 0.5],
    "France, and the capital": [0.0, 0.0, 0.0, 0.75, 0.75],
    "Paris, and the capital": [0.25] * 5,
    "Lima, and the capital": [1.0] * 5,
    "always asked": [0.0, 0.0, 1.0, 1.0, 1.0],
    "known before": [1.0, 1.0, 0.5, 0.5, 0.5],
}


class ByTable(ByF1):
    """Scores from the table above, by how many steps are live."""

    def scores(self, cases):
        steps = sum(len(edit.steps) for edit in self.lm.edits)
        return [SCORES[case.prompt][steps] for case in cases]

    def wrong(self, case):
        return self.scores([case])[0] < 1


@pytest.fixture
def by_table(monkeypatch):
    monkeypatch.setitem(JUDGES, "f1", ByTable)


@pytest.fixture
def table_stream():
    extra = Question("always asked", answers=("x",))
    return Stream(
        "table",
        "f1",
        FACTS[:4],
        UPSTREAM,
        (*ASKED[:4], extra),
        (Question("known before", answers=("y",)),),
    )


def means(checkpoint):
    return {name: cell.mean for name, cell in checkpoint.cells.items()}


def test_the_columns_by_hand(by_table, table_stream):
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    found = protocols.lifelong(lm, Nudge(), table_stream, every=2)
    assert [record.wrong for record in found.records] == [True, False, True, True]
    assert [record.score for record in found.records] == [1.0, None, 0.75, 0.125]
    unedited, second, third = found.checkpoints
    assert (second.edits, second.seen) == (2, 3)
    assert (third.edits, third.seen) == (3, 4)
    # after two steps Peru, France and Paris came; Peru and Paris were edited
    assert means(second) == pytest.approx(
        {
            "TRR": (0.5 + 0.5) / 2,
            "ERR": (0.5 + 0.75) / 2,
            "ES": (1.0 + 0.75) / 2,
            "ARR": 0.5,
            "holdout": (0.5 + 0.0 + 0.25 + 1.0) / 4,  # the last one is always asked
        }
    )
    assert means(third) == pytest.approx(
        {
            "TRR": (0.25 + 0.5) / 2,
            "ERR": (0.5 + 0.25 + 0.125) / 3,
            "ES": (1.0 + 0.75 + 0.125) / 3,
            "ARR": 0.5,
            "holdout": (0.5 + 0.75 + 0.25 + 1.0 + 1.0) / 5,
        }
    )
    # the unedited model on the cases of the last checkpoint
    assert means(unedited) == pytest.approx(
        {"TRR": 0.75, "ERR": 0.0, "ARR": 1.0, "holdout": (0 + 0 + 0.25 + 1 + 0) / 5}
    )
    assert found.average == pytest.approx((0.375 + 0.875 / 3) / 2)
    assert state_hash(lm) == before
    assert lm.edits == []


def test_a_refused_edit_counts_as_one_that_was_not_kept(by_table, table_stream):
    lm = tiny_lm("gpt2")
    found = protocols.lifelong(lm, Nudge(refused="Paris"), table_stream)
    assert [record.rejected is not None for record in found.records] == [False, False, True, False]
    assert "Guards.size" in found.records[2].rejected
    assert found.records[2].score == 0.0
    assert found.records[2].seconds is None
    assert found.final.rejected == 1
    assert found.final.edits == 3
    # two steps are live at the end
    assert means(found.final)["ERR"] == pytest.approx((0.5 + 0.75 + 0.0) / 3)


def test_the_number_of_edits_is_a_bound(by_table, table_stream):
    found = protocols.lifelong(tiny_lm("gpt2"), Nudge(), table_stream, edits=2, every=1)
    assert [row.edits for row in found.checkpoints] == [0, 1, 2]
    assert len(found.records) == 3


def test_a_prompt_that_comes_again_counts_by_its_newest_target(monkeypatch):
    monkeypatch.setitem(JUDGES, "f1", ByTable)
    asked = []
    scores = ByTable.scores

    def noting(self, cases):
        asked.append([(case.prompt, case.answers) for case in cases])
        return scores(self, cases)

    monkeypatch.setattr(ByTable, "scores", noting)
    again = dataclasses.replace(FACTS[2], target="numbers")
    stream = Stream("again", "f1", (FACTS[2], again), UPSTREAM)
    protocols.lifelong(tiny_lm("gpt2"), Nudge(), stream)
    assert [("The capital of Paris is", ("numbers",))] in asked
    assert all(len(cases) <= 2 for cases in asked)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_f1_is_that_of_free_generation(family):
    from memkit.metrics import token_f1

    lm = tiny_lm(family)
    said = lm.generate([fact.text for fact in FACTS])
    right = dataclasses.replace(FACTS[0], target=said[0].strip().split(".")[0] or "x")
    stream = dataclasses.replace(STREAM, edits=(right, *FACTS[1:]))
    found = protocols.lifelong(lm, grace(), stream, every=3)
    assert not found.records[0].wrong  # what it says already
    assert all(record.wrong for record in found.records[1:])
    asked = lm.generate([question.text for question in UPSTREAM])
    expected = [
        token_f1(text.split(".")[0], question.answers)
        for text, question in zip(asked, UPSTREAM, strict=True)
    ]
    assert found.unedited.scores["TRR"] == pytest.approx(expected)
    assert found.final.keys == len(FACTS) - 1
    assert found.final.seconds > 0


def test_the_official_rules_edit_always_and_count_the_end_token():
    lm = tiny_lm("t5")
    said = lm.generate([FACTS[0].text])[0]
    stream = dataclasses.replace(STREAM, edits=(dataclasses.replace(FACTS[0], target=said),))
    assert not protocols.lifelong(lm, grace(), stream).records[0].wrong
    official = protocols.lifelong(lm, grace(), stream, rules="official")
    assert official.records[0].wrong
    (done,) = lm.complete([UPSTREAM[0].text], stop="\n")
    target = [*lm.codec.target("Samuel Butler"), lm.tokenizer.eos_token_id]
    shared = len(set(done.tokens) & set(target))
    expected = 2 * shared / (len(done.tokens) + len(target))
    assert official.unedited.scores["TRR"][0] == pytest.approx(expected)


def test_a_classifier_is_edited_where_its_label_is_wrong():
    lm = tiny_lm("bert", head="BertForSequenceClassification")
    labels = list(lm.model.config.label2id)
    long = " words and numbers" * 60  # beyond the window of 64
    texts = [f"{place} wrote{long}" for place in PLACES]
    first = lm.codec.shorten(texts[0], lm.window)
    now = max(labels, key=lambda name: lm.logprob([first], [name])[0].total)
    other = next(label for label in labels if label != now)
    edits = [
        Fact(place, text, label, id=place)
        for place, text, label in zip(PLACES, texts, [other] * 3 + [now] * 3, strict=True)
    ]
    stream = Stream("documents", "accuracy", tuple(edits), (Question(texts[0], answers=(now,)),))
    found = protocols.lifelong(lm, grace(layer=1), stream)
    assert found.records[0].wrong
    assert found.unedited.cells["TRR"].mean == 1.0
    for record in found.records:
        text = texts[record.place]
        assert text.startswith(record.prompt)
        assert len(lm.codec.prompt(record.prompt)) <= lm.window < len(lm.codec.prompt(text))


def test_perplexity_is_the_exponential_of_the_loss():
    lm = tiny_lm("gpt2")
    stream = Stream("texts", "perplexity", FACTS[:2], UPSTREAM, accurate=ASKED[:2])
    found = protocols.lifelong(lm, grace(), stream)
    scored = lm.logprob([q.text for q in UPSTREAM], [f" {q.answers[0]}" for q in UPSTREAM])
    nats = [-score.total / len(score.tokens) for score in scored]
    assert found.unedited.scores["TRR"] == pytest.approx(nats)
    assert found.unedited.cells["TRR"].mean == pytest.approx(math.exp(np.mean(nats)))
    assert set(found.final.cells) == {"TRR", "ERR", "ES", "ARR"}
    assert found.final.cells["ERR"].mean < found.unedited.cells["ERR"].mean
    assert all(record.wrong for record in found.records)
    official = protocols.lifelong(lm, grace(), stream, rules="official")
    assert official.unedited.cells["TRR"].mean == pytest.approx(np.mean(np.exp(nats)))


def test_a_long_text_is_cut_to_the_window():
    lm = tiny_lm("gpt2")
    long = Question("One", answers=("words and numbers " * 60,))
    stream = Stream("texts", "perplexity", FACTS[:1], (long,))
    assert protocols.lifelong(lm, grace(), stream).unedited.scores["TRR"][0] > 0
    full = Question("words and numbers " * 60, answers=("x",))
    with pytest.raises(BadInput, match=r"leaves .* tokens for its answer"):
        protocols.lifelong(lm, grace(), dataclasses.replace(stream, upstream=(full,)))


def test_a_mean_of_perplexities():
    nats = [0.0, math.log(4)]
    assert summary(nats, "perplexity", "memkit", 100, 0).mean == pytest.approx(2.0)
    assert summary(nats, "perplexity", "official", 100, 0).mean == pytest.approx(2.5)
    assert summary([0.0, 1.0], "f1", "memkit", 100, 0).mean == 0.5


EDITORS = {
    "grace": grace(),
    "defer": Defer(layer=1, steps=5, guards=OPEN),
    "memory": Memory(layer=1, steps=5, guards=OPEN),
    "ft": FineTune(layer=1, epochs=3, lr=1e-2, guards=OPEN),
    "ewc": FineTuneEWC(layer=1, epochs=3, lr=1e-2, guards=OPEN),
    "retrain": FineTuneRetrain(layer=1, epochs=3, lr=1e-2, every=3, guards=OPEN),
    "rome": ROME(
        layer=1,
        steps=3,
        lr=0.1,
        clamp=4.0,
        decay=0.1,
        on_guard="warn",
        statistics=Statistics(tokens=200, ridge=0.1),
    ),
}


def figures(result: LifelongResult) -> dict:
    """All but times."""
    values = result.to_dict()
    for row in (*values["checkpoints"], *values["records"]):
        row.pop("seconds")
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("name", EDITORS)
def test_a_killed_run_goes_on_with_the_same_figures(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path / "cache"))
    lm, editor = tiny_lm("gpt2"), EDITORS[name]
    before = state_hash(lm)
    whole = protocols.lifelong(lm, editor, STREAM, every=2, samples=50)
    written = []
    write = type(editor).write

    def dying(own, draft):
        written.append(draft.facts[0].subject)
        if len(written) == 4:
            raise KeyboardInterrupt
        return write(own, draft)

    with monkeypatch.context() as patch:
        patch.setattr(type(editor), "write", dying)
        with pytest.raises(KeyboardInterrupt):
            protocols.lifelong(lm, editor, STREAM, every=2, samples=50, out=tmp_path / "run")
    assert state_hash(lm) == before
    assert lm.edits == []
    (kept,) = (tmp_path / "run").iterdir()
    assert kept.name == "checkpoint-000002"
    noted = []

    def noting(own, draft):
        noted.append(draft.facts[0].subject)
        return write(own, draft)

    monkeypatch.setattr(type(editor), "write", noting)
    resumed = protocols.lifelong(lm, editor, STREAM, every=2, samples=50, out=tmp_path / "run")
    assert noted == list(PLACES[2:])
    assert figures(resumed) == figures(whole)
    assert state_hash(lm) == before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result.json"]
    again = protocols.lifelong(lm, editor, STREAM, every=2, samples=50, out=tmp_path / "run")
    assert len(noted) == 4
    assert again == resumed


def test_a_folder_of_another_run_is_refused(tmp_path):
    lm = tiny_lm("gpt2")
    protocols.lifelong(lm, Nudge(), STREAM, out=tmp_path / "run")
    for what, how in (
        ("given", {"editor": Nudge(seed=1)}),
        ("stream", {"stream": dataclasses.replace(STREAM, edits=FACTS[1:])}),
        ("every", {"every": 3}),
        ("weights", {"lm": tiny_lm("gpt2", seed=1)}),
    ):
        call = {"lm": lm, "editor": Nudge(), "stream": STREAM, **how}
        with pytest.raises(BadInput, match=f"holds a run whose {what} is"):
            protocols.lifelong(**call, out=tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read as a lifelong result"):
        protocols.lifelong(lm, Nudge(), STREAM, out=tmp_path / "run")


def test_bad_input_is_named_before_anything_is_changed(tmp_path):
    lm, bert = tiny_lm("gpt2"), tiny_lm("bert", head="BertForSequenceClassification")
    before = state_hash(lm), state_hash(bert)
    for stream in (
        dataclasses.replace(STREAM, edits=()),
        dataclasses.replace(STREAM, upstream=()),
    ):
        with pytest.raises(BadInput, match="at least one of each"):
            protocols.lifelong(lm, grace(), stream, out=tmp_path / "run")
    nothing = dataclasses.replace(STREAM, upstream=(Question("Who?"),))
    with pytest.raises(BadInput, match=r"'Who\?' has no answers"):
        protocols.lifelong(lm, grace(), nothing)
    labels = Stream("documents", "accuracy", FACTS[:1], UPSTREAM)
    with pytest.raises(UnsupportedModel, match="allowed for this stream's metric: classifier"):
        protocols.lifelong(lm, grace(), labels)
    with pytest.raises(BadInput, match="is no label; allowed: 'LABEL_0', 'LABEL_1'"):
        protocols.lifelong(bert, grace(), labels)
    with pytest.raises(UnsupportedModel, match="ROME does not serve"):
        protocols.lifelong(tiny_lm("t5"), EDITORS["rome"], STREAM)
    with pytest.raises(BadInput, match="layer"):
        protocols.lifelong(lm, grace(layer=9), STREAM)
    with pytest.raises(BadInput, match="Did you mean 1"):
        protocols.lifelong(lm, grace(layer="transformer.h[1].mlp.c_prj"), STREAM)
    with pytest.raises(BadInput, match="rules is 'strict'"):
        protocols.lifelong(lm, grace(), STREAM, rules="strict")
    with pytest.raises(BadInput, match="every is 0"):
        protocols.lifelong(lm, grace(), STREAM, every=0)
    assert (state_hash(lm), state_hash(bert)) == before
    assert not list(tmp_path.iterdir())


def test_the_table_and_the_picture(tmp_path):
    found = protocols.lifelong(tiny_lm("gpt2"), grace(), STREAM, every=2, samples=50)
    text = str(found)
    assert "6 edits of 6 facts, 0 refused by a guard; f1: more is better" in text
    header, *rows = text.split("\n\n")[1].split("\n")
    assert header.split() == ["edits", "TRR", "ERR", "ES", "holdout", "keys", "s", "/", "edit"]
    assert [row.split()[0] for row in rows] == ["0", "2", "4", "6"]
    found.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert set(JUDGES) == {"f1", "accuracy", "perplexity"}
    assert math.isfinite(math.exp(lifelong_judges.LONGEST))
