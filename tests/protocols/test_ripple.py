from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import memkit
from memkit import BadInput, Fact, FineTune, FingerprintMismatch, Guards
from memkit.benchmarks.cases import RippleCase, RippleQuery, RippleTest
from memkit.editors.base import Editor, Made
from memkit.lm.fingerprint import weights_hash
from memkit.protocols import InContext, Retrieval, ripple
from memkit.protocols.ripple import appears
from memkit.testing.models import tiny_lm

from .scripted import Scripted

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=float("inf"), size=float("inf"))}


def q(prompt, *targets):
    return RippleQuery(prompt, tuple((t,) if isinstance(t, str) else t for t in targets))


@pytest.mark.parametrize(
    ("text", "reading", "expected"),
    [
        (" Lima, of course", "published", True),
        (" the Limassol road", "published", True),  # a substring is enough there
        (" the Limassol road", "words", False),
        (" the LIMA road", "words", True),
        (" the LIMA road", "published", False),  # as it is spelled
        (" Oslo\n Lima", "words", False),  # after the first line break
        ("\n Lima\n Oslo", "words", True),
        (" Oslo\n Lima", "published", True),
        (" City of Kings", "published", True),  # an alias
        ("", "published", False),
        ("", "code", False),
    ],
)
def test_what_appears(text, reading, expected):
    query = q("The capital of Peru is", ("Lima", "City of Kings"))
    assert appears(query, text, reading) is expected


def test_every_target_has_to_appear():
    query = q("The siblings of Ann are", ("Bo", "Bob"), ("Cy",))
    assert appears(query, " Bob and Cy")
    assert not appears(query, " Bob and Dan")


def test_a_name_of_one_character_counts_only_as_a_digit():
    assert not appears(q("The grade is", "A"), " A")
    assert appears(q("The number is", "3"), " 3")


def test_the_code_looks_into_the_query_too():
    query = q("The country of Peru Street is", "Peru")
    assert appears(query, " Chile", "code")
    assert not appears(query, " Chile", "published")


def case(tests, subject="Ann", target="Peru", **more):
    fact = Fact(subject, "The country of {} is", target)
    return RippleCase(fact, tuple(tests), (target, *more.pop("aliases", ())), **more)


def test_counts_by_hand():
    """Two edits with all their tests; the shares are worked out by hand.

    Ann's edit is learnt. Compositionality I: of three tests one does not count (its condition was
    wrong before), one is passed and one failed: 1/2. Relation specificity: an AND test of two
    queries, one wrong after: 0/1, and an OR test of the same: 1/1: 1/2.
    Bo's edit is not learnt; its one test (specificity) is passed: 1/1, which only "all edits" sees.
    """
    first, second = q("first of Ann", "Lima"), q("second of Ann", "sol")
    kept, lost = q("mother of Ann", "Eve"), q("father of Ann", "Dan")
    tests = [
        RippleTest("Compositionality_I", (first,), "OR", (q("capital of Peru", "Lima"),)),
        RippleTest("Compositionality_I", (second,), "OR", (q("coin of Peru", "sol"),)),
        RippleTest("Compositionality_I", (first,), "OR", (q("capital of Chile", "Santiago"),)),
        RippleTest("Relation_Specificity", (kept, lost), "AND", (kept, lost)),
        RippleTest("Relation_Specificity", (kept, lost), "OR", (kept,)),
    ]
    ann = case(tests, popularity=10.0)
    bo_kept = q("mother of Bo", "Fay")
    bo = case([RippleTest("Relation_Specificity", (bo_kept,), "OR", (bo_kept,))], "Bo", "Chad")
    context = "Imagine that Peru would have been the country of Ann.\n"
    other = "Imagine that Chad would have been the country of Bo.\n"
    lm = Scripted(
        {
            "The country of Ann is": " Chile",
            "capital of Peru": " Lima",
            "coin of Peru": " sol",
            "capital of Chile": " Lima",
            "mother of Ann": " Eve",
            "father of Ann": " Dan",
            "mother of Bo": " Fay",
            f"{context}The country of Ann is": " Peru.",
            f"{context}first of Ann": " Lima",
            f"{context}second of Ann": " peso",
            f"{context}mother of Ann": " Eve",
            f"{context}father of Ann": " Eve",
            f"{other}The country of Bo is": " Chile.",
            f"{other}mother of Bo": " Fay",
        }
    )
    found = ripple(lm, InContext(), [ann, bo])
    assert found.cell("Compositionality_I").mean == 0.5
    assert found.cell("Compositionality_I", "unedited").mean == 0  # first is unknown before
    assert found.cell("Relation_Specificity").mean == 0.5
    assert found.cell("Relation_Specificity", "unedited").mean == 1
    assert found.cell("Relation_Specificity", "all edits").mean == 0.75
    assert found.cell().mean == 0.5
    assert found.cell(stage="all edits").mean == (0.5 + 0.75) / 2
    count = found.counts["published"]["Compositionality_I"]
    assert (count.edits, count.counted, count.tests) == (1, 2, 3)
    assert (found.known["published"], found.learnt["published"]) == (0, 1)
    assert "first of Ann" not in found.records[1].before
    assert found.records[0].after["second of Ann"] == " peso"
    printed = str(found)
    assert "published: 0 edits known before, 1 learnt" in printed
    assert "2 of 3" in printed
    with pytest.raises(BadInput, match="no cell 'Preservation'"):
        found.cell("Preservation")


