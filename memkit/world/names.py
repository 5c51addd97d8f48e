"""Invented names: pronounceable, unique, and equal for equal seeds."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["NameMaker"]

ONSETS = "b br c d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w z".split()
VOWELS = "a e i o u ae ai ea ia io ou".split()
CODAS = ["", "", "", "l", "m", "n", "nd", "r", "rk", "s", "st", "th", "x"]
CITY_ENDINGS = "burg dal ford gate haven holm mar mere mont port stad ton ville wick".split()
COUNTRY_ENDINGS = "ania eria istan land mark onia ovia uria".split()
COMPANY_ENDINGS = "Foundry Freight Holdings Instruments Mills Optics Press Works Yards".split()


class NameMaker:
    """Makes names from `rng`; no name is given twice, and none that stands in `taken`."""

    def __init__(self, rng: random.Random, taken: set[str] | None = None) -> None:
        self.rng = rng
        self.taken = set(taken or ())

    def word(self, syllables: int) -> str:
        """A capitalised word of so many syllables; words may repeat."""
        parts = [self.rng.choice(ONSETS) + self.rng.choice(VOWELS) for _ in range(syllables)]
        return ("".join(parts) + self.rng.choice(CODAS)).capitalize()

    def person(self) -> str:
        """A first name and a family name."""
        return self._new(lambda: f"{self.word(2)} {self.word(self.rng.choice((1, 2)))}")

    def city(self) -> str:
        """One word with a place's ending."""
        return self._new(lambda: self.word(self.rng.choice((1, 2))) + self.rng.choice(CITY_ENDINGS))

    def country(self) -> str:
        """One word with a country's ending."""
        return self._new(lambda: self.word(2)[:5] + self.rng.choice(COUNTRY_ENDINGS))

    def company(self) -> str:
        """A word and a trade."""
        return self._new(lambda: f"{self.word(2)} {self.rng.choice(COMPANY_ENDINGS)}")

    def thing(self) -> str:
        """One word: a language, a coin, a river."""
        return self._new(lambda: self.word(2))

    def _new(self, make: Callable[[], str]) -> str:
        """Call `make` until it gives a name that was not given before."""
        while (name := make()) in self.taken:
            pass
        self.taken.add(name)
        return name
