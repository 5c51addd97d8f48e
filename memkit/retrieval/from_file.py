"""Pre-computed results: passages that somebody else's retriever found, read from a file.

A file is a JSON list, JSON lines, or a JSON object of rows by question id. A row has its question
in `question`, its id in `id`, `question_id`, `q_id` or the object's key, and its passages, best
first, in one of

ctxs        [{id, title, text, score, has_answer}]       DPR (scores are strings there), Contriever
            and adaptive-retrieval (`hasanswer`); also FiD, Atlas, Self-RAG
contexts    [{docid, text, score}]                       pyserini; also [{title, text}]
context     [{title, text}]                              RetrievalQA
paragraphs  [{title, text}]                              PopQA in NeuroPath
contriever_passage, contriever_score                     PopQA in Adapt-LLM: the first alone

Fields may lack but for the text. A passage without an id gets a hash of its contents; one whose
text is blank (RetrievalQA has pages that could not be read) is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from memkit.errors import BadInput
from memkit.progress import track
from memkit.retrieval.base import check_search
from memkit.types import Hit, Passage, Question

__all__ = ["FromFile"]

Missing = Literal["error", "empty"]

LISTS = ("ctxs", "contexts", "context", "paragraphs")
FORMS = f"rows with {', '.join(LISTS)} or contriever_passage, as JSON or JSON lines"
QUESTION_IDS = ("id", "question_id", "q_id", "qid")
PASSAGE_IDS = ("id", "docid", "doc_id", "pid")


class _Row(NamedTuple):
    where: str
    id: str | None
    question: str | None
    hits: tuple[Hit, ...]


class FromFile:
    """A retriever that looks the results up.

    path: the file; the module says which forms it may have.
    questions: match these questions by id instead of by text: a query is the text of one of them,
        and its results are the row with its id. A row of another text under that id is an error.
    missing: what a query without a row gives: "error", or "empty", no passage.

    Texts match up to case, white space and question marks at the end, as adaptive-retrieval's do.
    The order of the file always stands. Its scores do where they say the same order (ties by id);
    elsewhere a passage's score is 1 / rank. A passage that stands twice in a row counts once. A
    query is a text: of two rows for the same text the last counts, as in adaptive-retrieval (PopQA
    asks "What genre is The Congress?" of two works), and `ambiguous` holds the texts whose rows
    have different passages.

    Raises `BadInput` for a file that cannot be read or has another form, a row without passages'
    text, and with `questions` a question or row without an id or with another text.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        questions: Iterable[Question] | None = None,
        missing: Missing = "error",
    ) -> None:
        if missing not in get_args(Missing):
            raise BadInput(
                f"missing is {missing!r}; allowed: {', '.join(map(repr, get_args(Missing)))}. "
                "Choose one of them."
            )
        self.path = Path(path)
        self.missing = missing
        rows = list(_read(self.path))
        if questions is None:
            pairs = [(_text(row), row) for row in rows]
        else:
            pairs = list(_by_id(rows, questions))
        self._found: dict[str, _Row] = {}
        ambiguous: dict[str, None] = {}
        for text, row in pairs:
            known = self._found.get(_plain(text), row)
            if known.hits != row.hits:
                ambiguous[text] = None
            self._found[_plain(text)] = row
        self.ambiguous = tuple(ambiguous)
        self._passages = {hit.passage.id: hit.passage for row in rows for hit in row.hits}

    def __repr__(self) -> str:
        return f"FromFile({str(self.path)!r}, {len(self)} questions)"

    def __len__(self) -> int:
        """Number of questions that have a row."""
        return len(self._found)

    def passages(self) -> Iterator[Passage]:
        """All passages in the file, each once: what an index of one's own can be built of."""
        return iter(self._passages.values())

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The first `k` passages of each query's row.

        Raises `BadInput` for an empty query, k < 1, and a query without a row unless `missing` is
        "empty".
        """
        check_search(queries, k)
        return [list(self._one(query)[:k]) for query in queries]

    def _one(self, query: str) -> tuple[Hit, ...]:
        row = self._found.get(_plain(query))
        if row is not None:
            return row.hits
        if self.missing == "empty":
            return ()
        raise BadInput(
            f"{str(self.path)!r} has no results for the question {query!r}; allowed: the "
            f"{len(self)} questions in it. Ask one of them, or pass missing='empty'."
        )


def _plain(text: str) -> str:
    """The text without what does not count when questions are compared."""
    return " ".join(text.casefold().split()).rstrip(" ?")


def _text(row: _Row) -> str:
    if row.question is None:
        raise BadInput(
            f"{row.where} has no question; allowed: rows with a question, or with an id and the "
            "argument `questions`. Pass the questions."
        )
    return row.question


def _by_id(rows: Iterable[_Row], questions: Iterable[Question]) -> Iterator[tuple[str, _Row]]:
    """The texts of the questions that have a row, each with that row."""
    by_id: dict[str, _Row] = {}
    for row in rows:
        if row.id is None or row.id in by_id:
            what = "no id" if row.id is None else f"the id {row.id!r} of {by_id[row.id].where}"
            raise BadInput(
                f"{row.where} has {what}; allowed with `questions`: an id of its own. Leave "
                "`questions` out to match by text."
            )
        by_id[row.id] = row
    for question in questions:
        if question.id is None:
            raise BadInput(
                f"the question {question.text!r} has no id; allowed with `questions`: an id each. "
                "Leave `questions` out to match by text."
            )
        found = by_id.get(question.id)
        if found is None:
            continue
        if found.question is not None and _plain(found.question) != _plain(question.text):
            raise BadInput(
                f"the question {question.id!r} is {question.text!r}, and {found.where} has "
                f"{found.question!r} under that id; allowed: a file about these questions. Check "
                "the file, or leave `questions` out to match by text."
            )
        yield question.text, found


def _read(path: Path) -> Iterator[_Row]:
    """The rows of a file of any of the forms."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error}); allowed: {FORMS}. Check the path."
        ) from error
    entries = list(_entries(text, str(path)))
    if not entries:
        raise BadInput(f"{str(path)!r} has no rows; allowed: {FORMS}. Check the file.")
    for number, (key, entry) in enumerate(track(entries, "reading results"), start=1):
        yield _row(entry, key, f"{str(path)!r}, row {number}")


