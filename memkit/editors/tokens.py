"""Facts as token ids: where the subject stands, and what the model is to say after the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Row", "check_facts", "drift_row", "row", "target_ids", "target_text"]


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with its target as token ids.

    `ids` are those of the prompt and of all but the last target token; `first` and `subject` are
    the places of the subject's first and last token; `target` are the target's ids. The logits at
    the last len(target) places predict them. An empty target gives the prompt alone.
    """

    ids: tuple[int, ...]
    first: int
    subject: int
    target: tuple[int, ...] = ()


def target_text(fact: Fact, lm: LM) -> str:
    """The target as it goes on from the prompt: a decoder's begins with a space, once."""
    return lm.codec.continuation(fact.text, fact.target)


def target_ids(fact: Fact, lm: LM) -> list[int]:
    """The target's token ids, without special tokens."""
    return lm.codec.target(target_text(fact, lm))


def row(lm: LM, fact: Fact, context: str = "{}", target: Sequence[int] = ()) -> Row:
    """The fact's prompt in a context ("{}" is where it goes), with a target.

    The subject's place comes from the character offsets of the whole text, so that neither a start
    token nor a merge with what stands around the subject moves it. The last mention counts where
    the prompt has "{}" more than once, the first where it has the literal subject.

    Raises `BadInput` if the row is longer than the model's window, or the tokenizer gives no
    offsets.
    """
    before = context.index("{}")
    end = before + _subject_end(fact)
    text = context.replace("{}", fact.text)
    return _row(lm, text, end - len(fact.subject), end, target)


def drift_row(lm: LM, fact: Fact) -> Row:
    """The row "{subject} is a", by which essence drift is watched."""
    return _row(lm, f"{fact.subject} is a", 0, len(fact.subject), ())


def check_facts(lm: LM, facts: Sequence[Fact]) -> list[Fact]:
    """The facts as a list.

    Raises `BadInput` if there is none, if something else is among them, if two of them want
    different targets after one prompt, or if one does not fit into the model's window.
    """
    if isinstance(facts, Fact):
        raise BadInput(
            f"facts is one Fact ({facts.text!r}); allowed: a list of them. Put it into brackets."
        )
    if not isinstance(facts, Iterable):
        raise BadInput(f"facts is {facts!r:.80}; allowed: a list of memkit.Fact. Make them Facts.")
    facts = list(facts)
    if not facts:
        raise BadInput("facts is empty; allowed: at least one Fact. Name what is to be written.")
    wanted: dict[str, Fact] = {}
    for fact in facts:
        if not isinstance(fact, Fact):
            raise BadInput(f"facts holds {fact!r:.80}; allowed: memkit.Fact. Make it a Fact.")
        other = wanted.setdefault(fact.text, fact)
        if other.target.strip() != fact.target.strip():
            raise BadInput(
                f"two facts contradict each other: {fact.text!r} is to be followed by "
                f"{other.target!r} and by {fact.target!r}; allowed: one target for a prompt in one "
                "call. Drop one, or write the newer one later with edit.add."
            )
        if lm.kind != "classifier":
            length = len(lm.codec.prompt(fact.text)) + len(target_ids(fact, lm))
            if length > lm.window:
                raise BadInput(
                    f"the fact {fact.text[:60]!r}... has {length} tokens with its target; allowed: "
                    f"{lm.window}, the model's window. Shorten the prompt."
                )
    return facts


def _subject_end(fact: Fact) -> int:
    """The character after the subject in `fact.text`."""
    place = fact.prompt.rfind("{}")
    if place >= 0:
        earlier = fact.prompt[:place].count("{}")
        return place + earlier * (len(fact.subject) - 2) + len(fact.subject)
    return fact.prompt.index(fact.subject) + len(fact.subject)


def _offsets(lm: LM, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """A text's ids, without special tokens, and the characters of each."""
    encoded = lm.tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return list(encoded.input_ids), list(encoded.offset_mapping)


def _row(lm: LM, text: str, start: int, end: int, target: Sequence[int]) -> Row:
    """The row of a text whose subject begins at character `start` and ends before `end`."""
    if not lm.tokenizer.is_fast:
        raise BadInput(
            f"the tokenizer ({type(lm.tokenizer).__name__}) gives no character offsets; allowed: a "
            "fast one. Load the model with its tokenizer.json."
        )
    inner, offsets = _offsets(lm, text)
    if offsets and offsets[-1][1] < len(text.rstrip()):
        # Offsets behind a character that the tokenizer drops are shifted: look without it
        lost = {char for char in set(text) if _offsets(lm, f"a{char}a")[0] == _offsets(lm, "aa")[0]}
        start, end = (sum(char not in lost for char in text[:n]) for n in (start, end))
        kept, offsets = _offsets(lm, "".join(char for char in text if char not in lost))
        offsets = offsets if kept == inner else []
    places = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
    if not places:
        raise BadInput(
            f"no token of {text[:60]!r} stands for the subject, as this tokenizer "
            f"({type(lm.tokenizer).__name__}) drops characters; allowed: a subject that it can "
            "write. Spell it otherwise."
        )
    prompt = lm.codec.wrap(inner)
    shift = next(i for i in range(len(prompt)) if prompt[i : i + len(inner)] == inner)
    ids = (*prompt, *target[:-1])
    if len(ids) > lm.window:
        raise BadInput(
            f"{text[:60]!r}... has {len(ids)} tokens with its target; allowed: {lm.window}, the "
            "model's window. Shorten the prompt, or give shorter contexts."
        )
    return Row(ids, places[0] + shift, places[-1] + shift, tuple(target))
