"""Text to terms, as Lucene's analyser for English does it, in Python.

Words as Unicode Standard Annex 29 cuts them, without a possessive 's, in lower case, without
Lucene's 33 stop words, then Porter's stemmer (Porter, "An algorithm for suffix stripping",
Program 1980): Lucene's `EnglishAnalyzer`, Anserini's `DefaultEnglishAnalyzer`.

Departures: no dictionary words of Thai or Khmer, no emoji. Lucene's stemmer has two changes that
Porter made to his own code later (-bli to -ble, -logi to -log) and leaves words of two letters
alone; Snowball's does neither, so both are done here.
"""

from __future__ import annotations

import functools
import re
from typing import Any

__all__ = ["STOP_WORDS", "stem", "terms", "words"]

_STOP = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
STOP_WORDS = frozenset(_STOP.split())
LONGEST = 255  # characters; Lucene cuts longer words into pieces
POSSESSIVES = ("'s", "’s", "＇s", "'S", "’S", "＇S")

# Character classes of the annex, as far as `\w` does not give them
_MARKS = "\u00ad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u064b-\u065f\u0900-\u0903\u093a-\u094f"
_MARKS += "\u200c-\u200f\u2060\u3099\u309a\ufe0f\uff9e\uff9f"
_SINGLE = (
    "〇〡-〩〸-〻\u3040-\u3098\u309d-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han, kana
)
_SINGLE += "\U00020000-\U0003ffff"
_KATAKANA = "\u3031-\u3035\u309b\u309c\u30a0-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
_NEITHER = "〆²³¹¼-¾\u2070\u2074-\u2079\u2080-\u2089\u2150-\u215f\u2460-\u249b"  # in no word there
_BOTH = ".'‘’․﹒．＇"  # inside words and inside numbers
_RUN = rf"(?:(?![{_SINGLE}{_KATAKANA}{_NEITHER}{_MARKS}])[\w٫][{_MARKS}]*)+"
_INSIDE = (
    rf"(?<=[^\W\d_]|[{_MARKS}])[{_BOTH}:·\u0387״‧：](?=[^\W\d_])"
    rf"|(?<=[\d٫])[{_BOTH},;\u037e։،؍٬߸⁄，；](?=[\d٫])"
)
_PIECE = rf"(?:{_RUN}(?:(?:{_INSIDE}){_RUN})*|(?:[{_KATAKANA}][{_MARKS}]*)+)"
WORD = re.compile(rf"{_PIECE}(?:(?:(?<=_)|(?=_)){_PIECE})*|[{_SINGLE}][{_MARKS}]*")
_SYLLABLE = re.compile(r"(?:[aeiou]|(?<=[^aeiouy])y)[^aeiou]")  # Porter's VC, so that m > 0
_LATER = re.compile(r"(bl|log)(?:y|yed|ying|i|is|ies|ied|iing)$")  # -bli, -logi in his step 2


def words(text: str) -> list[str]:
    """The words of a text, as they stand there."""
    found: list[str] = []
    for word in WORD.findall(text):
        if not word.strip("_"):
            continue
        if len(word) <= LONGEST:
            found.append(word)
        else:
            found.extend(word[n : n + LONGEST] for n in range(0, len(word), LONGEST))
    return found


def terms(text: str) -> list[str]:
    """The terms of a text, in order: what BM25 counts. Empty where all are stop words."""
    return [term for word in words(text) if (term := _term(word))]


@functools.lru_cache(maxsize=1 << 17)
def _term(word: str) -> str:
    """The term of a word; empty for a stop word."""
    if word.endswith(POSSESSIVES):
        word = word[:-2]
    word = word.replace("İ", "i").replace("Σ", "σ").lower()  # letter by letter
    return "" if word in STOP_WORDS else stem(word)


def stem(word: str) -> str:
    """Porter's stem of a word in lower case."""
    if len(word) < 3:
        return word
    found: str = _porter().stemWord(word)
    later = _LATER.search(word)
    if later is None or found != word[: later.end(1)] + "i":
        return found
    if not _SYLLABLE.search(word, 0, later.start(1)):
        return found
    return found[:-1] if later[1] == "log" else str(_porter().stemWord(f"{found[:-1]}e"))


@functools.cache
def _porter() -> Any:
    import Stemmer

    return Stemmer.Stemmer("porter", 0)
