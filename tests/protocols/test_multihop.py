from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pytest

from memkit import BadInput, Fact, FineTune, Guards
from memkit.benchmarks.cases import Hop, MultihopCase
from memkit.benchmarks.mquake import Shots
from memkit.editors.base import Editor, Made
from memkit.lm.fingerprint import weights_hash
from memkit.protocols import InContext, Retrieval, multihop
from memkit.testing.models import tiny_lm

from .scripted import Scripted

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}


def chain(maker="Ann Lee", city="Lima", aliases=()):
    return (
        Hop("Tetris", "Who made Tetris?", "Tetris was made by", (maker,), "P170"),
        Hop(maker, f"Where was {maker} born?", f"{maker} was born in", (city, *aliases), "P19"),
    )


CASE = MultihopCase(
    facts=(Fact("Tetris", "{} was made by", "Ann Lee", previous="Bo Ray", relation="P170"),),
    questions=("Where was Tetris's maker born?", "What is the birthplace of Tetris's maker?"),
    answers=("Oslo",),
    new_answers=("Lima", "City of Kings"),
    hops=chain("Bo Ray", "Oslo"),
    new_hops=chain("Ann Lee", "Lima", ("City of Kings",)),
    id="6",
)
EDIT = "Tetris was made by Ann Lee.\n"
KNOWN = {"Q: Who made Tetris? A:": " Bo Ray", "Q: Where was Bo Ray born? A:": " Oslo."}
ONE, TWO = (f"Q: {text} A:" for text in CASE.questions)


def told(**changes):
    """What the model says with the edit in the prompt, by query."""
    said = {
        "Tetris was made by": " Ann Lee",
        "Q: Who made Tetris? A:": " Ann Lee\nQ",
        "Q: Where was Ann Lee born? A:": " City of Kings. It",
        ONE: " Oslo",
        TWO: " Lima",
    }
    said.update(changes)
    return {f"{EDIT}{query}": text for query, text in said.items()}


def test_figures_by_hand():
    lm = Scripted({**KNOWN, ONE: " Oslo", **told()})
    found = multihop(lm, InContext("statement"), [CASE])
    means = {
        (column, stage): cell.mean
        for column, cells in found.cells["exact"].items()
        for stage, cell in cells.items()
    }
    assert means == {
        ("edit-wise", "unedited"): 0,
        ("edit-wise", "edited"): 1,
        ("edit-wise", "edited, known"): 1,
        ("instance-wise", "unedited"): 0,
        ("instance-wise", "edited"): 1,
        ("instance-wise", "edited, known"): 1,
        ("multi-hop", "unedited"): 0,
        ("multi-hop", "edited"): 1,  # one wording is enough
        ("multi-hop", "edited, known"): 1,
        ("walk", "unedited"): 0,
        ("walk", "edited"): 1,
        ("walk", "edited, known"): 1,
        ("old answer", "unedited"): 1,
        ("old answer", "edited"): 1,  # the other wording
        ("old answer", "edited, known"): 1,
    }
    assert found.known == 1
    assert found.records[0].after.walk == (" Ann Lee\nQ", " City of Kings. It")
    assert "1 cases in 1 groups, 1 known before" in str(found)
    with pytest.raises(BadInput, match="no cell 'multi-hop', 'late'"):
        found.cell("multi-hop", "late")


def test_one_wrong_hop_fails_the_instance():
    wrong = told(**{"Q: Where was Ann Lee born? A:": " Rome, not Lima"})
    found = multihop(Scripted(wrong), InContext("statement"), [CASE])
    assert found.cell("instance-wise").mean == 0
    assert found.cell("instance-wise", rule="contains").mean == 1  # it is mentioned
    assert found.cell("walk").mean == 0
    assert found.known == 0
    with pytest.raises(BadInput, match="here the stages unedited, edited"):
        found.cell("walk", "edited, known")


def test_the_walk_goes_on_from_what_the_model_said():
    """The second hop's question is about the first one's answer, not about the right one."""
    astray = told(**{"Q: Who made Tetris? A:": " Cy Dee."})
    lm = Scripted({**astray, f"{EDIT}Q: Where was Cy Dee born? A:": " Lima"})
    found = multihop(lm, InContext("statement"), [CASE])
    assert found.records[0].after.walk == (" Cy Dee.", " Lima")
    assert found.cell("instance-wise").mean == 0
    silent = told(**{"Q: Who made Tetris? A:": ""})
    found = multihop(Scripted(silent), InContext("statement"), [CASE])
    assert found.records[0].after.walk == ("",)  # nothing to ask on
    assert found.cell("walk").mean == 0


def test_a_hop_whose_subject_is_not_in_its_question_ends_the_walk():
    first, second = CASE.new_hops
    odd = replace(CASE, new_hops=(first, replace(second, question="Where was she born?")))
    found = multihop(Scripted(told()), InContext("statement"), [odd])
    assert len(found.records[0].after.walk) == 1
    assert found.cell("walk").mean == 0


def test_examples_stand_before_their_questions():
    shots = Shots("Q: Who? A: Al", {"P19": "Q: Where? A: Rome"})
    lm = Scripted({})
    multihop(lm, InContext("statement"), [CASE], shots=shots)
    assert f"{EDIT}Q: Who? A: Al\n{ONE}" in lm.asked
    assert f"{EDIT}Q: Who made Tetris? A:" in lm.asked  # P170 has no examples
    assert f"{EDIT}Q: Where? A: Rome\nQ: Where was Ann Lee born? A:" in lm.asked
    assert f"{EDIT}Tetris was made by" in lm.asked


