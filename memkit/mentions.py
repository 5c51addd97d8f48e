"""Names in a text: which known names it mentions, by longest match on whole words.

Names and text are compared word by word after Unicode's compatibility normalisation (NFKC) and
case folding; curly quotes and the various dashes count as plain ones. Punctuation counts ("C++" is
not "C"), white space does not. In scripts that are written without spaces (Han, kana, Thai, Lao,
Burmese, Khmer) every character is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from memkit.errors import BadInput

__all__ = ["Mention", "Mentions"]

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
MARK = "\ue000"  # stands for a combining character, which no regular expression can name
WORD = re.compile(rf"[{UNSPACED}]{MARK}*|(?:[^\W{UNSPACED}]{MARK}*)+|[^\w\s]{MARK}*")
PLAIN = str.maketrans("\u2018\u2019\u201c\u201d\u2010\u2011\u2012\u2013\u2014", "''\"\"-----")


@dataclass(frozen=True, slots=True)
class Mention:
    """A name as given, and where the text mentions it: `text[start:end]`."""

    name: str
    start: int
    end: int


class Mentions:
    """Finds known names in texts: the cost of a text does not grow with the number of names.

    Raises `BadInput` for a name without any word or mark in it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, list[str]] = {}  # by their words; several where only case differs
        lengths: dict[str, set[int]] = {}  # by first word: how many words such names have
        for name in sorted(set(names)):
            words = [word for word, _, _ in _words(name)]
            if not words:
                raise BadInput(
                    f"the name {name!r} is empty; allowed: names with at least one word. "
                    "Leave it out."
                )
            self._names.setdefault(" ".join(words), []).append(name)
            lengths.setdefault(words[0], set()).add(len(words))
        self._lengths = {first: sorted(counts) for first, counts in lengths.items()}

    def __len__(self) -> int:
        """Number of different names."""
        return sum(len(names) for names in self._names.values())

    def find(self, text: str) -> list[Mention]:
        """The names in the text, the longest mention first (in characters), then the leftmost.

        No two mentions overlap, except that names which differ only in case or form share their
        place: those come in order of name. A name stands as often as the text mentions it.
        """
        words = _words(text)
        spans = []
        for first, (word, start, _) in enumerate(words):
            for count in self._lengths.get(word, ()):
                key = " ".join(word for word, _, _ in words[first : first + count])
                if first + count <= len(words) and key in self._names:
                    spans.append((start, words[first + count - 1][2], key))
        spans.sort(key=lambda span: (span[0] - span[1], span[0]))
        taken: list[tuple[int, int, str]] = []
        for span in spans:
            if all(span[1] <= start or span[0] >= end for start, end, _ in taken):
                taken.append(span)
        return [Mention(name, start, end) for start, end, key in taken for name in self._names[key]]


def _words(text: str) -> list[tuple[str, int, int]]:
    """The words and marks of a text, normalised, each with its start and end in the text."""
    spans = [match.span() for match in WORD.finditer(_marked(text))]
    return [(_normalised(text[start:end]), start, end) for start, end in spans]


def _marked(text: str) -> str:
    """The text with `MARK` for every combining character, so that it stays with its word."""
    if text.isascii():
        return text
    return "".join(MARK if unicodedata.category(c).startswith("M") else c for c in text)


def _normalised(word: str) -> str:
    if word.isascii():
        return word.lower()
    folded = unicodedata.normalize("NFKC", word).casefold()
    return unicodedata.normalize("NFKC", folded).translate(PLAIN)