def test_popularity_parts():
    cases, table = [], {}
    for place, subject in enumerate(("Ann", "Bo", "Cy", "Di")):
        kept = q(f"mother of {subject}", "Eve")
        test = RippleTest("Relation_Specificity", (kept,), "OR", (kept,))
        cases.append(case([test], subject, popularity=float(10 * place)))
        context = f"The country of {subject} is Peru.\n"
        table[f"mother of {subject}"] = " Eve"
        table[f"{context}The country of {subject} is"] = " Peru"
        table[f"{context}mother of {subject}"] = " Eve" if place < 2 else " Ada"
    found = ripple(Scripted(table), InContext("statement"), cases)
    low, high = found.by_popularity(2)
    assert (low.low, low.high, low.edits, low.accuracy.mean) == (0, 10, 2, 1)
    assert (high.low, high.high, high.accuracy.mean) == (20, 30, 0)
    assert len(found.by_popularity(9)) == 4
    with pytest.raises(BadInput, match="parts is 0"):
        found.by_popularity(0)


def test_a_store_of_all_edits_is_searched():
    cases = [case([], "Ann Lee", "Peru"), case([], "Bo Ray", "Chad")]
    for store in ("bm25", "definitions"):
        lm = Scripted({})
        ripple(lm, Retrieval(store), cases)
        assert lm.asked[-1] == "The country of Bo Ray is Chad.\nThe country of Bo Ray is"
    stranger = RippleTest("Preservation", (q("The country of Zed is", "Togo"),))
    for gate, shown in ((False, "The country of Ann Lee is Peru.\n"), (True, "")):
        lm = Scripted({})
        ripple(lm, Retrieval("bm25", gate=gate), [case([stranger], "Ann Lee", "Peru")])
        assert lm.asked[-1] == f"{shown}The country of Zed is"


@pytest.mark.parametrize(
    ("prompt", "told", "premise"),
    [
        ("The names of {} are", None, "Imagine that Peru would have been the names of Ann."),
        ("Ann's home is", None, "Imagine that Peru would have been Ann's home."),
        ("{} hails from", None, "Imagine that Ann hails from Peru."),
        ("Q: Where is {}? A:", "Ann is in Peru.", "Imagine that Ann is in Peru."),
    ],
)
def test_an_edit_as_a_premise(prompt, told, premise):
    lm = Scripted({})
    edit = RippleCase(Fact("Ann", prompt, "Peru"), (), ("Peru",), told=told)
    ripple(lm, InContext(separator=" / "), [edit])
    assert lm.asked[-1] == f"{premise} / {edit.fact.text}"


def test_a_store_of_ones_own():
    made = []

    def store(passages):
        made.extend(passages)
        return memkit.Definitions({passages[0].title: "Ann moved."})

    lm = Scripted({})
    ripple(lm, Retrieval(store, k=3), [case([])])
    assert lm.asked[-1] == "Ann moved.\nThe country of Ann is"
    assert [(p.title, p.text) for p in made] == [("Ann", "The country of Ann is Peru.")]


