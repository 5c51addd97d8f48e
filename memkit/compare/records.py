"""What a comparison writes down: JSON lines of three kinds, appended and never changed.

    answer   one row, answered by one memory: all of its evidence, and its scores
    edit     one block of facts that a memory wrote, and what the editor says of it
    cell     a cell has ended, well or with an error

Every line has `kind`, `schema` and `cell`, and an `id` that occurs once in a cell (of the lines of
kind "cell" the last counts). Numbers that JSON does not have are the texts "inf", "-inf" and "nan".
`json_schema` gives the form of a line. Times are seconds, sizes bytes, log-probabilities nats.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memkit.errors import BadInput
from memkit.types import Answer, Decision, Fact, Hit, Passage, Prompt, Question

__all__ = [
    "SCHEMA",
    "AnswerRecord",
    "CellRecord",
    "EditRecord",
    "Record",
    "json_schema",
    "line",
    "plain",
    "read",
]

SCHEMA = 1
Share = Callable[[Any], Any]
ODD = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """A row's answer.

    cell: the cell's hash.
    id: the row's.
    role: what the row is there for, see `memkit.compare.spec`.
    block: which block of facts was live, from 0.
    answer: the whole `Answer`: question, decision, hits with scores, prompt, edits, raw text,
        log-probability (nats), seconds.
    scored: what counts of the raw text; of a prompt that is gone on with, what stands before the
        first line break or full stop (WILD).
    metrics: "exact_match", "contains" and "token_f1", in [0, 1]; and "forced_tokens" by teacher
        forcing, absent where nothing was asked, or prompt and answer have no room in the window.
    fact: the fact that the row is about, without its probes; None for none.
    peak_bytes: the most memory beyond what was in use before, of the batch that it came in.
    """

    cell: str
    id: str
    role: str
    block: int
    answer: Answer
    scored: str
    metrics: Mapping[str, float]
    fact: Fact | None
    peak_bytes: int
    kind: Literal["answer"] = "answer"
    schema: int = SCHEMA

    @property
    def right(self) -> float:
        """The main score, exact match."""
        return self.metrics["exact_match"]


@dataclass(frozen=True, slots=True)
class EditRecord:
    """A block of facts that was written.

    cell: the cell's hash.
    id: "edit/" and the block.
    block: its number, from 0.
    editor: the editor with its settings as it ran; "text" where facts went into the corpus alone.
    facts: ids of the facts, or their numbers where they have none.
    learnt: for each, whether the target's tokens were all the first choice when the block was
        written.
    rejected: for each, the guard's message, or None.
    warnings: of the editor.
    chosen: by setting, what the editor chose for the model, and why.
    parameters: names of the weights that were changed.
    seconds, peak_bytes, stored_bytes: of the whole block: wall time, the most memory beyond what
        was in use before, and what the edit keeps.
    """

    cell: str
    id: str
    block: int
    editor: str
    facts: tuple[str, ...]
    learnt: tuple[bool, ...]
    rejected: tuple[str | None, ...]
    warnings: tuple[str, ...]
    chosen: Mapping[str, str]
    parameters: tuple[str, ...]
    seconds: float
    peak_bytes: int
    stored_bytes: int
    kind: Literal["edit"] = "edit"
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class CellRecord:
    """How a cell ended.

    cell: the cell's hash.
    status: "done" or "failed".
    seconds: of wall time, of the process that ended it.
    error: of a failed cell, its type and message in a line.
    traceback: of a failed cell.
    """

    cell: str
    status: Literal["done", "failed"]
    seconds: float
    error: str | None = None
    traceback: str | None = None
    kind: Literal["cell"] = "cell"
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """There is one for each cell."""
        return "cell"


Record = AnswerRecord | EditRecord | CellRecord


def line(record: Record) -> bytes:
    """The record as a line of JSON."""
    values = plain(dataclasses.asdict(record))
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a line (draft 2020-12), for readers in other languages."""
    from pydantic import TypeAdapter

    def told(part: Any) -> Any:
        if isinstance(part, list):
            return [told(one) for one in part]
        if not isinstance(part, dict):
            return part
        if part.get("type") == "number":
            return {"anyOf": [{"type": "number"}, {"enum": list(ODD)}]}
        noise = ("default", "title")
        found = {
            key: told(value)
            for key, value in part.items()
            if key not in noise or isinstance(value, dict)  # a field may be called so
        }
        if "properties" in found:
            found |= {"additionalProperties": False, "required": list(found["properties"])}
            if "schema" in found["properties"]:
                found["properties"]["schema"] = {"const": SCHEMA}
        return found

    kinds = TypeAdapter(AnswerRecord | EditRecord | CellRecord)
    schema: dict[str, Any] = told(kinds.json_schema(mode="serialization"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read(values: Mapping[str, Any], share: Share = lambda part: part) -> Record:
    """The record of a line that was parsed.

    `share` is given questions, facts, passages and texts, which many records have in common, and
    gives back the equal one that is to stand for all.

    Raises `BadInput` for a line of another schema or kind, or with other fields.
    """
    if values.get("schema") != SCHEMA:
        raise BadInput(
            f"a record has schema {values.get('schema')!r}; allowed: {SCHEMA}. It was written by "
            "another version of memkit: read it with that one, or start a new folder."
        )
    try:
        if values["kind"] == "answer":
            return _answer(values, share)
        if values["kind"] == "edit":
            return EditRecord(**{k: _tuple(v) for k, v in values.items()})
        if values["kind"] == "cell":
            return CellRecord(**values)
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"a record of kind {values['kind']!r} has other fields than it should ({error}); "
            "allowed: those of memkit.compare.records. The file was changed by hand."
        ) from error
    raise BadInput(f"a record has kind {values['kind']!r}; allowed: answer, edit, cell.")


def _answer(values: Mapping[str, Any], share: Share) -> AnswerRecord:
    given = values["answer"]
    hits = [
        Hit(share(Passage(**h["passage"])), _number(h["score"]), h["rank"]) for h in given["hits"]
    ]
    answer = Answer(
        text=given["text"],
        question=share(Question(**{k: _tuple(v) for k, v in given["question"].items()})),
        decision=_decision(given["decision"], share),
        hits=tuple(hits),
        edits=share(tuple(given["edits"])),
        prompt=share(Prompt(**{k: _tuple(v) for k, v in given["prompt"].items()})),
        logprob=_number(given["logprob"]),
        seconds=given["seconds"],
    )
    fact = values["fact"]
    rest = {
        **values,
        "answer": answer,
        "fact": None if fact is None else share(Fact(**{k: _tuple(v) for k, v in fact.items()})),
        **{name: share(values[name]) for name in ("cell", "id", "role", "scored", "kind")},
    }
    return AnswerRecord(**rest)


def _decision(values: Mapping[str, Any], share: Share) -> Decision:
    numbers = {k: None if values[k] is None else _number(values[k]) for k in ("score", "threshold")}
    passages = tuple(share(Passage(**passage)) for passage in values["passages"])
    decision: Decision = share(Decision(**{**values, **numbers, "passages": passages}))
    return decision


def _number(value: Any) -> float:
    number: float = ODD[value] if isinstance(value, str) else value
    return number


def _tuple(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    if isinstance(value, list):
        return tuple(_tuple(part) for part in value)
    return value


def plain(value: Any) -> Any:
    """The same of what JSON has: lists for tuples, and texts for the numbers that it lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(part) for part in value]
    if hasattr(value, "item") and not isinstance(value, str):  # a number of numpy's
        return plain(value.item())
    return value
