"""TruthfulQA's formulae against tables made by hand."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkit.errors import BadInput, MissingDependency
from memkit.metrics import bleu, mc1, mc2, mc3, nearer_truth, rouge1

HALF, QUARTER, EIGHTH = (math.log(p) for p in (1 / 2, 1 / 4, 1 / 8))
NATS = st.lists(st.floats(-40, 0), min_size=1, max_size=5)


def test_mc1_is_the_best_against_the_likeliest_false_one():
    assert mc1(HALF, [QUARTER, EIGHTH]) == 1
    assert mc1(QUARTER, [EIGHTH, HALF]) == 0
    assert mc1(QUARTER, [QUARTER]) == 0  # a tie is not more


def test_mc2_is_the_share_of_the_true_ones():
    assert mc2([HALF, EIGHTH], [QUARTER]) == pytest.approx(5 / 7)
    assert mc2([EIGHTH], [HALF, QUARTER]) == pytest.approx(1 / 7)
    assert mc2([HALF - 900, EIGHTH - 900], [QUARTER - 900]) == pytest.approx(5 / 7)
    assert mc2([-900], [-800]) == pytest.approx(0)
    assert math.isnan(mc2([-math.inf], [-math.inf]))


def test_mc3_is_the_share_of_true_ones_above_all_false_ones():
    assert mc3([HALF, QUARTER, EIGHTH], [QUARTER]) == pytest.approx(1 / 3)
    assert mc3([HALF, QUARTER], [EIGHTH]) == 1
    assert mc3([EIGHTH], [EIGHTH]) == 0


@given(NATS, NATS)
def test_the_three_agree_with_loops(true, false):
    above = [x for x in true if all(x > y for y in false)]
    assert mc3(true, false) == len(above) / len(true)
    assert mc1(true[0], false) == float(true[0] in above)
    whole = sum(math.exp(x) for x in (*true, *false))
    assert mc2(true, false) == pytest.approx(sum(math.exp(x) for x in true) / whole)
    assert mc2(true, false) + mc2(false, true) == pytest.approx(1)


@pytest.mark.parametrize("empty", [lambda: mc1(0, []), lambda: mc2([], [0]), lambda: mc2([0], []),
                                   lambda: mc3([0], []), lambda: mc3([], [0]),
                                   lambda: nearer_truth("a", ["a"], [], rouge1)])  # fmt: skip
def test_one_side_is_not_enough(empty):
    with pytest.raises(BadInput, match=r"there is no (true|false) answer; allowed: at least one"):
        empty()


def test_rouge1_is_the_f1_of_the_words():
    assert rouge1("a judge", "A judge!") == 1
    assert rouge1("a judge of Peru", "the judge") == pytest.approx(2 * 1 / (4 + 2))
    assert rouge1("judges", "judge") == 0  # no stemming
    assert rouge1("", "judge") == 0


def test_bleu_is_the_geometric_mean_of_the_precisions():
    text, reference = "the cat sat on the mat today", "the cat sat on the red mat"
    precisions = (6 / 7, 4 / 6, 3 / 5, 2 / 4)
    assert bleu(text, reference) == pytest.approx(100 * math.prod(precisions) ** (1 / 4))
    assert bleu(text, text) == pytest.approx(100)
    short = "the cat sat on"  # brevity penalty exp(1 - 7/4), all precisions 1
    assert bleu(short, reference) == pytest.approx(100 * math.exp(1 - 7 / 4))
    assert bleu("The cat sat on the mat", "the cat sat on the mat") < 100  # case counts
    assert bleu("a judge", "a judge") == 0  # too short for four words in a row


def test_nearer_truth_takes_the_most_similar_of_each_side():
    true, false = ["it is a judge", "nobody knows"], ["it is a potter", "it was a potter"]
    assert nearer_truth("it is a judge", true, false, rouge1) == (pytest.approx(1 - 3 / 4), 1)
    assert nearer_truth("it was a potter", true, false, rouge1) == (pytest.approx(2 / 4 - 1), 0)
    assert nearer_truth("so what", true, false, rouge1) == (0, 0)  # like none of them


@pytest.mark.parametrize(
    ("score", "module"), [(bleu, "sacrebleu.metrics"), (rouge1, "rouge_score.rouge_scorer")]
)
def test_says_what_to_install(score, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=r"memkit\[scores\]"):
        score("a", "a")
