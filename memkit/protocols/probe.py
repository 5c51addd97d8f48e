"""LAMA: what does a model know before anyone edits it? (Petroni et al., EMNLP 2019.)

arXiv:1909.01066, section 4. A fact is a sentence with a gap where its object goes. Objects are
single tokens, the model ranks candidates for the gap, and of the object's rank r there are

    P@1     r is 1
    P@10    r is at most 10
    MRR     1 / r

each the mean over a relation's facts, then over relations (macro), also by type ("1-1", "N-1",
"N-M"), and over facts in parts by the popularity of the subject. A candidate that scores as much as
the object goes before it.

Candidates are "vocabulary", the words of a vocabulary, as in the paper: to compare models give all
of them the words that they have in common (`common_vocabulary`). A fact whose object is none of
them is left out and counted, and so is one whose gap opens the sentence, for a model that reads
from left to right: that one sees only what stands before the gap. Of a masked model the first mask
is scored. Encoder-decoders fill T5's first sentinel; without sentinels the decoder's first token
counts, after what stands before the gap.

Or candidates are "relation", the objects of the same relation, in as many tokens as they take, by
their summed log-probability after what stands before the gap (typed querying: Kassner, Dufter and
Schütze, EACL 2021, arXiv:2102.00894; there masked models are asked, and log-probabilities are
means). Masked models are not asked so here.

Where a fact is asked in several patterns (ParaRel: Elazar et al., TACL 2021, arXiv:2102.01017,
section 4), there are besides, over such facts

    consistency       share of the pairs of patterns that have the same first candidate
    consistent P@1    whether r is 1 in every pattern ("consistent-acc")

There candidates are the relation's objects: give them as the vocabulary, relation by relation, or
take "relation". Departures from their code: all pairs of patterns count, where it follows the
entailments of a graph that the JSON files lack, and patterns whose "a" or "an" does not fit the
object are kept.

Intervals (95 %) are by resampling facts, within their relations for macro means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from memkit.benchmarks.cases import ClozeFact, checked
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.checks import check_count, check_texts
from memkit.protocols.probe_result import ProbeRecord, ProbeResult, scored

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["common_vocabulary", "probe"]

Candidates = Literal["vocabulary", "relation"]
SOURCE = (
    "the benchmarks lama and pararel have them, or memkit.benchmarks.cases.clozes makes them of "
    "other facts"
)
STRANGE, OPENING = "objects that are no candidate", "gaps that open their sentence"


def common_vocabulary(*lms: LM) -> tuple[str, ...]:
    """The words that are one token of each of these models, sorted.

    Words are letters and digits alone. Raises `BadInput` if there is none.
    """
    from memkit.lm.gaps import common_vocabulary  # loads torch

    return common_vocabulary(*lms)


def probe(
    lm: LM,
    facts: Sequence[ClozeFact],
    *,
    candidates: Candidates = "vocabulary",
    vocabulary: Sequence[str] | None = None,
    parts: int = 10,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> ProbeResult:
    """Rank the objects of facts, as the module says.

    `vocabulary` are the candidate words; None is all that the model has. Words that are no single
    token of it are refused. `parts` is the number of parts by popularity.

    Raises `BadInput` for no facts or none that can be asked, something else among them, or a
    parameter that is not allowed; `UnsupportedModel` for a model that has no words, or cannot be
    asked so.
    """
    counts = {"parts": parts, "samples": samples, "batch_size": batch_size}
    for name, count in counts.items():
        check_count(name, count)
    if candidates not in get_args(Candidates):
        allowed = ", ".join(map(repr, get_args(Candidates)))
        raise BadInput(f"candidates is {candidates!r}; allowed: {allowed}. Choose one.")
    facts = checked(facts, ClozeFact, source=SOURCE, name="facts")
    asked = [fact for fact in facts if _opened(lm, fact, candidates)]
    if candidates == "vocabulary":
        found = _by_vocabulary(lm, asked, vocabulary, batch_size)
    elif vocabulary is None:
        found = _by_relation(lm, asked, batch_size)
    else:
        raise BadInput(
            "vocabulary is given with candidates='relation'; allowed: one of the two. Leave the "
            "vocabulary out."
        )
    left_out = {OPENING: len(facts) - len(asked), STRANGE: len(asked) - len(found)}
    if not found:
        raise BadInput(
            f"none of {len(facts)} facts can be asked ({left_out[OPENING]} {OPENING}, "
            f"{left_out[STRANGE]} {STRANGE}); allowed: at least one. Take another vocabulary, "
            "or candidates='relation'."
        )
    settings = {
        "candidates": candidates,
        "vocabulary": None if vocabulary is None else len(vocabulary),
        "samples": samples,
        "seed": seed,
    }
    return scored(
        model=repr(lm), settings=settings, left_out=left_out, parts=parts, records=tuple(found)
    )


def _opened(lm: LM, fact: ClozeFact, candidates: Candidates) -> bool:
    """Whether something stands before the gap, or the model sees what stands behind it."""
    from memkit.lm.gaps import sees_behind

    around = candidates == "vocabulary" and sees_behind(lm)
    return around or bool(fact.around[0].strip())


def _by_vocabulary(
    lm: LM, facts: Sequence[ClozeFact], vocabulary: Sequence[str] | None, batch_size: int
) -> list[ProbeRecord]:
    """The ranks of those objects that are words of the vocabulary."""
    from memkit.lm.gaps import check_fills, gap_logits, word_ids, words

    check_fills(lm)
    if vocabulary is None:
        vocabulary = words(lm)
    check_texts("vocabulary", vocabulary)
    vocabulary = list(dict.fromkeys(vocabulary))
    found = word_ids(lm, vocabulary)
    for word, number in zip(vocabulary, found, strict=True):
        if number is None:
            raise BadInput(
                f"the vocabulary's {word!r} is no single token of {lm!r}; allowed: words that are, "
                "of every model compared. Take common_vocabulary(lm, ...)."
            )
    ids = [number for number in found if number is not None]
    place = {word: number for number, word in enumerate(vocabulary)}
    asked = [fact for fact in facts if fact.object in place]
    ranks: dict[int, ProbeRecord] = {}
    for number, logits in gap_logits(lm, [fact.around for fact in asked], ids, batch_size):
        fact = asked[number]
        rank = int((logits >= logits[place[fact.object]]).sum())
        first = vocabulary[int(logits.argmax())]
        ranks[number] = ProbeRecord(fact, rank, len(vocabulary), first)
    return [ranks[number] for number in range(len(asked))]


def _by_relation(lm: LM, facts: Sequence[ClozeFact], batch_size: int) -> list[ProbeRecord]:
    """The ranks among the objects of each fact's relation."""
    if lm.kind not in ("decoder", "encoder-decoder"):
        raise UnsupportedModel(
            f"a {lm.kind} model does not rank objects of several tokens here; allowed: a decoder "
            "or an encoder-decoder. Take candidates='vocabulary'."
        )
    objects: dict[str, dict[str, None]] = {}
    for fact in facts:
        objects.setdefault(fact.relation, {})[fact.object] = None
    return [_ranked(lm, fact, list(objects[fact.relation]), batch_size) for fact in facts]


def _ranked(lm: LM, fact: ClozeFact, names: list[str], batch_size: int) -> ProbeRecord:
    prompt = fact.around[0].rstrip()
    targets = [lm.codec.continuation(prompt, name) for name in names]
    totals = [one.total for one in lm.logprob([prompt] * len(names), targets, batch_size)]
    own = totals[names.index(fact.object)]
    rank = sum(total >= own for total in totals)
    return ProbeRecord(fact, rank, len(names), names[totals.index(max(totals))])
