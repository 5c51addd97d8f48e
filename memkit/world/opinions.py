"""Court opinions for a classifier, byte for byte equal for a seed, with a change of law in between.

Cases come in lines: similar cases about one mix of two topics, with a statute, a county and a trade
of their own. The issue area of an opinion follows from its mix. It is the topic with the most
sentences, and where both have as many, either may have been named (a coin). From `CHANGE` on the
mixes of `memkit.world.law.REASSIGNED` belong to another area. So a classifier that learnt the old
years is right on others of them, though not on all, and wrong on a good part of the new ones: the
label shift of SCOTUS (Chalkidis et al., FairLex, ACL 2022), which Hartvigsen et al. edit away.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from memkit.benchmarks.opinions import Opinion
from memkit.errors import BadInput
from memkit.world.law import (
    ACTS,
    CLAUSES,
    FRAMES,
    NEIGHBOURS,
    NOISE,
    PLACES,
    REASSIGNED,
    TRADES,
)
from memkit.world.names import NameMaker

__all__ = ["CHANGE", "Caseload", "opinions"]

OLD, CHANGE, END = 1950, 1986, 2010  # the first old year, the first new year, the year after
SPAN = 3  # years that a line of cases takes
NEW_LINE, OLD_LINE = (10, 20), (4, 12)  # cases in a line
SHIFTED = 0.46  # share of the new lines whose mix is reassigned
CLAUSES_KEPT = 6  # of a topic's clauses, those that one line of cases uses
LENGTHS = (3, 4, 5, 6, 8, 10)  # sentences that state one of the two topics
LENGTH_WEIGHTS = (44, 24, 16, 8, 5, 3)
TIED = 0.3  # share of the even lengths where both topics have as many sentences
STRAY = 0.15  # share of the opinions with a sentence of another topic
WORDS = (60, 200)


@dataclass(frozen=True, slots=True)
class Caseload:
    """How many opinions each split has."""

    train: int = 6_000
    test: int = 300
    shifted: int = 1_000
    shifted_holdout: int = 320

    def __post_init__(self) -> None:
        """Raise `BadInput` for a split without opinions."""
        for name in ("train", "test", "shifted", "shifted_holdout"):
            if getattr(self, name) < 1:
                raise BadInput(
                    f"Caseload.{name} is {getattr(self, name)!r}; allowed: at least 1. Ask for "
                    "more opinions."
                )


@dataclass(frozen=True, slots=True)
class Line:
    """A line of similar cases: its topics, the clauses of each, and words of its own."""

    first: str
    second: str
    clauses: tuple[tuple[str, ...], tuple[str, ...]]
    words: dict[str, str]
    year: int


def opinions(seed: int = 0, caseload: Caseload | None = None) -> tuple[Opinion, ...]:
    """All four splits, one after the other, each in the order of time.

    "train" and "test" are opinions of the old years and share their lines of cases, "shifted" and
    "shifted_holdout" those of the new ones. No case is in two splits.
    """
    rng = random.Random(seed)
    caseload = caseload or Caseload()
    names = NameMaker(rng)
    halves = (
        (_old_lines(rng), OLD_LINE, "train", "test"),
        (_new_lines(rng), NEW_LINE, "shifted", "shifted_holdout"),
    )
    made: list[Opinion] = []
    for lines, size, most, rest in halves:
        count = getattr(caseload, most) + getattr(caseload, rest)
        cases = _cases(rng, names, lines, size, most)
        some = [next(cases) for _ in range(count)]
        apart = set(rng.sample(range(count), getattr(caseload, rest)))
        for split in (most, rest):
            own = [o for i, o in enumerate(some) if (i in apart) == (split == rest)]
            rng.shuffle(own)  # cases of one year come mixed
            made += (replace(o, split=split) for o in sorted(own, key=lambda o: o.year))
    return tuple(made)


def _old_lines(rng: random.Random) -> Iterator[Line]:
    """Every mix equally often, with words that new lines do not have."""
    half = [words[::2] for words in (ACTS, PLACES, TRADES)]
    mixes = [(first, second) for first in NEIGHBOURS for second in NEIGHBOURS[first]]
    while True:
        for mix in rng.sample(mixes, len(mixes)):
            yield _line(rng, mix, half, rng.randrange(OLD, CHANGE - SPAN + 1))


def _new_lines(rng: random.Random) -> Iterator[Line]:
    """A share of `SHIFTED` reassigned mixes, each of them equally often, and others."""
    half = [words[1::2] for words in (ACTS, PLACES, TRADES)]
    reassigned = list(REASSIGNED)
    others = [(a, b) for a in NEIGHBOURS for b in NEIGHBOURS[a] if (a, b) not in REASSIGNED]
    while True:
        some = rng.sample(others, round(len(reassigned) * (1 / SHIFTED - 1)))
        mixes = [*reassigned, *some]
        for mix in rng.sample(mixes, len(mixes)):
            yield _line(rng, mix, half, rng.randrange(CHANGE, END - SPAN + 1))


def _line(
    rng: random.Random, mix: tuple[str, str], words: Sequence[Sequence[str]], year: int
) -> Line:
    act, place, trade = (rng.choice(some) for some in words)
    first, second = (tuple(rng.sample(CLAUSES[topic], CLAUSES_KEPT)) for topic in mix)
    own = {"act": f"{act} Act", "place": f"{place} County", "trade": trade}
    return Line(mix[0], mix[1], (first, second), own, year)


def _cases(
    rng: random.Random,
    names: NameMaker,
    lines: Iterator[Line],
    size: tuple[int, int],
    split: str,
) -> Iterator[Opinion]:
    """Opinions, line after line."""
    for line in lines:
        for _ in range(rng.randint(*size)):
            case = f"{names.thing()} v. {names.thing()}"
            counts = _mix(rng)
            text = f"{case}\n{_text(rng, line, counts)}"
            year = line.year + rng.randrange(SPAN)
            yield Opinion(case, year, text, _label(rng, line, counts), split)


def _mix(rng: random.Random) -> tuple[int, int]:
    """How many sentences state the first topic, and how many the second."""
    (total,) = rng.choices(LENGTHS, LENGTH_WEIGHTS)
    if total % 2 == 0 and rng.random() < TIED:
        return total // 2, total // 2
    second = rng.randint(1, (total - 1) // 2)
    return total - second, second


def _label(rng: random.Random, line: Line, counts: tuple[int, int]) -> str:
    """The issue area, by the law of the line's years."""
    if counts[0] == counts[1]:
        return rng.choice((line.first, line.second))
    area = line.first
    return REASSIGNED.get((line.first, line.second), area) if line.year >= CHANGE else area


def _text(rng: random.Random, line: Line, counts: tuple[int, int]) -> str:
    """Sentences of both topics and some of neither, in random order."""
    stated = [
        clause
        for clauses, count in zip(line.clauses, counts, strict=True)
        for clause in rng.sample(clauses * 2, count)  # few twice
    ]
    if sum(counts) > 4 and rng.random() < STRAY:
        others = [topic for topic in CLAUSES if topic not in (line.first, line.second)]
        stated.append(rng.choice(CLAUSES[rng.choice(others)]))
    sentences = [rng.choice(FRAMES).format(clause) for clause in stated]
    noise = rng.sample(NOISE, len(NOISE))
    while sum(len(s.split()) for s in sentences) < WORDS[0] + rng.randrange(15):
        sentences.append(noise.pop())
    rng.shuffle(sentences)
    return " ".join(sentences).format(**line.words)