@pytest.mark.parametrize(
    ("window", "shown"),
    [
        (13, "The country of Ann is Peru.\n"),  # 6 words, 5 of the query, room for 2
        (12, "The country of Ann is\n"),
        (8, "The\n"),
        (7, ""),
    ],
)
def test_the_window_bounds_what_is_shown(window, shown):
    lm = Scripted({}, window=window)
    ripple(lm, InContext("statement"), [case([])], max_new_tokens=2)
    assert lm.asked[-1] == f"{shown}The country of Ann is"


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("gpt2")


@pytest.fixture
def real():
    """Cases on a model that says something, whatever it is: a test's answer is what it says."""

    def make(lm):
        made = []
        for subject, target in (("Samuel Butler", "Lima"), ("Erewhon", "Peru")):
            prompt = f"The words of {subject} are"
            said = lm.generate([prompt], 3, ())[0]
            kept = q(prompt, said)
            test = RippleTest("Relation_Specificity", (kept,), "OR", (kept,))
            made.append(case([test], subject, target))
        return made

    return make


def test_weights_are_written_and_put_back(lm, real):
    before = weights_hash(lm.model)
    editor = FineTune(lr=1e-2, stop_at_argmax=False, **OPEN)
    found = ripple(lm, editor, real(lm), max_new_tokens=8)
    assert found.learnt["published"] == 2  # so the model was another one
    assert found.known["published"] == 0
    assert weights_hash(lm.model) == before
    assert found.cell("Relation_Specificity", "unedited").mean == 1
    assert "layer" in found.chosen
    assert found.editor.startswith("FineTune(")


def test_a_refused_edit_fails(lm, real):
    editor = FineTune(lr=1e-2, guards=Guards(size=1e-9))
    found = ripple(lm, editor, real(lm), max_new_tokens=8)
    assert found.rejected == 2
    assert "size" in found.records[0].rejected
    assert found.learnt["published"] == 0
    assert found.cell("Relation_Specificity", "all edits").mean == 1  # the model as it was
    with pytest.raises(BadInput, match="no cell 'Relation_Specificity', 'edited'"):
        found.cell("Relation_Specificity")


@dataclass(frozen=True, kw_only=True)
class Leaky(Editor):
    """Writes past its draft, so that nothing puts it back."""

    def write(self, draft):
        with torch.no_grad():
            draft.lm.model.lm_head.weight.add_(1)
        return Made(details=[{} for _ in draft.facts])


def test_bytes_left_behind_are_an_error(real):
    lm = tiny_lm("gpt2", seed=3)
    with pytest.raises(FingerprintMismatch, match="after the edit of 'The country of Samuel"):
        ripple(lm, Leaky(**OPEN), real(lm), max_new_tokens=8)
    lm = tiny_lm("gpt2", seed=3)
    ripple(lm, Leaky(**OPEN), real(lm), max_new_tokens=8, check_bytes=False)


def test_refuses_bad_input(lm, real):
    cases = real(lm)
    with pytest.raises(BadInput, match="there are no cases"):
        ripple(lm, InContext(), [])
    with pytest.raises(BadInput, match="cases holds Fact"):
        ripple(lm, InContext(), [cases[0].fact])
    with pytest.raises(BadInput, match="max_new_tokens is 0"):
        ripple(lm, InContext(), cases, max_new_tokens=0)
    with pytest.raises(BadInput, match=r"InContext.form is 'poem'; allowed: 'imagine'"):
        InContext("poem")
    with pytest.raises(BadInput, match=r"Retrieval.store is 'faiss'; allowed: 'bm25'"):
        Retrieval("faiss")
    with pytest.raises(BadInput, match=r"Retrieval.k is 0"):
        Retrieval(k=0)
    with pytest.raises(memkit.UnsupportedModel):
        ripple(tiny_lm("bert"), FineTune(), cases)
    long = replace(cases[0], fact=Fact("Ann", "{} " + "words " * 80, "Peru"))
    with pytest.raises(BadInput, match="the model's window"):
        ripple(lm, FineTune(), [long])
