from __future__ import annotations

import random

import pytest

from memkit.retrieval import java
from memkit.retrieval.analysis import LONGEST, STOP_WORDS, stem, terms, words

MISSING = [finding for finding in java.diagnose() if not finding.ok]
needs_lucene = pytest.mark.skipif(bool(MISSING), reason=f"Lucene cannot run here: {MISSING}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e-mail, AT&T; C++ (c#) :-)", ["e", "mail", "AT", "T", "C", "c"]),
        ("U.S.A. and a:b, x_y", ["U.S.A", "and", "a:b", "x_y"]),
        ("3.14 of 1,000,000; 12;5 or 3:4", ["3.14", "of", "1,000,000", "12;5", "or", "3", "4"]),
        ("a.3 3.a 3a.b", ["a", "3", "3", "a", "3a.b"]),
        ("O’Neil's dogs' it''s", ["O’Neil's", "dogs", "it", "s"]),
        ("_ __ _a_ 1_2", ["_a_", "1_2"]),
        ("cafe\u0301 na\u00efve", ["cafe\u0301", "na\u00efve"]),
        ("日本語テスト ひら 2010年", ["日", "本", "語", "テスト", "ひ", "ら", "2010", "年"]),
        ("한국어 x² ½", ["한국어", "x"]),
        ("x〇〆 カタ゛ｶﾞﾞ", ["x", "〇", "カタ゛ｶﾞﾞ"]),
        ("カナ_x_カナ カナx", ["カナ_x_カナ", "カナ", "x"]),
        ("cafe\u0301's ٣٫١٤", ["cafe\u0301's", "٣٫١٤"]),
        ("", []),
    ],
)
def test_words_are_cut_as_the_annex_says(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_long_word_is_cut_into_pieces() -> None:
    assert [len(word) for word in words("a" * (2 * LONGEST + 1))] == [LONGEST, LONGEST, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Dogs of the CITY", ["dog", "citi"]),
        ("Erewhon's O’Neil’S", ["erewhon", "o’neil"]),
        ("the's THE’s", []),
        ("to be or not to be", []),
        ("İstanbul", ["istanbul"]),
        ("ΟΔΟΣ οδος", ["οδοσ", "οδος"]),  # letter by letter, as Java does it
        ("tea tea", ["tea", "tea"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_there_are_thirty_three_stop_words() -> None:
    assert len(STOP_WORDS) == 33


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("possibly", "possibl"),  # -bli to -ble: Snowball's gives possibli
        ("possible", "possibl"),
        ("incredibly", "incred"),
        ("psychology", "psycholog"),  # -logi to -log: Snowball's gives psychologi
        ("psychological", "psycholog"),
        ("technologie", "technologi"),  # the -e goes after that step
        ("s", "s"),  # two letters and fewer stay
        ("vs", "vs"),
    ],
)
def test_porters_later_changes(word: str, expected: str) -> None:
    assert stem(word) == expected


@needs_lucene
def test_terms_are_lucenes() -> None:
    java.jvm()
    from jnius import autoclass

    analyzer = autoclass("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
    analyze = autoclass("io.anserini.analysis.AnalyzerUtils").analyze
    rng = random.Random(3)
    stems = ["psycho", "relat", "hopp", "connect", "tri", "y", "bli", "the", "kni", "syzyg", "a"]
    ends = "s ies ed ing ational bly ably logy logies ness fulness ement ly y e er ism".split(" ")
    marks = [
        " ",
        " ",
        ", ",
        ". ",
        "'s ",
        "’s ",
        "-",
        "_",
        ".",
        ":",
        ";",
        "'",
        "/",
        "é",
        "日",
        "カ",
        "e\u0301",
        "〇",
    ]
    marks += ["゛", "ﾞ", "Σ", "〆"]
    numbers = ["7", "3.14", "1,000", "4:30", "٣"]
    text = [
        rng.choice(stems) + rng.choice(ends) + rng.choice(marks)
        if rng.random() < 0.8
        else rng.choice(numbers) + rng.choice(marks)
        for _ in range(3_000)
    ]
    for start in range(0, len(text), 20):
        piece = "".join(text[start : start + 20])
        assert terms(piece) == list(analyze(analyzer, piece).toArray()), piece
