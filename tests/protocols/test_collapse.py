"""Collapse alarms: a destructive edit rings, a mild one does not, and what is undone is undone."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch

from memkit import GRACE, LM, BadInput, EditRejected, Fact, FineTune, Guards, Question, benchmarks
from memkit import world as worlds
from memkit.editors.base import Draft, Editor, Made
from memkit.errors import UnsupportedModel
from memkit.protocols import collapse
from memkit.protocols.collapse import Watch
from memkit.protocols.collapse_result import Alarm, Vitals
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}
TEXTS = ("The capital of France is Paris, and the capital of Peru is Lima.", "One, two, three.")
FACTS = tuple(
    Fact(place, "The capital of {} is", "numbers", id=str(i))
    for i, place in enumerate(("Peru", "France", "Paris", "Lima"))
)
HEALTHY = Vitals(2.0, {"w": 1.0}, {"w": 1.0}, 1.0)


@dataclass(frozen=True, kw_only=True)
class Nudge(Editor):
    """Adds `sizes` (by the fact's subject, else nothing worth a word) to a weight."""

    kinds: ClassVar = ("decoder",)
    guards: Guards = OPEN["guards"]
    sizes: dict[str, float] = field(default_factory=dict, hash=False)

    def write(self, draft: Draft) -> Made:
        subject = draft.facts[0].subject
        if self.sizes.get(subject) == math.inf:
            raise RuntimeError("the power is off")
        site = draft.lm.layout.site(draft.lm.model, 0)
        d_out, d_in = site.weight.shape
        left = torch.zeros(d_out, 1)
        left[:4] = self.sizes.get(subject, 1e-4)
        draft.add(site, left, torch.ones(d_in, 1))
        return Made(warnings=["far too much"] if self.sizes.get(subject) == 1000 else [])


def test_a_destructive_edit_rings_and_a_mild_one_does_not():
    world = benchmarks.load("miniworld")
    lm = LM.load(worlds.shipped(), device="cpu")
    before = state_hash(lm)
    facts = worlds.modifications(world, 3)
    texts = world.passages[:8]
    changed = {fact.subject for fact in facts}
    canaries = [q for q in world.questions if q.popularity and q.subject not in changed]
    canaries = sorted(canaries, key=lambda question: -question.popularity)[:6]
    found = collapse(lm, FineTune(lr=0.1, **OPEN), facts, texts, canaries=canaries)
    (row,) = found.trace
    assert found.base.perplexity < 4
    assert row.vitals.perplexity > 10 * found.base.perplexity
    assert row.alarms[0].startswith("perplexity")
    assert row.vitals.canaries < 1.0 == found.base.canaries
    assert found.left == 2
    assert state_hash(lm) == before
    mild = collapse(lm, GRACE(**OPEN), facts, texts, canaries=canaries)
    assert not mild.rang
    assert [row.kept for row in mild.trace] == [True] * 3
    assert all(row.vitals.canaries == 1.0 for row in mild.trace)
    assert mild.trace[-1].vitals.norms == {}  # no weight was touched
    assert state_hash(lm) == before


def test_the_figures_are_those_of_numpy():
    lm = tiny_lm("gpt2")
    site = lm.layout.site(lm.model, 0)
    base = site.weight.detach().numpy().astype(float).copy()
    base_perplexity = lm.perplexity(TEXTS)
    edit = Nudge(sizes={"Peru": 0.5}).apply(lm, FACTS[:1])
    seen = Watch(lm, TEXTS).look(edit)
    now = site.weight.detach().numpy().astype(float)
    assert not np.allclose(now, base)
    (name,) = seen.norms
    assert seen.norms[name] == pytest.approx(np.linalg.norm(now) / np.linalg.norm(base), rel=1e-5)
    conditions = np.linalg.cond(now) / np.linalg.cond(base)
    assert seen.conditions[name] == pytest.approx(conditions, rel=1e-3)
    assert seen.perplexity == lm.perplexity(TEXTS) != base_perplexity
    assert Watch(lm, TEXTS, conditions=False).look(edit).conditions == {}
    assert seen.canaries is None
    edit.rollback()
    assert Watch(lm, TEXTS).look().perplexity == base_perplexity


@pytest.mark.parametrize(
    ("vitals", "message"),
    [
        (HEALTHY, None),
        (dataclasses.replace(HEALTHY, perplexity=10.0), None),  # five times: at the bound
        (dataclasses.replace(HEALTHY, perplexity=10.1), "perplexity 10.1 is 5.05 times"),
        (dataclasses.replace(HEALTHY, perplexity=math.inf), "perplexity inf"),
        (dataclasses.replace(HEALTHY, perplexity=math.nan), "perplexity nan"),
        (dataclasses.replace(HEALTHY, norms={"w": 4.1}), "the norm of w is 4.1 times"),
        (dataclasses.replace(HEALTHY, norms={"w": math.nan}), "the norm of w is nan"),
        (dataclasses.replace(HEALTHY, conditions={"w": 101}), "the condition of w is 101"),
        (dataclasses.replace(HEALTHY, canaries=0.5), None),
        (dataclasses.replace(HEALTHY, canaries=0.4), "40% of the canaries"),
        (dataclasses.replace(HEALTHY, canaries=None), None),
    ],
)
def test_what_rings(vitals, message):
    rang = Alarm().rings(vitals, HEALTHY)
    assert len(rang) == (message is not None)
    assert message is None or message in rang[0]
    off = Alarm(perplexity=math.inf, norm=math.inf, condition=math.inf, canaries=0)
    if vitals.perplexity == vitals.perplexity:
        assert off.rings(vitals, HEALTHY) == ()


def test_stops_at_the_edit_that_rings():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    found = collapse(lm, Nudge(sizes={"France": 100.0}), FACTS, TEXTS, alarm=Alarm(perplexity=3))
    assert [bool(row.alarms) for row in found.trace] == [False, True]
    assert found.left == 2
    assert state_hash(lm) == before


def test_rolls_back_to_the_last_healthy_bytes_and_goes_on():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    sizes = {"France": 100.0, "Lima": 100.0}
    editor = Nudge(sizes=sizes)
    with editor.apply(lm, FACTS[:1]) as edit:
        edit.add([FACTS[2]])
        healthy = state_hash(lm)
        assert healthy != before
    assert state_hash(lm) == before
    edit = editor.apply(lm, FACTS[:1])
    found = collapse(lm, edit, FACTS[1:], TEXTS, on_alarm="rollback")
    assert [row.kept for row in found.trace] == [False, True, False]
    assert [step.facts[0].subject for step in edit.steps] == ["Peru", "Paris"]
    assert state_hash(lm) == healthy
    edit.rollback()
    assert state_hash(lm) == before


def test_a_live_edit_stays_as_the_stream_left_it():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    base = lm.perplexity(TEXTS)
    edit = Nudge(sizes={"Peru": 0.3, "France": 100.0}).apply(lm, FACTS[:1])
    assert lm.perplexity(TEXTS) != base
    found = collapse(lm, edit, FACTS[1:], TEXTS)
    assert found.base.perplexity == base  # the model without the edit, not as it was found
    assert len(edit.steps) == 2
    edit.undo()
    edit.rollback()
    assert state_hash(lm) == before


def test_an_error_takes_back_what_was_added():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    editor = Nudge(sizes={"Paris": math.inf})
    with pytest.raises(RuntimeError, match="the power is off"):
        collapse(lm, editor, FACTS, TEXTS)
    assert state_hash(lm) == before
    edit = editor.apply(lm, FACTS[:1])
    first = state_hash(lm)
    with pytest.raises(RuntimeError, match="the power is off"):
        collapse(lm, edit, FACTS[1:], TEXTS)
    assert state_hash(lm) == first != before
    edit.rollback()


def test_what_a_guard_refuses_is_noted_and_the_stream_goes_on(tmp_path):
    lm = tiny_lm("gpt2")
    editor = Nudge(sizes={"France": 1000.0})
    with pytest.raises(EditRejected):
        editor.apply(lm, [FACTS[1]])
    found = collapse(lm, editor, FACTS, TEXTS)
    assert [row.rejected is None for row in found.trace] == [True, False, True, True]
    assert found.trace[1].vitals is None
    shown = str(found)
    assert "refused by a guard" in shown
    assert "4 facts came, 3 edits kept, 0 alarms" in shown
    assert json.loads(json.dumps(found.to_dict()))["trace"][1]["kept"] is False
    found.plot(tmp_path / "trace.svg")
    assert (tmp_path / "trace.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_report_names_the_alarm():
    found = collapse(tiny_lm("gpt2"), Nudge(sizes={"Peru": 100.0}), FACTS, TEXTS)
    shown = str(found)
    assert "ALARM" in shown
    assert "edit 1: the norm of transformer.h.0.mlp.c_proj.weight is" in shown
    assert "3 facts not tried" in shown


def test_only_canaries_that_were_known_count():
    lm = tiny_lm("gpt2")
    said = lm.generate(["Q: One? A:"], 4, stop=("\n", "."))[0].strip()
    known, unknown = Question("One?", (said,)), Question("Two?", ("no such answer",))
    how = {"max_new_tokens": 4}
    found = collapse(lm, Nudge(), FACTS[:1], TEXTS, canaries=[known, unknown], **how)
    assert found.canaries == 1
    assert found.base.canaries == 1.0
    with pytest.raises(BadInput, match="none of 1 canaries"):
        collapse(lm, Nudge(), FACTS[:1], TEXTS, canaries=[unknown], **how)
    with pytest.raises(BadInput, match="has no answers"):
        collapse(lm, Nudge(), FACTS[:1], TEXTS, canaries=[Question("What?")], **how)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"on_alarm": "shout"}, "on_alarm is 'shout'; allowed: 'stop' or 'rollback'"),
        ({"facts": ()}, "facts"),
        ({"texts": ()}, "no token to predict"),
        ({"texts": "one text"}, "Put one string into brackets"),
        ({"texts": ["one", 2]}, r"texts\[1\] is 2"),
        ({"fit_on": 0}, "fit_on is 0"),
    ],
)
def test_refuses(change, message):
    given = {"facts": FACTS, "texts": TEXTS, **change}
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    with pytest.raises(BadInput, match=message):
        collapse(lm, Nudge(), given.pop("facts"), given.pop("texts"), **given)
    assert state_hash(lm) == before


def test_refuses_bounds_other_models_and_foreign_edits():
    with pytest.raises(BadInput, match=r"Alarm\.perplexity is nan"):
        Alarm(perplexity=math.nan)
    with pytest.raises(BadInput, match=r"Alarm\.canaries is 2"):
        Alarm(canaries=2)
    with pytest.raises(UnsupportedModel, match="perplexity"):
        collapse(tiny_lm("t5"), FineTune(**OPEN), FACTS, TEXTS)
    edit = Nudge().apply(tiny_lm("gpt2"), FACTS[:1])
    with pytest.raises(BadInput, match="edit of another model"):
        collapse(tiny_lm("gpt2"), edit, FACTS, TEXTS)


def test_a_perplexity_beyond_all_numbers_is_infinite():
    lm = tiny_lm("gpt2")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.mul_(1e4)
    assert lm.perplexity(TEXTS) == math.inf
