"""Many definitions at once: who stands in the prompt, what is retrieved, what is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from memkit import FineTune, Guards, protocols
from memkit.benchmarks.probes import Cloze, EntityProbe
from memkit.errors import BadInput
from memkit.lm.fingerprint import weights_hash
from memkit.protocols.entities_spans import Asker
from memkit.testing.models import tiny_lm
from memkit.types import Hit, Passage

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=math.inf, size=math.inf)}
QUICK = FineTune(
    parameters="all",
    text="definition",
    lr=1e-2,
    epochs=2,
    batch_size=1,
    stop_loss=0.0,
    stop_at_argmax=False,
    **OPEN,
)
NAMES = ("Butler", "Samuel", "Peru", "France", "Paris", "Lima")
PLACES = ("Erewhon", "words", "numbers")


def probe(name: str, gold: str) -> EntityProbe:
    return EntityProbe(
        entity=name,
        definition=Cloze(f"{name} is in ", gold, "."),
        cloze=Cloze(f"One of {name} is ", gold, ""),
        candidates=PLACES,
    )


ALL = tuple(probe(name, PLACES[i % 3]) for i, name in enumerate(NAMES))
PROBES, FILLERS = ALL[:4], ALL[4:]


class Store:
    """Ranks definitions with the name that stands in the query last."""

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        found = []
        for query in queries:
            named = sorted(ALL, key=lambda one: one.entity in query)
            passages = [Passage(one.entity, one.definition.text) for one in named]
            found.append([Hit(p, 1.0 / n, n) for n, p in enumerate(passages[:k], start=1)])
        return found


@pytest.fixture
def lm():
    return tiny_lm("gpt2", n_positions=256)


@pytest.fixture
def asked(monkeypatch):
    """The contexts of each call."""
    calls = []
    views = Asker.views

    def spy(self, probes, contexts=()):
        calls.append((list(probes), list(contexts)))
        return views(self, probes, contexts)

    monkeypatch.setattr(Asker, "views", spy)
    return calls


def test_every_group_has_its_own_definitions(lm, asked):
    result = protocols.crowded(lm, PROBES, counts=(1, 3, 6), fillers=FILLERS, seed=2)
    assert [row.definitions for row in result.rows] == [1, 3, 6]
    for (probes, contexts), count in zip(asked, (1, 3, 6), strict=True):
        assert probes == list(PROBES)
        for one, context in zip(probes, contexts, strict=True):
            there = [other for other in ALL if other.definition.text in context]
            assert len(there) == count
            assert one in there
    assert len(set(asked[-1][1])) > 1  # shuffled for each probe
    assert result.row("all in the prompt", 1).shown == 1
    again = protocols.crowded(lm, PROBES, counts=(6,), fillers=FILLERS, seed=2)
    assert asked[-1] == asked[-2]
    assert again.rows[0].score == result.rows[-1].score
    protocols.crowded(lm, PROBES, counts=(6,), fillers=FILLERS, seed=3)
    assert asked[-1] != asked[-2]


def test_one_definition_is_the_gold_one(lm):
    alone = protocols.crowded(lm, PROBES, counts=(1,), fillers=FILLERS, retriever=Store()).rows
    gold = protocols.entities(lm, PROBES, {"gold": protocols.Definition()})
    cell = gold.cell("gold", "accuracy")
    assert [row.score.mean for row in alone] == [cell.mean] * 2
    assert alone[0].tokens == np.mean(gold.rows["gold"].row.tokens)


def test_the_retriever_picks_one_of_the_group(lm, asked):
    result = protocols.crowded(lm, PROBES, counts=(1, 6), fillers=FILLERS, retriever=Store())
    (_, alone), (_, one_of_six) = asked[1], asked[3]
    assert alone == [one.definition.text for one in PROBES]  # nothing else to pick
    assert all(
        one.definition.text != context for one, context in zip(PROBES, one_of_six, strict=True)
    )
    assert [row.shown for row in result.rows if row.name == "one retrieved"] == [1, 0]


def test_what_does_not_fit_is_left_out(asked):
    lm = tiny_lm("gpt2", n_positions=48)
    result = protocols.crowded(lm, PROBES, counts=(1, 6), fillers=FILLERS)
    row = result.row("all in the prompt", 6)
    contexts = asked[-1][1]
    own = [one.definition.text in text for one, text in zip(PROBES, contexts, strict=True)]
    assert row.shown == np.mean(own) < 1
    for one, context in zip(PROBES, contexts, strict=True):
        texts = [other.definition.text for other in ALL if other.definition.text in context]
        assert sorted(context.replace(". ", ".|").split("|")) == sorted(texts) or not context
        assert Asker(lm).tokens(one, context) <= 48


def test_editors_write_the_group_in_one_step(lm, monkeypatch):
    written = []
    write = FineTune.write
    monkeypatch.setattr(
        FineTune, "write", lambda self, draft: written.append(draft.facts) or write(self, draft)
    )
    clean = weights_hash(lm.model)
    result = protocols.crowded(lm, PROBES, counts=(2, 3), fillers=FILLERS, editors={"FT": QUICK})
    assert weights_hash(lm.model) == clean
    assert [len(facts) for facts in written] == [2, 2, 3, 3]
    entities = [{fact.subject for fact in facts} for facts in written]
    asked = {one.entity for one in PROBES}
    assert entities[0] | entities[1] == asked
    assert entities[2] | entities[3] > asked  # filled up
    row = result.row("FT", 3)
    assert row.shown is None
    assert row.seconds > 0
    bare = protocols.entities(lm, PROBES, {})
    assert row.tokens == np.mean(bare.rows["base"].row.tokens)


def test_perplexity_without_candidates(lm):
    bare = [dataclasses.replace(one, candidates=()) for one in PROBES]
    result = protocols.crowded(lm, bare, counts=(1,), retriever=Store())
    assert result.metric == "perplexity"
    gold = protocols.entities(lm, bare, {"gold": protocols.Definition()})
    assert result.rows[0].score.mean == pytest.approx(gold.cell("gold", "perplexity").mean)


def test_the_printed_table_and_the_plot(lm, tmp_path):
    result = protocols.crowded(
        lm, PROBES, counts=(1, 4), retriever=Store(), editors={"FT": QUICK}, samples=50
    )
    text = str(result)
    assert "4 probes; counts=(1, 4)" in text
    assert text.count("one retrieved") == text.count("all in the prompt") == text.count("FT ") == 2
    result.plot(tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert result.to_dict()["rows"][0]["definitions"] == 1
    with pytest.raises(BadInput, match="there is no row 'FT' for 2 definitions"):
        result.row("FT", 2)


BAD = {
    "no probes": ({"probes": []}, "there are no probes"),
    "too many": ({"counts": (1, 9)}, "counts has 9, and there are 4 definitions"),
    "no count": ({"counts": ()}, "counts is empty"),
    "a count of 0": ({"counts": (0,)}, "counts is 0"),
    "both sorts": ({"probes": [ALL[0], dataclasses.replace(ALL[1], candidates=())]}, "one sort"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_is_refused(lm, changes, message):
    with pytest.raises(BadInput) as caught:
        protocols.crowded(lm, **{"probes": PROBES, "counts": (1,), **changes})
    assert message in str(caught.value)
