"""The edit scope: a question about an edited fact goes where the new fact is.

Popularity knows nothing of a fact that was edited yesterday: of an unpopular subject a router by
popularity fetches the stale passage, of a popular one it trusts the weights whether or not the edit
took. So this stage comes first in a cascade. It looks at the reports of the live edits (signal
"edits") and never at the model:

    covered, and the report says learnt       the edited weights
    covered, not learnt                       text that states the new fact: the fact's definition
                                              if it holds the target, else the fact's own sentence
    covered, to be forgotten                  the edited weights: no text that may state it
    not covered                               the next stage

A stale passage is thus never shown with a question about an edited fact. The newest edit of a fact
counts.

A question is covered if it is about the fact's subject, and asks for the fact's relation:

    subject    `question.subject`, else a name in its text, the longest first, is the subject of the
               fact or an alias of it; compared without regard to case, blanks and forms (NFKC)
    relation   the same where both say theirs; else, by words, the fact's prompt or a paraphrase:
               at least `overlap` of the prompt's words beside the subject are in the question.
               Words such as "the" and "of" count only where a prompt has no others

Two entities of one name are one subject here: a question that does not say which is meant is
answered with the new fact.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from memkit.errors import BadInput
from memkit.mentions import Mentions
from memkit.routing.base import NO_SIGNALS, Signals, edits
from memkit.types import Decision, EditReport, Fact, FactReport, Passage, Question

__all__ = ["EditScope"]

WORD = re.compile(r"\w+")
FUNCTION = frozenset(
    "a an and are as at be been by did do does for from had has have he her his in is it its of on "
    "or s she that the their they this to was were with".split()
)


@dataclass(frozen=True)
class EditScope:
    """Sends questions about edited facts to the edited weights, or to text with the new fact.

    aliases: from another name to a subject, as facts spell it.
    overlap: share of a prompt's words that a question without a relation has to have; in (0, 1].

    As a stage of a `Cascade` it passes on what no live edit covers; asked alone (`decide`) it
    leaves that to the weights.

    Raises `BadInput` for an overlap outside of (0, 1].
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    overlap: float = 0.5
    _kept: list[tuple[tuple[EditReport, ...], _Ledger]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check the overlap."""
        if not 0 < self.overlap <= 1:
            raise BadInput(f"EditScope.overlap is {self.overlap!r}; allowed: a share in (0, 1].")

    def consider(self, question: Question, signals: Signals) -> Decision | None:
        """The decision of a covered question, None for others.

        Raises `MissingSignal` if the signal "edits" is not there.
        """
        found = self.covering(question, signals)
        if found is None:
            return None
        fact = found.fact
        if found.forget:
            reason = f"{fact.text!r} was to be forgotten: no text that may state it"
            return Decision("weights", reason=reason)
        what = f"{fact.text!r} was edited to {fact.target!r}"
        if found.learnt:
            return Decision("weights", reason=f"{what}, and the weights have learnt it")
        reason = f"{what}, which the weights have not learnt: told in the prompt"
        return Decision("retrieval", reason=reason, passages=(updated(fact),))

    def decide(self, question: Question, signals: Signals = NO_SIGNALS) -> Decision:
        """As `consider`; weights for a question that no live edit covers."""
        return self.consider(question, signals) or Decision(
            "weights", reason="no live edit covers it"
        )

    def covering(self, question: Question, signals: Signals) -> FactReport | None:
        """The newest live edit's report of the fact that the question asks for, if there is one.

        Raises as `consider`.
        """
        ledger = self._ledger(edits(signals, "EditScope"))
        for subject in ledger.subjects(question):
            for row in ledger.rows.get(subject, ()):
                if self._asks(question, row.fact):
                    return row
        return None

    def _ledger(self, reports: tuple[EditReport, ...]) -> _Ledger:
        """The reports by subject: built once for as long as the same reports are given."""
        if not self._kept or self._kept[0][0] is not reports:
            self._kept[:] = [(reports, _Ledger.of(reports, self.aliases))]
        return self._kept[0][1]

    def _asks(self, question: Question, fact: Fact) -> bool:
        """Whether the question asks for the fact's relation."""
        if question.relation is not None and fact.relation is not None:
            return _key(question.relation) == _key(fact.relation)
        asked = set(_words(question.text))
        own = set(_words(fact.subject))
        for prompt in (fact.text, *fact.paraphrases):
            words = set(_words(prompt)) - own
            words = words - FUNCTION or words
            if words and len(words & asked) >= self.overlap * len(words):
                return True
        return False


def updated(fact: Fact) -> Passage:
    """Text that states an edited fact: its definition if that holds the target, else a sentence."""
    name = f"edit:{fact.id or fact.text}"
    if fact.definition is not None and _key(fact.target) in _key(fact.definition):
        return Passage(name, fact.definition, fact.subject)
    return Passage(name, f"{fact.text} {fact.target}.", fact.subject)


@dataclass(frozen=True)
class _Ledger:
    """Facts under edit by the key of their subject, the newest first, and names that lead there."""

    rows: dict[str, list[FactReport]]
    titles: dict[str, str]
    mentions: Mentions

    @classmethod
    def of(cls, reports: Iterable[EditReport], aliases: Mapping[str, str]) -> _Ledger:
        rows: dict[str, list[FactReport]] = {}
        titles = {_key(alias): _key(title) for alias, title in aliases.items()}
        names = set(aliases)
        for row in (row for report in reports for row in report.facts):
            key = _key(row.fact.subject)
            rows.setdefault(key, []).insert(0, row)
            titles[key] = key  # a subject stands for itself, whatever it is an alias of
            names.add(row.fact.subject)
        return cls(rows, titles, Mentions(names))

    def subjects(self, question: Question) -> list[str]:
        """The keys of the subjects that the question may be about, of those known here."""
        if not self.rows:
            return []
        if question.subject is not None:
            names = [question.subject]
        else:
            names = [mention.name for mention in self.mentions.find(question.text)]
        return [self.titles[key] for key in map(_key, names) if key in self.titles]


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _words(text: str) -> list[str]:
    return WORD.findall(_key(text))
