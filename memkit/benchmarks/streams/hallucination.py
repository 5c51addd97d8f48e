"""Hallucination: wrong sentences of generated biographies are put right (SelfCheckGPT's wiki_bio).

Manakul, Liusie and Gales, EMNLP 2023 (arXiv:2303.08896); 238 passages, CC BY-SA 3.0, on the Hub as
potsawee/wiki_bio_gpt3_hallucination. Rows {gpt3_text, gpt3_sentences, annotation, wiki_bio_text},
or with the names of a re-generated file, {main_passage, main_sentences, annotation, wiki_bio_text}.

For each passage there is a header, "This is a Wikipedia passage about <concept>.". After it and the
generated sentences before, an inaccurate sentence is edited to the sentence of Wikipedia's article
with the same number, where there is one; an accurate one is what the model gets right already
(`accurate`). Edits come in the order of the passages: `seed` orders nothing.

The concept is what the article's first sentence begins with, up to its first bracket or verb; the
official code takes a list of names in lower case. `upstream` are running texts: {text} in a file,
or stas/openwebtext-10k on the Hub. Each is asked for its continuation after its first word.
"""

from __future__ import annotations

import os
import re

from memkit.benchmarks.base import Stream
from memkit.benchmarks.records import Record, read
from memkit.benchmarks.streams.sources import made, split_text
from memkit.errors import BadInput
from memkit.types import Fact, Question

__all__ = ["HUB", "UPSTREAM", "load", "sentences"]

HUB, UPSTREAM = "potsawee/wiki_bio_gpt3_hallucination", "stas/openwebtext-10k"
ACCURATE, WRONG = "accurate", ("minor_inaccurate", "major_inaccurate")
BEGINNING = re.compile(r"\s*(?:[(,]|\b(?:was|is|were|are|has|had)\b)")
SENTENCE = re.compile(
    r"(?<=[a-z0-9][.!?]|[.!?][\"')])"
    r"(?<!\b(?:St|Mr|Dr|Jr|Sr|Lt|No)\.)(?<!\b(?:Mrs|Gov|Gen|Col|Rev|Hon|Sen|Rep)\.)"
    r"\s+(?=[A-Z\"'(])"
)

Source = str | os.PathLike[str] | None


def load(
    path: Source, upstream: Source, limit: int | None, upstream_limit: int, seed: int
) -> Stream:
    """The stream, from files or from the Hub (None: `HUB`, `UPSTREAM`)."""
    records = read("hallucination", path, None, hub=HUB)
    texts = read("upstream", upstream, None, hub=UPSTREAM)[:upstream_limit]
    edits, accurate = [], []
    for record in records:
        for fact, right in _cases(record):
            if right:
                accurate.append(Question(fact.text, answers=(fact.target,), id=fact.id))
            else:
                edits.append(fact)
    tested = [split_text(record.text("text"), record.id) for record in texts]
    return made(
        "hallucination",
        "perplexity",
        edits[:limit],
        [question for question in tested if question],
        accurate=accurate,
    )


def sentences(text: str) -> list[str]:
    """The sentences of a text: apart where a full stop after a word is followed by a capital.

    Not after an initial, a capital with a full stop, nor after some titles ("St. Louis").
    """
    return [part for part in SENTENCE.split(" ".join(text.split())) if part]


def _cases(record: Record) -> list[tuple[Fact, bool]]:
    """What each sentence of a passage gives, and whether it is an accurate one."""
    said = record.texts("gpt3_sentences") or record.texts("main_sentences")
    notes, article = record.texts("annotation"), record.text("wiki_bio_text")
    if len(said) != len(notes) or not set(notes) <= {ACCURATE, *WRONG}:
        raise BadInput(
            f"{record.where} has {len(said)} sentences and the annotations {notes!r:.120}; allowed:"
            f" for each sentence one of {', '.join(map(repr, (ACCURATE, *WRONG)))}. Check the file."
        )
    concept = BEGINNING.split(article, maxsplit=1)[0].strip() or article.split()[0]
    true = sentences(article)
    found = []
    for number, (sentence, note) in enumerate(zip(said, notes, strict=True)):
        if note != ACCURATE and number >= len(true):
            continue
        before = " ".join([f"This is a Wikipedia passage about {concept}.", *said[:number]])
        target = sentence if note == ACCURATE else true[number]
        prompt = before.replace("{}", "{ }")
        fact = Fact(subject=concept, prompt=prompt, target=target, id=f"{record.id}/{number}")
        found.append((fact, note == ACCURATE))
    return found
