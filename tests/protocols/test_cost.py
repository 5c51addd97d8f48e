"""Break-even: formulas by hand, prices by a clock that is told, streams that leave no trace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from memkit import GRACE, Fact, FineTune, Guards, Hit, Passage, Question, protocols
from memkit.editors.base import Draft, Editor, Made
from memkit.errors import BadInput, EditRejected
from memkit.protocols import cost
from memkit.protocols.cost import Amount, Mix, Prices, Query, Rates, break_even, predict
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=math.inf, size=math.inf)
# an edit 3 s and 400 bytes, an update 1 s and 100 bytes; queries of 10 ms bare and 60 ms with text
PRICES = Prices(3, 400, 1, 100, bare=Query(10, 10), retrieved=Query(90, 60))
FACTS = tuple(
    Fact(place, "The capital of {} is", "numbers", id=str(i))
    for i, place in enumerate(("Peru", "France", "Paris"))
)
ABOUT = tuple(Question(f"capital of {fact.subject}?", id=fact.id) for fact in FACTS)
OTHERS = (Question("Who wrote Erewhon?", id="w"), Question("One, two", id="n"))


def test_break_even_by_hand():
    # each query about the fact costs 50 ms less, half of them are: 2 s are won back in 80 queries
    found = break_even(PRICES, Mix(0.5))
    assert found.queries == pytest.approx(80)
    assert found.until is None
    costs = found.costs(80)
    assert costs["edit"] == pytest.approx(3 + 80 * 0.010)
    assert costs["retrieve"] == pytest.approx(1 + 80 * (0.5 * 0.060 + 0.5 * 0.010))
    assert found.costs(79)["edit"] > found.costs(79)["retrieve"]
    assert found.costs(81)["edit"] < found.costs(81)["retrieve"]


@pytest.mark.parametrize(
    ("mix", "facts", "update_rate", "rates", "queries"),
    [
        (Mix(1.0), 1, 0, None, 40),  # 2 / 0.05
        (Mix(0.5), 10, 0, None, 800),  # ten facts are ten times dearer
        (Mix(0.5, 0.7), 1, 0, None, 80),  # what is retrieved on both roads changes nothing
        (Mix(0.5), 1, 0.01, None, 2 / (0.025 - 0.01 * 2)),
        (Mix(0.5), 1, 0.0125, None, None),  # updates eat up exactly what queries win
        (Mix(0.5), 1, 0.1, None, None),
        (Mix(0.0), 1, 0, None, None),  # nobody asks for the fact
        (Mix(0.5), 0, 0, None, 0),
        (Mix(0.5), 1, 0, Rates(0, 1, 0), 0),  # an edit has no tokens
        (Mix(0.5), 1, 0, Rates(0, 1, 0.2), (0.2 * 300) / (0.5 * 80)),
        (Mix(0.5), 1, 0, Rates(0, 0, 1), None),  # bytes are never won back
    ],
)
def test_break_even_tables(mix, facts, update_rate, rates, queries):
    found = break_even(PRICES, mix, facts=facts, update_rate=update_rate, rates=rates)
    assert found.queries == (None if queries is None else pytest.approx(queries))
    assert found.until is None


def test_an_edit_can_be_cheaper_at_first_only():
    cheap = Prices(1, 0, 3, 0, bare=Query(10, 10), retrieved=Query(90, 60), edited=Query(10, 80))
    found = break_even(cheap, Mix(1.0))
    assert found.queries == 0
    assert found.until == pytest.approx(2 / 0.02)
    assert "cheaper up to 100.0 queries" in str(found)


def test_live_edits_slow_every_query_on_their_road():
    slow = Prices(3, 0, 1, 0, bare=Query(10, 10), retrieved=Query(90, 60), edited=Query(10, 15))
    found = predict(slow, Mix(0.5, 0.2), 1000, facts=0)
    edit = 0.5 * 15 + 0.5 * (0.8 * 15 + 0.2 * 65)
    retrieve = 0.5 * 60 + 0.5 * (0.8 * 10 + 0.2 * 60)
    assert found["edit"].seconds == pytest.approx(edit)
    assert found["retrieve"].seconds == pytest.approx(retrieve)
    assert found["edit"].tokens == pytest.approx(1000 * (0.5 * 10 + 0.5 * (0.8 * 10 + 0.2 * 90)))


def test_precompute_is_paid_once():
    prices = Prices(3, 400, 1, 100, Query(10, 10), Query(90, 60), None, 7, 50)
    found = predict(prices, Mix(0.5), 100, facts=2, update_rate=0.03)
    assert found["edit"] == Amount(7 + 5 * 3 + 1.0, pytest.approx(1000), 50 + 5 * 400)
    assert found["retrieve"].bytes == pytest.approx(500)


def test_the_report_says_never_and_draws(tmp_path):
    never = break_even(PRICES, Mix(0.0))
    assert "never cheaper" in str(never)
    never.plot(tmp_path / "never.svg")
    break_even(PRICES, Mix(0.5)).plot(tmp_path / "costs.svg", queries=200)
    drawn = (tmp_path / "costs.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert drawn != (tmp_path / "never.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf])
def test_refuses_what_is_no_price(bad):
    with pytest.raises(BadInput, match=f"Prices.edit_seconds is {bad}"):
        Prices(bad, 0, 0, 0, Query(1, 1), Query(1, 1))
    with pytest.raises(BadInput, match=r"Query\.tokens"):
        Query(bad, 1)
    with pytest.raises(BadInput, match="update_rate"):
        predict(PRICES, Mix(0.5), 1, update_rate=bad)
    with pytest.raises(BadInput, match=r"Mix\.updated"):
        Mix(bad)
    with pytest.raises(BadInput, match=r"Rates\.second"):
        Rates(second=bad)


def test_refuses_rates_of_nothing():
    with pytest.raises(BadInput, match="all 0"):
        Rates(0, 0, 0)


class Clock:
    """Time that passes only when somebody says so."""

    now = 0.0

    def __call__(self):
        return self.now


class Shelf:
    """An index in memory whose additions take 2 s and whose searches take 0.25 s."""

    def __init__(self, clock, path=None):
        self.clock, self.path = clock, path
        self.held = {"old": Passage("old", "Butler wrote Erewhon")}

    def __len__(self):
        return len(self.held)

    def search(self, queries, k=10):
        self.clock.now += 0.25
        return [[Hit(p, 1.0, n) for n, p in enumerate(list(self.held.values())[:k], 1)]] * len(
            queries
        )

    def add(self, passages):
        self.clock.now += 2
        for passage in passages:
            if passage.id in self.held:
                raise BadInput("stands twice")
            self.held[passage.id] = passage
            if self.path:
                (self.path / passage.id).write_bytes(b"0" * 100)

    def remove(self, ids):
        for name in ids:
            del self.held[name]

    def replace(self, passages):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Timed(Editor):
    """Takes 5 s for a fact, and 30 s before the first one."""

    kinds: ClassVar = ("decoder",)
    guards: Guards = OPEN
    clock: Clock
    refused: tuple[str, ...] = ()

    def write(self, draft: Draft) -> Made:
        if not draft.past:
            self.clock.now += 30
        self.clock.now += 5
        site = draft.lm.layout.site(draft.lm.model, 0)
        d_out, d_in = site.weight.shape
        draft.add(site, 1e-3 * torch.ones(d_out, 1), torch.ones(d_in, 1))
        refused = draft.facts[0].subject in self.refused
        return Made(warnings=["too much"] if refused else [])


def test_measures_what_the_clock_says(tmp_path):
    clock = Clock()
    lm, shelf = tiny_lm("gpt2"), Shelf(clock, tmp_path)
    before = state_hash(lm)
    found = cost.measure(lm, Timed(clock=clock), shelf, FACTS, OTHERS, clock=clock)
    assert (found.edit_seconds, found.precompute_seconds) == (5, 30)
    assert (found.update_seconds, found.update_bytes) == (2, 100)
    site = lm.layout.site(lm.model, 0)
    assert found.edit_bytes == 4 * sum(site.weight.shape)
    assert found.bare.milliseconds == 0
    assert found.retrieved.milliseconds == pytest.approx(250)
    bare = [lm.count_tokens(f"Q: {q.text} A:") for q in OTHERS]
    text = [lm.count_tokens(f"Butler wrote Erewhon\n\nQ: {q.text} A:") for q in OTHERS]
    assert found.bare.tokens == pytest.approx(sum(bare) / 2)
    assert found.retrieved.tokens == pytest.approx(sum(text) / 2)
    assert state_hash(lm) == before
    assert list(shelf.held) == ["old"]
    assert "edit" in str(found)


def test_the_bytes_of_dense_weights_are_paid_once_and_of_a_codebook_by_fact():
    lm = tiny_lm("gpt2")
    dense = FineTune(layer=1, epochs=1, guards=OPEN)
    found = cost.measure(lm, dense, Shelf(Clock()), FACTS, OTHERS)
    weight = lm.layout.site(lm.model, 1).weight
    assert (found.edit_bytes, found.precompute_bytes) == (0, weight.nbytes)
    found = cost.measure(
        lm, GRACE(layer=1, eps=1e-3, steps=1, guards=OPEN), Shelf(Clock()), FACTS, OTHERS
    )
    assert found.edit_bytes > 4 * sum(weight.shape)  # a key and a value
    assert found.edit_bytes < 5 * sum(weight.shape)
    # without a folder a passage's bytes are its text's
    texts = [f"The capital of {name} is numbers." for name in ("Peru", "France", "Paris")]
    assert found.update_bytes == pytest.approx(sum(map(len, texts)) / 3)


def test_predictions_are_what_is_lived_through():
    clock = Clock()
    lm, shelf = tiny_lm("gpt2"), Shelf(clock)
    before = state_hash(lm)
    same = tuple(Question("Who wrote Erewhon?", id=q.id) for q in (*ABOUT, *OTHERS))
    editor, mix = Timed(clock=clock), Mix(0.4, 0.5)
    prices = cost.measure(lm, editor, shelf, FACTS, same[:1], clock=clock)
    how = {"update_rate": 0.05}
    lived = cost.run(lm, editor, shelf, FACTS, same, mix, queries=40, first=1, clock=clock, **how)
    assert lived.facts[0] == lived.facts[19] == 1
    assert lived.facts[20] == 2
    assert lived.facts[40] == 3
    for n in (0, 20, 40):
        told = predict(prices, mix, n, facts=1, **how)
        for road, amounts in lived.costs.items():
            assert amounts[n].seconds == pytest.approx(told[road].seconds)
            assert amounts[n].tokens == pytest.approx(told[road].tokens)
            assert amounts[n].bytes == pytest.approx(told[road].bytes)
    assert lived.costs["edit"][40].seconds != lived.costs["retrieve"][40].seconds
    assert set(lived.right.values()) == {0.0}
    assert state_hash(lm) == before
    assert list(shelf.held) == ["old"]


def test_right_answers_are_counted_on_each_road():
    lm = tiny_lm("gpt2")
    said = lm.generate(["Q: capital of Peru? A:"], 4)[0].strip()
    fact = Fact("Peru", "The capital of {} is", said, id="0")
    shelf = Shelf(Clock())
    quiet = Timed(clock=Clock())
    lived = cost.run(lm, quiet, shelf, [fact], ABOUT[:1], Mix(1.0), queries=2, max_new_tokens=4)
    with_text = lm.generate(["Butler wrote Erewhon\n\nQ: capital of Peru? A:"], 4)[0].strip()
    assert with_text != said
    assert lived.right["retrieve"] == 0


def test_an_edit_that_a_guard_refuses_took_its_time():
    clock = Clock()
    editor = Timed(clock=clock, refused=("France",))
    found = cost.measure(tiny_lm("gpt2"), editor, Shelf(clock), FACTS, OTHERS, clock=clock)
    assert found.edit_seconds == 5
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    with pytest.raises(EditRejected, match="none of 3 facts"):
        cost.measure(
            lm, Timed(clock=clock, refused=("Peru", "France", "Paris")), Shelf(clock), FACTS, OTHERS
        )
    assert state_hash(lm) == before


def test_after_an_error_nothing_is_left():
    clock, lm = Clock(), tiny_lm("gpt2")
    before, shelf = state_hash(lm), Shelf(clock)
    twice = [Passage("a", "x"), Passage("b", "y"), Passage("b", "z")]
    with pytest.raises(BadInput, match="stands twice"):
        cost.measure(lm, Timed(clock=clock), shelf, FACTS, OTHERS, passages=twice)
    assert state_hash(lm) == before
    assert list(shelf.held) == ["old"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": FACTS[:1]}, "1 facts and 2 questions"),
        ({"questions": ()}, "3 facts and 0 questions"),
        ({"passages": [Passage("a", "x")]}, "1 passages are given for 3 facts"),
    ],
)
def test_measure_refuses(change, message):
    given = {"facts": FACTS, "questions": OTHERS, **change}
    facts, questions = given.pop("facts"), given.pop("questions")
    with pytest.raises(BadInput, match=message):
        cost.measure(tiny_lm("gpt2"), FineTune(), Shelf(Clock()), facts, questions, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 0}, "queries is 0"),
        ({"first": 0}, "first is 0"),
        ({"first": 4}, "4 facts are to come and 3 are given"),
        ({"update_rate": 1}, "11 facts are to come and 3"),
        ({"update_rate": -1}, "update_rate is -1"),
        ({"questions": (*ABOUT[1:], *OTHERS)}, "no question has the id '0' of the fact"),
        ({"questions": ABOUT}, "all questions are about the facts"),
    ],
)
def test_run_refuses(change, message):
    given = {"questions": (*ABOUT, *OTHERS), "queries": 10, **change}
    questions = given.pop("questions")
    with pytest.raises(BadInput, match=message):
        cost.run(tiny_lm("gpt2"), FineTune(), Shelf(Clock()), FACTS, questions, Mix(0.5), **given)


def test_the_module_is_found():
    assert protocols.cost is cost
    assert Path(cost.__file__).name == "cost.py"