def test_a_chain_of_thought_ends_in_its_answer():
    shots = Shots("Question: Who?\nThoughts: Al is.\nAnswer: Al", thoughts=True)
    asked = [f"{shots.multihop}\n\nQuestion: {text}\nThoughts:" for text in CASE.questions]
    table = {
        **KNOWN,
        EDIT + asked[0]: " It is Ann Lee. She was born in Lima.\nAnswer: Lima",
        EDIT + asked[1]: " It is Ann Lee, born in Lima",  # thought, and never said
        asked[0]: " Bo Ray made it.\nAnswer: Oslo.\nMore",
    }
    lm = Scripted(table)
    found = multihop(lm, InContext("statement"), [CASE], shots=shots, max_new_tokens=4)
    record = found.records[0]
    assert record.after.questions == (" Lima", "")
    assert found.cell("multi-hop").mean == 1
    assert found.cell("old answer", "unedited").mean == 1
    assert found.cell("multi-hop", "unedited").mean == 0
    assert {(tokens, stops) for prompt, tokens, stops in lm.how if "Thoughts" in prompt} == {
        (120, ("\n\n", "Question:"))
    }
    assert "Q: Who made Tetris? A:" in lm.asked  # single hops are asked as before


def other(maker="Cy Dee", subject="Pong"):
    """A case about another game."""
    fact = Fact(subject, "{} was made by", maker, relation="P170")
    first = Hop(subject, f"Who made {subject}?", f"{subject} was made by", (maker,), "P170")
    hops = (first, chain(maker, "Rome")[1])
    return replace(CASE, facts=(fact,), new_hops=hops, new_answers=("Rome",), id="7")


def test_groups_hold_together():
    lm = Scripted({})
    found = multihop(lm, InContext("statement"), [CASE, other(), CASE], batch=2)
    both = "Tetris was made by Ann Lee.\nPong was made by Cy Dee.\n"
    assert f"{both}Pong was made by" in lm.asked
    assert lm.asked[-1].startswith(EDIT)
    assert [record.group for record in found.records] == [0, 0, 1]
    assert found.groups == 2


def test_a_group_searches_its_own_edits():
    lm = Scripted({})
    multihop(lm, Retrieval("bm25"), [CASE, other()], batch=2)
    assert "Pong was made by Cy Dee.\nPong was made by" in lm.asked
    assert "Pong was made by Cy Dee.\nQ: Who made Pong? A:" in lm.asked
    lm = Scripted({f"{EDIT}Q: Who made Tetris? A:": " Ann Lee"})
    multihop(lm, Retrieval("bm25", gate=True), [CASE])
    assert lm.asked[-1] == "Q: Where was Ann Lee born? A:"  # no edit is about her


def test_edits_of_a_group_must_not_contradict_each_other():
    rival = other("Di Fox", "Tetris")
    message = r"the cases '6' and '7' of one group contradict each other: 'Tetris was made by'"
    with pytest.raises(BadInput, match=message):
        multihop(Scripted({}), InContext(), [CASE, rival], batch=2)
    multihop(Scripted({}), InContext(), [CASE, rival])  # apart they can be made


@pytest.mark.parametrize("batch", [1, 2])
def test_weights_are_written_and_put_back(batch):
    lm = tiny_lm("gpt2")
    before = weights_hash(lm.model)
    editor = FineTune(parameters="all", lr=1e-2, stop_at_argmax=False, **OPEN)
    found = multihop(lm, editor, [CASE, other()], batch=batch, max_new_tokens=12)
    assert found.cell("edit-wise", "unedited").mean == 0
    for record in found.records:  # the model was another one, and does not know where to stop
        (text,) = record.after.edits
        assert text.startswith(f" {record.case.facts[0].target}")
    assert weights_hash(lm.model) == before
    assert found.rejected == 0


@dataclass(frozen=True, kw_only=True)
class Noting(Editor):
    """Writes nothing, and notes what it was to write."""

    seen: deque[list[str]] = field(default_factory=deque)

    def write(self, draft):
        self.seen.append([fact.text for fact in draft.facts])
        return Made(details=[{} for _ in draft.facts])


def test_an_edit_that_two_cases_share_is_made_once():
    again = replace(CASE, facts=(replace(CASE.facts[0], id="8/0"),), id="8")
    editor = Noting(**OPEN)
    multihop(tiny_lm("gpt2"), editor, [CASE, again, other()], batch=3)
    assert list(editor.seen) == [["Tetris was made by", "Pong was made by"]]


def test_a_refused_group_says_what_it_said_before():
    lm = tiny_lm("gpt2")
    editor = FineTune(lr=1e-2, guards=Guards(size=1e-9))
    found = multihop(lm, editor, [CASE, other()], batch=2)
    assert found.rejected == 2
    for record in found.records:
        assert "size" in record.rejected
        assert record.after == record.before


def test_refuses_bad_input():
    with pytest.raises(BadInput, match="there are no cases"):
        multihop(Scripted({}), InContext(), [])
    with pytest.raises(BadInput, match="cases holds Fact"):
        multihop(Scripted({}), InContext(), CASE.facts)
    with pytest.raises(BadInput, match="batch is 0"):
        multihop(Scripted({}), InContext(), [CASE], batch=0)
    with pytest.raises(BadInput, match="has 1 edits and 2 sentences"):
        replace(CASE, told=("a", "b"))
    with pytest.raises(BadInput, match="case '6' has no hops"):
        replace(CASE, hops=())
