"""Popularity of entities: page views by name, and what to do for a name without any.

The fall-back chain of `PopularityTable.lookup`, for a question that brings no popularity:

    alias     the entity is another name of a title that has page views
    title     the entity is such a title
    corpus    the entity is mentioned in n passages; n on the scale of page views, see `with_corpus`
    unknown   none of these

The entity is the question's subject, or else the longest name of the table that stands in its text
(the first of equally long ones). Names are compared without regard to case, runs of blanks and
compatibility forms (NFKC). A name shared by several entities (rows of a file, aliases of two
titles) stands for the one with the most page views: a question that does not say which means the
best known most often.

Departure: Mallen et al. (ACL 2023) drop every question whose entity has no page views.
"""

from __future__ import annotations

import csv
import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memkit.errors import BadInput
from memkit.mentions import Mentions
from memkit.progress import track
from memkit.types import Passage, Question

__all__ = ["Popularity", "PopularityTable"]

NAME_COLUMNS = ("name", "title", "subject", "subj", "s_wiki_title")
VIEWS_COLUMNS = ("popularity", "views", "s_pop")
ALIASES_COLUMNS = ("aliases", "s_aliases")


@dataclass(frozen=True, slots=True)
class Popularity:
    """Monthly page views (None: unknown), where in the chain they were found, and for whom."""

    value: float | None
    source: Literal["question", "alias", "title", "corpus", "unknown"]
    entity: str | None = None

    def __str__(self) -> str:
        """A clause for a decision's reason."""
        if self.entity is None:
            return "no known entity in the question"
        if self.source == "unknown":
            return f"{self.entity!r} has no page views, alias or mention in the corpus"
        return f"page views of {self.entity!r} by {self.source}"


@dataclass(frozen=True, repr=False)
class PopularityTable:
    """Page views of entities by title, with other names and counts in a corpus as fall-back.

    `views` are monthly page views by title, numbers of at least 0. `aliases` lead from another
    name to a title; an alias that is a title itself stands for that title. `counts` are numbers of
    passages that mention a name, made by `with_corpus`.

    Raises `BadInput` for an empty name or title, and for views that are no count.
    """

    views: Mapping[str, float]
    aliases: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and views, and keep a copy that nobody else can change."""
        views = {name: _check_row(name, v, "PopularityTable") for name, v in self.views.items()}
        object.__setattr__(self, "views", views)
        object.__setattr__(self, "aliases", dict(self.aliases))
        object.__setattr__(self, "counts", dict(self.counts))
        for pair in self.aliases.items():
            if not all(isinstance(name, str) and name.strip() for name in pair):
                raise BadInput(
                    f"PopularityTable.aliases has {pair!r}; allowed: a name and a title, both "
                    "text that is not empty. Leave it out."
                )

    def __repr__(self) -> str:
        """The sizes: the table itself is data."""
        return (
            f"<PopularityTable: {len(self.views)} titles, {len(self.aliases)} aliases, "
            f"{len(self.counts)} counts>"
        )

    @classmethod
    def from_questions(
        cls, questions: Iterable[Question], aliases: Mapping[str, str] | None = None
    ) -> PopularityTable:
        """The popularity of every subject, from questions that have both.

        Raises `BadInput` if none has.
        """
        rows = [(q.subject, q.popularity) for q in questions if q.subject is not None]
        views = _largest((name, value) for name, value in rows if value is not None)
        if not views:
            raise BadInput(
                "no question has a subject and a popularity; allowed: at least one with both. "
                "Read page views with PopularityTable.from_file."
            )
        return cls(views, aliases or {})

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> PopularityTable:
        """Read a table from .csv or .tsv with a header, or .jsonl with an object a line.

        Columns: the name (the first that is there of name, title, subject, subj, s_wiki_title),
        its page views (popularity, views, s_pop) and, if wanted, other names as a JSON list
        (aliases, s_aliases); further columns are ignored, so PopQA's own TSV can be read. A row
        with an empty number is unknown and left out.

        Raises `BadInput`, naming file and line, for a missing column, for text, a negative number
        or NaN in the number column, and if there is no row at all.
        """
        try:
            rows = [row for row in _rows(Path(path)) if row[1] is not None]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BadInput(
                f"{str(path)!r} cannot be read ({error}); allowed: a table in UTF-8. "
                "Check the path, and the encoding."
            ) from error
        if not rows:
            raise BadInput(f"{str(path)!r} has no row with page views; allowed: at least one.")
        views = _largest((name, number) for name, number, _ in rows if number is not None)
        aliases: dict[str, str] = {}
        for name, number, others in sorted(rows, key=lambda row: row[1] or 0):
            if number == views[name]:
                aliases.update(dict.fromkeys(others, name))  # the best known comes last and stays
        return cls(views, aliases)

    def with_corpus(
        self, passages: Iterable[Passage], names: Iterable[str] = ()
    ) -> PopularityTable:
        """The same table, with the number of passages that mention each name.

        Counted are titles and aliases of the table, titles of passages, and `names`, by longest
        match, once in a passage; an alias counts for its title.

        A count is no page view. `lookup` puts it on that scale by equal percentiles (Kolen &
        Brennan 2014, chapter 2): among the entities with both, the count's mid-rank percentile is
        read off in their page views. Increasing, and free of units, but it takes those entities
        as typical of the rest.

        Raises `BadInput` if the corpus mentions no entity that has page views.
        """
        passages = list(passages)
        titles = (passage.title for passage in passages if passage.title)
        mentions = Mentions([*self.views, *self.aliases, *titles, *names])
        counts: Counter[str] = Counter()
        for passage in track(passages, "counting mentions"):
            found = mentions.find(passage.contents)
            counts.update({self._resolve(mention.name) for mention in found})
        table = replace(self, counts=dict(counts))
        if not len(table._scale[0]):
            raise BadInput(
                f"none of {len(self.views)} titles is mentioned in {len(passages)} passages; "
                "allowed: a corpus that mentions some, so that counts can be put on the scale of "
                "page views. Check that corpus and table are about the same entities."
            )
        return table

    def lookup(self, question: Question) -> Popularity:
        """The question's own popularity, or the first that the chain finds."""
        if question.popularity is not None:
            return Popularity(question.popularity, "question", question.subject)
        entity = question.subject or self._longest_mention(question.text)
        if entity is None:
            return Popularity(None, "unknown")
        title = self._resolve(entity)
        views = self._views.get(_key(title))
        if views is not None:
            return Popularity(views, "title" if _key(title) == _key(entity) else "alias", title)
        count = self._counts.get(_key(title))
        if count:
            return Popularity(self._views_of_count(count), "corpus", title)
        return Popularity(None, "unknown", entity)

    def _resolve(self, name: str) -> str:
        """The title that `name` is an alias of, or `name` itself."""
        return name if _key(name) in self._views else self._titles.get(_key(name), name)

    def _longest_mention(self, text: str) -> str | None:
        found = self._mentions.find(text)  # the longest comes first
        return found[0].name if found else None

    def _views_of_count(self, count: float) -> float:
        """Page views at the percentile of `count`, see `with_corpus`."""
        counts, views = self._scale
        below, upto = (np.searchsorted(counts, count, side) for side in ("left", "right"))
        return float(np.quantile(views, (below + upto) / (2 * len(counts))))

    @cached_property
    def _views(self) -> dict[str, float]:
        return _largest((_key(name), views) for name, views in self.views.items())

    @cached_property
    def _titles(self) -> dict[str, str]:
        """From alias to title, both that lead to page views and not; the best known title wins."""
        ordered = sorted(self.aliases.items(), key=lambda a: self._views.get(_key(a[1]), -1.0))
        return {_key(alias): title for alias, title in ordered}

    @cached_property
    def _counts(self) -> dict[str, float]:
        return _largest((_key(name), count) for name, count in self.counts.items())

    @cached_property
    def _mentions(self) -> Mentions:
        return Mentions([*self.views, *self.aliases, *self.counts])

    @cached_property
    def _scale(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Counts and page views of the entities that have both, each in ascending order."""
        both = [key for key in self._views if self._counts.get(key)]
        return (
            np.sort(np.array([self._counts[key] for key in both])),
            np.sort(np.array([self._views[key] for key in both])),
        )


def _key(name: str) -> str:
    """What names are compared by."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _largest(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The largest number of each name."""
    largest: dict[str, float] = {}
    for name, number in pairs:
        largest[name] = max(number, largest.get(name, number))
    return largest


def _check_row(name: object, views: object, where: str) -> float:
    """The page views as a number. Raises `BadInput` that names `where`, name and value."""
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"{where}: a name is {name!r}; allowed: text that is not empty.")
    try:
        number = math.nan if isinstance(views, bool) else float(views)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise BadInput(
            f"{where}: the page views of {name!r} are {views!r}; allowed: a number of at least 0, "
            "or nothing where they are unknown. Correct or drop the row."
        )
    return number


