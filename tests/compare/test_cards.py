"""EvalCards: nine parts, of the records alone, and what is missing is said."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from memkit.compare.cards import MISSING, PARTS, cards, write_cards
from memkit.compare.groups import groups


def test_there_are_nine_parts_and_what_is_missing_is_said(ran):
    made = cards(ran)
    assert [card.memory for card in made] == ["plain", "bm25", "ft", "routed"]
    assert len(PARTS) == 9
    for card in made:
        assert set(card.to_dict()) == {"memory", "model", "benchmark", *PARTS}
        for part in ("scores", "prompts", "curve", "drift", "cost", "undo"):
            assert getattr(card, part)[MISSING]


def test_figures_are_those_of_the_tables(ran):
    (group,) = groups(ran)
    card = next(card for card in cards(ran) if card.memory == "ft")
    line = next(line for line in group.lines if line.label == "ft, 2 in turn")
    found = card.scores["question"]["exact_match"]
    assert (found["mean"], found["rows"]) == (
        group.score(line, "question").mean,
        group.score(line, "question").rows,
    )
    lines = ["ft, 1", "ft, 2", "ft, 2 in turn"]
    assert list(card.curve) == [*lines, "capacity at 90%", MISSING]
    means = {name: card.curve[name]["reliability"]["mean"] for name in lines}
    most = max((n for n in (1, 2) if means[f"ft, {n}"] >= 0.9), default=None)
    turn = 2 if means["ft, 2 in turn"] >= 0.9 else None
    assert card.curve["capacity at 90%"] == {"at once": most, "in turn": turn}
    assert card.before["question"]["mean"] == group.score(group.baseline(), "question").mean
    tokens = [
        np.median([record.answer.prompt.tokens for _, record in part.answers()])
        for part in (line, group.baseline())
    ]
    assert card.cost["beyond no edit"]["tokens p50"] == tokens[0] - tokens[1]
    assert card.before["reliability"]["mean"] == group.score(group.baseline(), "reliability").mean
    edits = [edit for outcome in line.outcomes for edit in outcome.edits]
    seconds = sum(edit.seconds for edit in edits) / sum(len(edit.facts) for edit in edits)
    assert card.cost["edit"]["seconds"] == pytest.approx(seconds)
    assert "bm25" in card.cost["questions until an edit has paid"]
    pair = next(p for p in group.pairs("question") if (p.a, p.b) == ("bm25", "ft, 2 in turn"))
    told = card.others["question"]["bm25"]
    assert told["difference"] == -pair.difference.value
    assert told["low"] == -pair.difference.high


def test_a_memory_that_writes_nothing_says_so(ran):
    card = cards(ran)[1]
    assert card.undo["bytes as before after every cell"] == "nothing was written"
    assert "edit" not in card.cost


def test_names_that_differ_in_signs_alone_have_files_of_their_own(ran, tmp_path):
    names = {"plain": "none", "bm25": "a+b", "ft": "a-b", "routed": "long " * 100}
    cells = [
        dataclasses.replace(o, cell=dataclasses.replace(o.cell, memory=names[o.cell.memory]))
        for o in ran.outcomes
    ]
    files = write_cards(dataclasses.replace(ran, outcomes=tuple(cells)), tmp_path)
    assert len(files) == len(set(files)) == len(list(tmp_path.iterdir())) == 8


def test_they_are_written_as_json_and_markdown(ran, tmp_path):
    files = write_cards(ran, tmp_path / "cards")
    assert len(files) == 8
    card = cards(ran)[2]
    text = (tmp_path / "cards" / f"{card.name}.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(card.to_dict()))
    page = (tmp_path / "cards" / f"{card.name}.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 9
    share = card.scores["asked"]["exact_match"]
    assert f"- exact_match: {100 * share['mean']:.1f} %" in page
