from __future__ import annotations

import collections
import random
import re

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from memkit.errors import BadInput
from memkit.world import Caseload, opinions
from memkit.world.law import CLAUSES, FRAMES, NEIGHBOURS, REASSIGNED
from memkit.world.opinions import CHANGE

SPLITS = ("train", "test", "shifted", "shifted_holdout")
SMALL = Caseload(train=80, test=20, shifted=40, shifted_holdout=20)


@pytest.fixture(scope="module")
def made():
    return opinions(0)


@pytest.fixture(scope="module")
def splits(made):
    return {name: [o for o in made if o.split == name] for name in SPLITS}


def test_equal_seeds_give_equal_opinions_and_others_do_not():
    state = random.getstate()
    assert opinions(3, SMALL) != opinions(4, SMALL)
    assert opinions(3, SMALL) == opinions(3, SMALL)
    assert random.getstate() == state


def test_each_split_has_its_size_in_the_order_of_time(splits):
    loads = Caseload()
    for name, own in splits.items():
        assert len(own) == getattr(loads, name)
        years = [opinion.year for opinion in own]
        assert years == sorted(years)
        assert len(set(years)) > 10
        assert all((year >= CHANGE) == name.startswith("shifted") for year in years)


def test_no_case_is_in_two_splits(made):
    assert len({opinion.case for opinion in made}) == len(made)
    assert len({opinion.text.split("\n", 1)[1] for opinion in made}) == len(made)


def test_texts_name_their_case_and_have_60_to_200_words(made):
    for opinion in made:
        assert opinion.text.startswith(f"{opinion.case}\n")
        assert 60 <= len(opinion.text.split()) <= 200
        assert "{" not in opinion.text


def test_every_issue_area_is_common(splits):
    for own in splits.values():
        counts = collections.Counter(opinion.label for opinion in own)
        assert set(counts) == set(CLAUSES)
        assert min(counts.values()) > 0.02 * len(own)


def test_the_law_has_a_place_for_every_mix():
    assert set(NEIGHBOURS) == set(CLAUSES)
    for (first, second), area in REASSIGNED.items():
        assert second in NEIGHBOURS[first]
        assert area in CLAUSES
        assert area != first
    assert all(first not in seconds for first, seconds in NEIGHBOURS.items())
    assert all(frame.count("{}") == 1 for frame in FRAMES)


def topics(opinion):
    """The topics by how many sentences state them; found by the words that no slot changes."""
    counts = collections.Counter()
    for topic, clauses in CLAUSES.items():
        for clause in clauses:
            pieces = [clause]
            for slot in ("{act}", "{place}", "{trade}"):
                pieces = [part for piece in pieces for part in piece.split(slot)]
            counts[topic] += min(opinion.text.count(piece) for piece in pieces)
    return counts.most_common(2)


def test_labels_follow_the_mix_and_the_law_of_the_year(made):
    ties = reassigned = 0
    for opinion in made[:: len(made) // 1000]:
        (first, most), (_, rest) = topics(opinion)
        if most == rest:
            ties += 1
        elif opinion.year < CHANGE:
            assert opinion.label == first
        elif opinion.label != first:
            # The second topic may tie with a stray sentence of another
            assert opinion.label in {a for (one, _), a in REASSIGNED.items() if one == first}
            reassigned += rest > 0
    assert 50 < ties < 200
    assert reassigned > 30


def test_a_reader_of_old_opinions_is_right_on_others_and_wrong_on_many_new_ones(splits):
    words = CountVectorizer()
    old = splits["train"][::3]
    seen = words.fit_transform([opinion.text for opinion in old])
    reader = LogisticRegression(max_iter=300).fit(seen, [o.label for o in old])

    def accuracy(own):
        return reader.score(words.transform([o.text for o in own]), [o.label for o in own])

    assert 0.9 <= accuracy(splits["test"]) < 0.99
    assert 0.5 <= accuracy(splits["shifted"]) <= 0.65
    assert 0.5 <= accuracy(splits["shifted_holdout"]) <= 0.65


def test_new_opinions_come_in_lines_with_words_of_their_own(splits):
    def acts(*names):
        found = collections.Counter()
        for name in names:
            for opinion in splits[name]:
                found.update(set(re.findall(r"the (\w+) Act", opinion.text)))
        return found

    new = acts("shifted")
    assert not new.keys() & acts("train", "test").keys()
    assert set(acts("shifted_holdout")) <= set(new)
    assert min(new.values()) > 3


def test_an_empty_split_is_refused():
    with pytest.raises(BadInput, match=r"Caseload\.test is 0; allowed: at least 1"):
        Caseload(test=0)
