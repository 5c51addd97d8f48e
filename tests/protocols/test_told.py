"""Facts in time, and events: scores by hand, and real edits of small models."""

from __future__ import annotations

import math

import pytest

from memkit import BadInput, Fact, FineTune, Guards
from memkit.benchmarks.happenings import (
    Choice,
    Event,
    EventQuestion,
    TimedCase,
    TimedFact,
    TimedQuestion,
    Valid,
)
from memkit.protocols import events, temporal
from memkit.protocols.told import Heard
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}


def timed(name, since, until):
    fact = Fact("Peru", "The capital of {} is", name)
    return TimedFact(fact, Valid(since, until), f"In {since}, the capital of {{}} is")


CASE = TimedCase(
    (timed("words", 1, 2), timed("numbers", 3, 4)),
    (
        TimedQuestion("In 1, the capital of Peru is", ("words",), "historical", explicit=True),
        TimedQuestion("Peru was", ("words", "St. Words"), "historical", explicit=False),
        TimedQuestion("In 3, the capital of Peru is", ("numbers",), "current", explicit=True),
        TimedQuestion("The capital of Peru is", ("numbers",), "current", explicit=False),
    ),
    id="peru",
)
EVENT = Event(
    "Peru has words and numbers.",
    "Peru",
    questions=(EventQuestion("Who?", ("Bea", "B.")), EventQuestion("When?", ("unknown",))),
    local=(EventQuestion("What?", ()),),
    choices=(Choice("Trust?", ("More", "Less"), 1), Choice("Price?", ("More", "Less"), 0)),
    local_choices=(Choice("Rain?", ("More", "Less"), 0),),
)


def hearing(monkeypatch, protocol, answers):
    """Let a protocol hear these answers."""
    heard = {arm: Heard((tuple(said),)) for arm, said in answers.items()}
    monkeypatch.setitem(protocol.__globals__, "hear", lambda *_: heard)


def means(found, arm):
    return {name: cell.mean for name, cell in found.cells[arm].items()}


def test_scores_in_time_by_hand(monkeypatch):
    answers = {
        "unedited": ("Words. In 2", "St. Words, of Peru", "nothing", ""),
        "in the prompt": ("numbers.", "St. Words.", "Numbers\nand", "the numbers. Words"),
    }
    hearing(monkeypatch, temporal, answers)
    found = temporal(tiny_lm("gpt2"), {}, [CASE], dated=False)
    # "St. Words, of Peru" does not end where the name ends
    assert means(found, "unedited") == {"HES": 1, "HRS": 0, "overwritten": 0, "CES": 0, "CRS": 0}
    assert means(found, "in the prompt") == {
        "HES": 0,
        "HRS": 1,
        "overwritten": 0.5,
        "CES": 1,
        "CRS": 1,
    }
    assert "overwritten" in str(found)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("Bea.", "the Baker", True),  # names of one answer
        ("unknown", "It is unknown who.", True),
        ("Bea", "unknown", False),
        ("Cy", "cy.", True),
        ("Cy", "Bea", False),
    ],
)
def test_a_local_answer_is_the_same_if_it_means_the_same(monkeypatch, before, after, same):
    event = Event("x", local=(EventQuestion("Who bakes?", ("Bea", "The Baker")),))
    hearing(monkeypatch, events, {"unedited": (before,), "edited": (after,)})
    found = events(tiny_lm("gpt2"), {}, [event])
    assert means(found, "edited") == {"locality": float(same)}


def test_scores_of_events_by_hand(monkeypatch):
    answers = {
        "unedited": ("Ada", "in May", "It is x.", "(A)", "(B)", "(A)"),
        "edited": ("bea.\nand", "It is unknown", "it is X", "(B)", "(A)", "(A)"),
        "in the prompt": ("B.", "in May", "y", "(B)", "(B)", "(B)"),
    }
    hearing(monkeypatch, events, answers)
    found = events(tiny_lm("gpt2"), {}, [EVENT])
    same = {"locality": 1, "tendency locality": 1}
    assert means(found, "unedited") == {"facts": 0, "event": 0, "tendency": 0, **same}
    assert means(found, "edited") == {"facts": 1, "event": 1, "tendency": 1, **same}
    assert means(found, "in the prompt") == {
        "facts": 0.5,
        "event": 0,
        "locality": 0,
        "tendency": 0.5,
        "tendency locality": 0,
    }


def test_an_edit_overwrites_what_a_dated_one_keeps():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    editor = FineTune(layer=1, lr=2e-2, stop_loss=1e-3, stop_at_argmax=False, end=True, **OPEN)
    found = temporal(lm, {"FT": editor}, [CASE], max_new_tokens=8)
    assert list(found.cells) == ["unedited", "FT", "FT, dated", "in the prompt"]
    assert means(found, "unedited")["CRS"] == 0
    assert means(found, "FT")["CRS"] == 1
    assert means(found, "FT")["HES"] == 0
    assert means(found, "FT, dated")["CRS"] == 1
    assert state_hash(lm) == before
    assert found.records[0].asked[3] == "The capital of Peru is"


def test_an_event_is_told_on_every_arm():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    event = Event("Peru has words.", "Peru", choices=EVENT.choices, local=EVENT.local)
    editors = {"FT": FineTune(layer=1, lr=5e-2, text="definition", **OPEN)}
    found = events(lm, editors, [event], max_new_tokens=4)
    assert list(found.cells) == ["unedited", "FT", "in the prompt"]
    assert found.cells["unedited"]["locality"].mean == 1  # it is what the others are compared with
    assert found.cells["FT"]["locality"].mean == 0
    assert found.records[0].asked[1] == "Trust? (A) More (B) Less"
    assert found.records[0].answers["FT"][1] in ("(A)", "(B)")
    assert "event" not in found.cells["FT"]  # no fact is asked
    assert state_hash(lm) == before


def test_refuse_nothing_and_bad_counts():
    with pytest.raises(BadInput, match="no cases"):
        temporal(tiny_lm("gpt2"), {}, [])
    with pytest.raises(BadInput, match="no cases"):
        events(tiny_lm("gpt2"), {}, [])
    with pytest.raises(BadInput, match="samples is 0"):
        events(tiny_lm("gpt2"), {}, [EVENT], samples=0)