def _rows(path: Path) -> Iterator[tuple[str, float | None, list[str]]]:
    """Name, page views or None, and other names of each row of a file."""
    for line, row in _records(path):
        where = f"{str(path)!r}, line {line}"
        name, views = _column(row, NAME_COLUMNS, where), _column(row, VIEWS_COLUMNS, where)
        raw = next((row[column] for column in ALIASES_COLUMNS if row.get(column)), "[]")
        try:
            others = json.loads(raw) if isinstance(raw, str) else raw
        except json.JSONDecodeError:
            others = None
        if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
            raise BadInput(f"{where}: the aliases are {raw!r}; allowed: a JSON list of names.")
        unknown = views is None or views == ""
        number = _check_row(name, 0 if unknown else views, where)
        yield name, None if unknown else number, [other for other in others if other.strip()]


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and columns of each row of a file."""
    delimiters = {".csv": ",", ".tsv": "\t", ".jsonl": None}
    if path.suffix not in delimiters:
        raise BadInput(
            f"{str(path)!r} ends in {path.suffix!r}; allowed: {', '.join(delimiters)}. Rename it "
            "after what it holds."
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = delimiters[path.suffix]
        if delimiter is not None:
            reader = csv.DictReader(file, delimiter=delimiter)
            yield from ((reader.line_num, row) for row in reader)
            return
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise BadInput(f"{str(path)!r}, line {line}: {text[:80]!r} is no JSON object.")
            yield line, row


def _column(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    """The value of the first column of that name. Raises `BadInput` if there is none."""
    for name in names:
        if name in row:
            return row[name]
    raise BadInput(
        f"{where}: the columns are {', '.join(map(repr, row))}; allowed: one of "
        f"{', '.join(names)}. Rename the column, or add a header."
    )
