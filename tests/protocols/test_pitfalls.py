"""Pairs of edits: scores by hand, beliefs by a plain forward pass, real edits taken back."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from memkit import BadInput, Fact, FineTune, Guards
from memkit.benchmarks.pitfalls import ConflictCase, RoundCase
from memkit.protocols import pitfalls
from memkit.protocols.pitfalls import Belief
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}
FT = FineTune(parameters="all", lr=1e-2, epochs=30, **OPEN)


def fact(subject, target):
    return Fact(subject, "The capital of {} is", target, paraphrases=("{} has the capital",))


FIRST, SECOND = fact("Peru", "Paris"), fact("Peru", "words")
COVER = ConflictCase("coverage", FIRST, SECOND, SECOND)
REVERSE = ConflictCase("reverse", FIRST, SECOND, fact("France", "Paris"))
BOTH = ConflictCase("composite", FIRST, SECOND, fact("Peru", "three"), fact("France", "Lima"))
THERE = RoundCase(FIRST, fact("Peru", "Lima"), ("numbers", "three", "two"))


class Believing:
    """What is believed of a fact's (subject, target) after so many edits, from a table."""

    def __init__(self, table):
        self.table, self.edits, self.lm = table, [], None

    def of_all(self, facts):
        state = "".join(self.edits)
        return [self.table[state][f.subject, f.target] for f in facts]

    def of(self, fact):
        return self.of_all([fact])[0]


@pytest.fixture
def by_table(monkeypatch):
    """Score cases with beliefs from a table, by the targets of the edits that are live."""

    def score(cases, table, refused=()):
        belief = Believing(table)

        class Edit:
            def __init__(self, *_):
                belief.edits.clear()

            def add(self, facts):
                if facts[0].target in refused:
                    raise EditRejected("no")
                belief.edits.append(facts[0].target[0])

            def rollback(self):
                belief.edits.clear()

        from memkit.editors import base
        from memkit.errors import EditRejected

        monkeypatch.setattr(base, "Edit", Edit)
        monkeypatch.setitem(pitfalls.__globals__, "Belief", lambda *_: belief)
        editor = SimpleNamespace(fitted=lambda *_: (None, {}))
        return pitfalls(None, {"x": editor}, cases)

    return score


def test_conflicts_by_hand(by_table):
    table = {
        "": {("France", "Lima"): 0.5},
        "w": {("Peru", "Paris"): 0.3, ("Peru", "words"): 0.4},
        "P": {("Peru", "Paris"): 0.8},
        "Pw": {
            ("Peru", "Paris"): 0.2,
            ("Peru", "words"): 0.6,
            ("France", "Paris"): 0.1,
            ("Peru", "three"): 0.2,
            ("France", "Lima"): 0.4,
        },
    }
    found = by_table([COVER, REVERSE, BOTH], table)
    scores = {record.kind: record.scores for record in found.records["x"]}
    magnitude = pytest.approx((0.8 - 0.2) / 0.8)
    assert scores["coverage"] == {"succ": 1, "CS": 1, "CM": magnitude}
    assert scores["reverse"] == {"CS": 0, "CM": magnitude}
    assert scores["composite"] == {"CS": 0, "CM": magnitude, "TFD": pytest.approx(0.2)}
    table["Pw"]["Peru", "Paris"] = 8.0  # what was to go came to stay: bounded
    assert by_table([REVERSE], table).records["x"][0].scores["CM"] == -1


def test_a_round_by_hand(by_table):
    names = ("Lima", "numbers", "three", "two")
    before = dict(zip(names, (0.4, 0.2, 0.2, 0.2), strict=True))
    after = dict(zip(names, (0.4, 0.1, 0.1, 0.3), strict=True))
    of = {"": before, "P": {"Paris": 0.5, "Lima": 0.1}, "PL": {**after, "Paris": 0.6}}
    table = {state: {("Peru", k): v for k, v in own.items()} for state, own in of.items()}
    scores = by_table([THERE], table).records["x"][0].scores
    assert scores["succ"] == 0.5  # learnt, and not taken back: 0.4 < 0.6
    assert scores["IR"] == pytest.approx(2 / 3)
    assert scores["FR"] == 1
    p = torch.tensor([0.4, 0.2, 0.2, 0.2])
    q = torch.tensor([0.4, 0.1, 0.1, 0.3]) / 0.9
    middle = ((p + q) / 2).log()
    halves = [torch.nn.functional.kl_div(middle, x, reduction="sum") for x in (p, q)]
    assert scores["D"] == pytest.approx(float(sum(halves)) / 2, abs=1e-7)
    batch = [torch.nn.functional.kl_div(middle, x, reduction="batchmean") for x in (p, q)]
    assert scores["D / n"] == pytest.approx(float(sum(batch)) / 2, abs=1e-7)


def test_a_refused_edit_is_not_made(by_table):
    table = {"P": {("Peru", "Paris"): 0.8, ("France", "Paris"): 0.1}}
    found = by_table([REVERSE], table, refused=("words",))
    record = found.records["x"][0]
    assert (record.scores, record.rejected) == ({"CS": 0, "CM": 0}, 1)
    assert "x: 1 edits refused" in str(found)


def test_a_belief_is_the_mean_over_wordings_of_a_token_mean():
    lm = tiny_lm("gpt2")
    own = []
    for prompt in ("The capital of Peru is", "Peru has the capital"):
        given, target = lm.tokenizer(prompt)["input_ids"], lm.tokenizer(" Oslo")["input_ids"]
        assert len(target) > 1
        with torch.no_grad():
            logits = lm.model(torch.tensor([given + target])).logits[0].log_softmax(-1)
        rows = [float(logits[len(given) + i - 1, token]) for i, token in enumerate(target)]
        own.append(math.exp(sum(rows) / len(rows)))
    assert Belief(lm, 4).of(fact("Peru", "Oslo")) == pytest.approx(sum(own) / 2)


def test_real_edits_are_taken_back():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    found = pitfalls(lm, FT, [COVER, REVERSE, BOTH, THERE])
    assert state_hash(lm) == before
    cells = found.cells["FineTune"]
    assert cells["coverage"]["succ"].mean == 1
    assert cells["coverage"]["CS"].mean == 1
    assert 0 < cells["coverage"]["CM"].mean <= 1
    assert set(cells["round"]) == {"succ", "D", "D / n", "IR", "FR"}
    assert "composite (1)" in str(found)
    assert found.to_dict()["records"]["FineTune"][0]["kind"] == "coverage"
    # by hand: what was learnt first is left after the second
    with FT.apply(lm, [FIRST]) as edit:
        learnt = Belief(lm, 4).of(FIRST)
        edit.add([SECOND])
        left = Belief(lm, 4).of(FIRST)
    assert cells["coverage"]["CM"].mean == pytest.approx((learnt - left) / learnt, abs=1e-5)


def test_refuses():
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match="no cases; allowed: at least one ConflictCase and Round"):
        pitfalls(lm, FT, [])
    with pytest.raises(BadInput, match="no editors"):
        pitfalls(lm, {}, [COVER])
    with pytest.raises(BadInput, match="cases holds"):
        pitfalls(lm, FT, [FIRST])