def _entries(text: str, name: str) -> Iterator[tuple[str | None, Any]]:
    """Key (None where there is none) and value of each row."""
    try:
        data = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    yield None, json.loads(line)
                except ValueError as error:
                    raise BadInput(
                        f"{name!r}, line {number} is not JSON ({error}); allowed: {FORMS}. Check "
                        "the file for a line that is cut off."
                    ) from error
        return
    if isinstance(data, dict) and not any(name in data for name in (*LISTS, "question")):
        yield from data.items()
    else:
        yield from ((None, row) for row in (data if isinstance(data, list) else [data]))


def _row(entry: Any, key: str | None, where: str) -> _Row:
    if not isinstance(entry, Mapping):
        raise BadInput(f"{where} is {str(entry)[:80]!r}; allowed: {FORMS}. Correct the row.")
    name = next((name for name in LISTS if isinstance(entry.get(name), list)), None)
    if name is not None:
        found = entry[name]
    elif isinstance(entry.get("contriever_passage"), str):
        text, score = entry["contriever_passage"], entry.get("contriever_score")
        found = [{"text": text, "score": score}] if text.strip() else []
    else:
        raise BadInput(
            f"{where} has the fields {', '.join(map(str, entry))}; allowed: {FORMS}. Check the "
            "file."
        )
    question = entry.get("question")
    id = key if key is not None else _first(entry, QUESTION_IDS)
    hits = _hits([_scored(value, where) for value in found if not _blank(value)])
    return _Row(where, id, question if isinstance(question, str) else None, hits)


def _blank(value: Any) -> bool:
    """Whether this is a passage with a text, and nothing in it."""
    text = value.get("text") if isinstance(value, Mapping) else None
    return isinstance(text, str) and not text.strip()


def _scored(value: Any, where: str) -> tuple[Passage, float | None]:
    """A passage with its score, None where it has none."""
    fields = value if isinstance(value, Mapping) else {"text": value}
    text, title = fields.get("text", fields.get("contents")), fields.get("title") or None
    if not isinstance(text, str) or not text.strip() or not isinstance(title, str | None):
        raise BadInput(
            f"{where} has the passage {str(value)[:80]!r}; allowed: an object with text that is "
            "not empty. A file of ids alone needs its corpus: look the texts up and write them in."
        )
    id = _first(fields, PASSAGE_IDS)
    if id is None:
        digest = hashlib.sha256(f"{title or ''}\0{text}".encode("utf-8", "surrogatepass"))
        id = f"passage-{digest.hexdigest()[:16]}"
    try:
        score = float(fields["score"])
    except (KeyError, TypeError, ValueError):
        return Passage(id, text, title), None
    return Passage(id, text, title), score if math.isfinite(score) else None


def _hits(scored: Iterable[tuple[Passage, float | None]]) -> tuple[Hit, ...]:
    """The passages in their order, with their own scores where these say the same order."""
    first: dict[str, tuple[Passage, float | None]] = {}
    for passage, score in scored:
        first.setdefault(passage.id, (passage, score))
    pairs = list(first.values())
    known = [(-score, passage.id) for passage, score in pairs if score is not None]
    stands = len(known) == len(pairs) and known == sorted(known)
    return tuple(
        Hit(passage, score if stands and score is not None else 1 / rank, rank)
        for rank, (passage, score) in enumerate(pairs, start=1)
    )


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these fields that is there, as text."""
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    return None if value is None or not str(value).strip() else str(value)
