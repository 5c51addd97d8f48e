"""RippleEdits: what else changes with an edit, and what does not (Cohen et al., TACL 2024).

arXiv:2307.12976, sections 3 and 5. Each edit is made alone and undone, with the weights' bytes
checked. Its tests belong to six criteria:

    Logical_Generalization      what follows logically from the edit
    Compositionality_I          a hop on from the edited object
    Compositionality_II         a hop to the edited subject, through another one
    Subject_Aliasing            the edited fact by another name of its subject
    Preservation                other objects of the same relation stay ("Forgetfulness")
    Relation_Specificity        other facts of the subject stay

A test counts only if the *unedited* model answers all of its condition queries, and an edit only if
the *edited* model then says the edited fact. A test is passed if one ("OR") or all ("AND") of its
queries are answered: the model writes at most 20 tokens, greedily, and of each target one of its
names appears that is longer than one character or a digit. A criterion's accuracy is the mean over
edits of passed / (passed + failed), over the edits with a test that counts.

What "appears" means is read in three ways, on the same texts:

    published   a substring of what was written: the paper
    words       in whole words, normalised as SQuAD does, before the first line break: ours
    code        a substring of the query or of what was written: the paper's code, where a name that
                the query mentions counts as an answer

Stages: "unedited" is the unedited model on the same tests; "edited" is the published figure; "all
edits" also has the edits that were not learnt or were refused by a guard, which the published one
leaves out, so that an editor is not judged on its successes alone.

Departures from the paper's code, which lets a text grow to as many tokens as the query has
characters, and 30 more: there are 20, as the paper says. Intervals (95 %) are by resampling edits;
upstream has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from memkit.benchmarks.cases import RippleCase, RippleQuery, RippleTest, checked
from memkit.errors import EditRejected
from memkit.lm.checks import check_count
from memkit.metrics import contains
from memkit.progress import track
from memkit.protocols.held import held
from memkit.protocols.holding import Held, InContext, Retrieval, Told
from memkit.protocols.ripple_result import (
    READINGS,
    Outcome,
    Reading,
    RippleRecord,
    RippleResult,
    Verdict,
    scored,
)

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

__all__ = ["appears", "ripple"]

SOURCE = "the benchmark rippleedits has them, or memkit.world.ripple_cases makes them"
Write = Callable[[Sequence[str]], list[str]]  # what the model writes after each prompt
Texts = Mapping[str, str]  # what was written, by query


def ripple(
    lm: LM,
    editor: Editor | InContext | Retrieval,
    cases: Sequence[RippleCase],
    *,
    max_new_tokens: int = 20,
    fit_on: int = 8,
    check_bytes: bool = True,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> RippleResult:
    """Score the ripples of edits, as the module says; the model is afterwards as it was.

    `editor` may be a way to tell the edits in the prompt instead: `InContext`, the paper's
    baseline, or `Retrieval` from a store that holds all edits of the run. What is None in an editor
    is chosen once, on the first `fit_on` edits. `check_bytes` hashes the weights after every edit
    (seconds for a large model). `samples` resamples, drawn from `seed`, make the intervals.

    Raises `BadInput` for no cases, something else among them, or a parameter that is not allowed;
    `UnsupportedModel` for a model that cannot be edited or does not generate; `FingerprintMismatch`
    if an edit left other bytes behind.
    """
    counts = {"max_new_tokens": max_new_tokens, "fit_on": fit_on, "samples": samples}
    for name, count in {**counts, "batch_size": batch_size}.items():
        check_count(name, count)
    cases = checked(cases, RippleCase, source=SOURCE)
    told = [Told(case.fact, case.statement) for case in cases]
    way = held(
        lm,
        editor,
        told,
        room=max_new_tokens,
        fit_on=fit_on,
        shared=True,
        check_bytes=check_bytes,
    )

    def write(prompts: Sequence[str]) -> list[str]:
        return lm.generate(prompts, max_new_tokens, (), batch_size)

    asked = list(dict.fromkeys(prompt for case in cases for prompt in _asked(case)))
    kept = ("ripple", max_new_tokens, tuple(asked))  # other ways ask the unedited model the same
    before = dict(zip(asked, lm.keep(kept, lambda: write(asked)), strict=True))
    records = [
        _rippled(case, one, before, way, write)
        for case, one in track(list(zip(cases, told, strict=True)), "rippling")
    ]
    return scored(
        model=repr(lm),
        editor=str(way),
        settings={**counts, "check_bytes": check_bytes, "seed": seed},
        chosen=way.chosen,
        records=tuple(records),
    )


def appears(query: RippleQuery, text: str, reading: Reading = "published") -> bool:
    """Whether a text that was written after a query answers it: see the module's readings."""
    if reading == "words":
        text = text.lstrip().split("\n", 1)[0]
    elif reading == "code":
        text = query.prompt + text

    def named(name: str) -> bool:
        if len(name) <= 1 and not name.isdigit():
            return False
        return bool(contains(text, [name])) if reading == "words" else name in text

    return all(any(map(named, names)) for names in query.targets)


def _asked(case: RippleCase) -> list[str]:
    """All prompts of a case."""
    queries = (q for test in case.tests for q in (*test.queries, *test.conditions))
    return [case.query.prompt, *(query.prompt for query in queries)]


def _rippled(case: RippleCase, told: Told, before: Texts, way: Held, write: Write) -> RippleRecord:
    """Make one edit, ask what counts of it, and undo it."""
    counting = [test for test in case.tests if any(_counts(test, before, r) for r in READINGS)]
    queries = [case.query.prompt, *(q.prompt for test in counting for q in test.queries)]
    queries = list(dict.fromkeys(queries))
    own = {prompt: before[prompt] for prompt in dict.fromkeys(_asked(case))}
    rejected = None
    try:
        with way.holding([told]) as ask:
            after = dict(zip(queries, write(ask(queries)), strict=True))
    except EditRejected as error:
        after, rejected = {query: own[query] for query in queries}, str(error)
    verdicts = {reading: _verdict(case, own, after, reading) for reading in READINGS}
    return RippleRecord(case.fact, case.subset, case.popularity, rejected, own, after, verdicts)


def _counts(test: RippleTest, before: Texts, reading: Reading) -> bool:
    return all(appears(query, before[query.prompt], reading) for query in test.conditions)


def _passed(test: RippleTest, texts: Texts, reading: Reading) -> bool:
    right = [appears(query, texts[query.prompt], reading) for query in test.queries]
    return any(right) if test.combine == "OR" else all(right)


def _verdict(case: RippleCase, before: Texts, after: Texts, reading: Reading) -> Verdict:
    outcomes = []
    for test in case.tests:
        counts = _counts(test, before, reading)
        outcomes.append(
            Outcome(
                test.criterion,
                counts,
                unedited=_passed(test, before, reading),
                edited=counts and _passed(test, after, reading),
            )
        )
    return Verdict(
        known=appears(case.query, before[case.query.prompt], reading),
        learnt=appears(case.query, after[case.query.prompt], reading),
        outcomes=tuple(outcomes),
    )
