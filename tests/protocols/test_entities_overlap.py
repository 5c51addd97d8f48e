"""Shared words and gains: r by scipy, BLEU by hand, and what does not vary."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import scipy.stats

from memkit import BadInput
from memkit.benchmarks.probes import Cloze, EntityProbe
from memkit.protocols import overlap
from memkit.protocols.entities_result import EntitiesResult, Row, Summary
from memkit.protocols.entities_spans import View

ROWS = (  # definition, probe, P(gold) before and after by an editor, after by another
    ("Ann Lee lives in the city of Lima.", "Ann Lee lives in the city of ", "Lima", 0.1, 0.9, 0.2),
    ("Ann Lee lives in the city of Lima.", "The home of Ann Lee is ", "Lima", 0.2, 0.6, 0.9),
    ("Bo Dee works as a baker in Oslo.", "By trade Bo Dee is a ", "baker", 0.1, 0.3, 0.7),
    ("Cy Fu has two dogs.", "The animals next door bark at ", "night", 0.3, 0.2, 0.4),
)


def probe(text, left, span, candidates):
    return EntityProbe(text[:6].strip(), Cloze(text, ""), Cloze(left, span), candidates)


def result(candidates=True):
    probes = tuple(
        probe(text, left, span, (span, "x") if candidates else ()) for text, left, span, *_ in ROWS
    )

    def views(place):
        if candidates:
            return tuple(View(1.0, row[place], True) for row in ROWS)
        return tuple(View(-math.log(row[place])) for row in ROWS)

    def summary(name, place):
        return Summary(Row(name, name, views(3), views(place), (), (), (), 0.0), {})

    rows = {"base": summary("base", 3), "one": summary("one", 4), "other": summary("other", 5)}
    return EntitiesResult("lm", {}, probes, 0, {**rows, "still": summary("still", 3)})


def bleu(hypothesis, reference):
    """BLEU-4 of words and full stops, without smoothing (Papineni et al. 2002)."""
    told, text = (line.replace(".", " .").split() for line in (hypothesis, reference))
    logs = 0.0
    for n in range(1, 5):
        own, other = (
            Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
            for words in (told, text)
        )
        shared = sum((own & other).values())
        if not shared:
            return 0.0
        logs += math.log(shared / sum(own.values())) / 4
    return min(1.0, math.exp(1 - len(text) / len(told))) * math.exp(logs)


@pytest.mark.parametrize("candidates", [True, False])
def test_correlations_are_pearsons(candidates):
    found = overlap(result(candidates), samples=200)
    for method, place in (("one", 4), ("other", 5)):
        gains = [
            row[place] - row[3] if candidates else math.log(row[place] / row[3]) for row in ROWS
        ]
        assert found.gains[method] == pytest.approx(gains)
        for name, values in found.measures.items():
            r = scipy.stats.pearsonr(values, gains).statistic
            cell = found.correlations[method][name]
            assert cell.mean == pytest.approx(r)
            assert -1 <= cell.low <= cell.high <= 1
    assert found.correlations["one"]["rougeL"].mean > 0.9
    assert found.correlations["still"] == {}  # it gained nothing anywhere
    assert "still" in str(found)
    assert found.to_dict()["settings"]["samples"] == 200


def test_bleu_is_unsmoothed_and_rouge_a_recall():
    found = overlap(result(), samples=2)
    expected = [bleu(text, left + span) for text, left, span, *_ in ROWS]
    assert found.measures["bleu"] == pytest.approx(expected)
    assert expected[0] > 0 == expected[1]
    # of "the home of Ann Lee is Lima" the, of, Ann, Lee and Lima stand in the definition
    assert found.measures["rouge1"][1] == pytest.approx(5 / 7)
    assert found.measures["rougeL"][1] == pytest.approx(3 / 7)


def test_vectors_are_compared_if_there_is_an_encoder():
    class Lengths:
        def encode_passages(self, texts):
            import numpy as np

            return np.array([[1.0, float(len(text))] for text in texts])

    found = overlap(result(), encoder=Lengths(), samples=2)
    assert set(found.measures) == {"bleu", "rouge1", "rouge2", "rougeL", "cosine"}


def test_refuses_what_has_no_correlation():
    whole = result()
    one = EntitiesResult("lm", {}, whole.probes[:2], 0, whole.rows)
    with pytest.raises(BadInput, match="1 entities and 3 methods"):
        overlap(one)
    with pytest.raises(BadInput, match="samples"):
        overlap(whole, samples=0)
