"""Statistics against hand tables and scipy, and on simulated memories that do not differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from memkit.compare.statistics import Scores, cohens_h, holm, odds_ratio, over_groups, pairs, score
from memkit.errors import BadInput


def scores(values, groups=None, seed=0):
    keys = [(seed, str(place)) for place in range(len(values))]
    groups = range(len(values)) if groups is None else groups
    return Scores(dict(zip(keys, values, strict=True)), dict(zip(keys, groups, strict=True)))


def test_holm_is_the_hand_table():
    # sorted: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, .04 * 1 = .04 but not below .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_effect_sizes_are_the_hand_tables():
    assert cohens_h(0.5, 0.25) == pytest.approx(math.pi / 2 - math.pi / 3)
    assert cohens_h(1, 0) == pytest.approx(math.pi)
    ratio, low, high = odds_ratio(12, 4)
    assert ratio == pytest.approx(3)
    exact = stats.beta.ppf(0.025, 12, 5), stats.beta.ppf(0.975, 13, 4)  # Clopper & Pearson
    assert (low, high) == pytest.approx([share / (1 - share) for share in exact])
    assert odds_ratio(0, 0) == (1.0, 0.0, math.inf)
    assert odds_ratio(3, 0)[0] == math.inf
    assert odds_ratio(0, 3)[0] == 0.0


def test_over_single_rows_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(30), rng.random(30)
    assert over_groups(a - b, range(30)) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_rows_of_a_subject_count_together():
    rng = np.random.default_rng(1)
    means = rng.normal(0.3, 1, 12)
    assert over_groups(np.repeat(means, 5), np.repeat(np.arange(12), 5)) == pytest.approx(
        stats.ttest_1samp(means, 0).pvalue
    )
    assert over_groups(np.repeat(means, 5), range(60)) < over_groups(means, range(12))
    assert over_groups(np.ones(3), ["one"] * 3) == 1.0
    assert over_groups(np.zeros(3), range(3)) == 1.0


def test_a_pair_has_mcnemars_exact_p():
    a = scores([1] * 12 + [0] * 4 + [1] * 20 + [0] * 10)
    b = scores([0] * 12 + [1] * 4 + [1] * 20 + [0] * 10)
    (pair,) = pairs({"a": a, "b": b})
    assert pair.mcnemar == pytest.approx(stats.binomtest(12, 16).pvalue)
    assert pair.difference.value == pytest.approx(8 / 46)
    assert pair.p == max(pair.subjects, pair.mcnemar)
    assert pair.ratio[0] == pytest.approx(3)
    assert pair.holm == pair.p
    assert pair.rows == 46


def test_a_difference_within_its_interval_is_open_and_a_clear_one_is_not():
    a, b = scores([1] * 30 + [0] * 10), scores([0] * 30 + [0] * 10)
    near = scores([1] * 29 + [0] * 11)
    found = {(pair.a, pair.b): pair for pair in pairs({"a": a, "b": b, "near": near})}
    assert found["a", "b"].verdict == "a"
    assert found["b", "near"].verdict == "b"
    assert found["a", "near"].difference.value > 0
    assert found["a", "near"].verdict == "open"


def test_many_pairs_are_corrected_together():
    rng = np.random.default_rng(3)
    base = (rng.random(40) < 0.5).astype(float)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:7]] = 1
    alone = pairs({"base": scores(base), "better": scores(better)})[0]
    assert alone.verdict == "b"
    others = {f"copy {place}": scores(base) for place in range(6)}
    crowd = {
        (p.a, p.b): p for p in pairs({"base": scores(base), "better": scores(better), **others})
    }
    assert crowd["base", "better"].holm > alone.holm
    assert crowd["base", "better"].verdict == "open"


def test_only_common_rows_are_compared():
    a, b = scores([1, 1, 0]), scores([1, 0])
    assert pairs({"a": a, "b": b})[0].rows == 2
    assert pairs({"a": a, "b": scores([1], seed=9)}) == ()
    assert pairs({"a": a, "b": b}, fair=lambda x, y: False) == ()


def test_a_subject_is_one_group_whatever_the_seed():
    rng = np.random.default_rng(5)
    keys = [(seed, f"row {n}") for seed in (0, 1) for n in range(30)]
    groups = {key: int(key[1].split()[1]) for key in keys}  # each subject under both seeds
    a, b = ({key: float(rng.random() < share) for key in keys} for share in (0.7, 0.4))
    b = {key: b[0, key[1]] for key in keys}
    a = {key: a[0, key[1]] for key in keys}  # a second seed that tells nothing new
    (pair,) = pairs({"a": Scores(a, groups), "b": Scores(b, groups)})
    once = {key: value for key, value in a.items() if key[0] == 0}
    (alone,) = pairs({"a": Scores(once, groups), "b": Scores(b, groups)})
    assert (pair.rows, alone.rows) == (60, 30)
    assert pair.difference == alone.difference
    assert pair.subjects == pytest.approx(alone.subjects)
    apart = {key: key for key in keys}
    (narrow,) = pairs({"a": Scores(a, apart), "b": Scores(b, apart)})
    wide = pair.difference.high - pair.difference.low
    assert narrow.difference.high - narrow.difference.low < 0.8 * wide


def test_the_spread_over_seeds_is_of_their_means():
    values = {(0, "x"): 1.0, (0, "y"): 0.0, (1, "x"): 1.0, (1, "y"): 1.0}
    found = score(Scores(values, dict.fromkeys(values, "s")))
    assert found.seeds == (0.5, 1.0)
    assert found.deviation == pytest.approx(np.std([0.5, 1.0], ddof=1))
    assert found.mean == 0.75
    assert score(scores([1, 0])).deviation is None


def test_a_score_that_is_none_is_refused():
    with pytest.raises(BadInput, match=r"-1\.0"):
        pairs({"a": scores([-1.0, 0.0]), "b": scores([0.0, 0.0])})


@pytest.mark.parametrize("grouped", [False, True])
def test_memories_that_do_not_differ_win_in_at_most_five_of_a_hundred(grouped):
    rng, wins, trials = np.random.default_rng(11 + grouped), 0, 600
    for _ in range(trials):
        subjects = np.repeat(np.arange(30), 2) if grouped else np.arange(60)
        chance = rng.beta(1, 1, subjects.max() + 1)[subjects]
        luck = rng.random((2, subjects.max() + 1))[:, subjects]
        a, b = luck < chance  # a subject's rows are right or wrong together
        tables = {"a": scores(a.astype(float), subjects), "b": scores(b.astype(float), subjects)}
        wins += pairs(tables, resamples=300)[0].verdict != "open"
    assert wins / trials <= 0.07
    assert wins > 0  # it is not that nothing ever wins


def test_in_a_table_of_memories_that_do_not_differ_hardly_ever_one_wins():
    rng, wins, trials = np.random.default_rng(3), 0, 150
    for _ in range(trials):
        chance = rng.beta(1, 1, 60)
        table = {f"m{i}": scores((rng.random(60) < chance).astype(float)) for i in range(5)}
        wins += any(pair.verdict != "open" for pair in pairs(table, resamples=200))
    assert wins / trials <= 0.05
