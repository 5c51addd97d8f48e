from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkit import BadInput
from memkit.mentions import Mention, Mentions


def found(names, text):
    return [mention.name for mention in Mentions(names).find(text)]


def test_finds_a_name_and_its_place():
    text = "Who wrote Erewhon?"
    assert Mentions(["Middlemarch"]).find(text) == []
    assert Mentions(["Erewhon"]).find(text) == [Mention("Erewhon", 10, 17)]
    assert text[10:17] == "Erewhon"


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["York", "New York", "New York City"], "Is New York City old?", ["New York City"]),
        (["York", "New York City"], "Is New York old?", ["York"]),
        (["New York", "York City Hall"], "the New York City Hall", ["York City Hall"]),
        (["Rome", "Paris"], "From Paris to Rome", ["Paris", "Rome"]),  # longest first
        (["Rome", "Oslo"], "From Rome to Oslo", ["Rome", "Oslo"]),  # then leftmost
        (["Rome"], "Rome is Rome", ["Rome", "Rome"]),
        (["Rom", "ome"], "Is Rome old?", []),  # whole words
        (["Rome"], "ROME'S walls", ["Rome"]),
        (["C", "C++"], "Who made C++?", ["C++"]),
        (["C++"], "Who made C?", []),
        (["St. John's"], "where is st.  john\u2019s?", ["St. John's"]),  # space and quotes
        (["Café Müller"], "cafe\u0301 MU\u0308LLER", ["Café Müller"]),  # composed or not
        (["Strasse"], "die Straße", ["Strasse"]),  # case folding
        (["ABC"], "the ＡＢＣ", ["ABC"]),  # full width
        (["東京"], "東京はどこですか", ["東京"]),  # no spaces
        (["Apple", "apple"], "an APPLE", ["Apple", "apple"]),  # both share the place
        (["कम"], "कमी", []),  # a combining vowel belongs to its word
        (["It"], "Who wrote it?", ["It"]),
        ([], "Who?", []),
        (["Who"], "", []),
    ],
)
def test_matches_whole_words_longest_first(names, text, expected):
    assert found(names, text) == expected


def test_counts_names_once():
    assert len(Mentions(["Apple", "apple", "apple"])) == 2


@pytest.mark.parametrize("name", ["", " \n"])
def test_refuses_an_empty_name(name):
    with pytest.raises(BadInput, match=re.escape(repr(name)) + ".*at least one word"):
        Mentions(["Rome", name])


WORDS = st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=4).map(" ".join)


@given(st.sets(WORDS, max_size=6), st.lists(st.sampled_from("abc"), max_size=12).map(" ".join))
def test_agrees_with_a_search_by_regular_expression(names, text):
    """Take the longest match of any name, blank it out, and go on."""
    expected, rest = [], text
    while True:
        matches = [
            (start.start() - len(name), start.start(), name)
            for name in names
            for start in re.finditer(rf"\b(?={re.escape(name)}\b)", rest)
        ]
        matches = [(-len(name), start, name) for _, start, name in matches]
        if not matches:
            break
        length, start, name = min(matches)
        expected.append(Mention(name, start, start - length))
        rest = rest[:start] + "." * -length + rest[start - length :]
    assert Mentions(names).find(text) == expected


@given(st.text(min_size=1).filter(str.strip))
def test_finds_every_name_in_its_own_forms(name):
    mentions = Mentions([name])
    for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        assert name in [mention.name for mention in mentions.find(f"about {form} .")]
