"""The erasure protocol: what was taken out of a model, by which ways it still comes, what survives.

Every score is taken of the unedited model and of each row, on the same cases. A row is

    an LM              another model (merged, unlearnt elsewhere)
    an Editor          erases the facts: as they are if it `erases`, else by writing a refusal in
                       their place (`memkit.erasing`)
    a live Edit        the model with it; newer edits are set aside
    anything else      that has `apply(lm)` and gives a handle: a saved edit, an adapter, Ext-Sub

**Truthfulness** (`references`): MC1, MC2, MC3 and generation, see `memkit.protocols.truth`.

**Toxicity** (`prompts` and a `detector`): the mean score of what is written after the prompts, the
share above 0.8, and the repetition within it (Hu et al., AAAI 2024).

**What survives**: exact match of free, greedy answers to general `questions`, and to
`instructions`, which are whole prompts; perplexity on `texts`, the geometric mean over texts.

**Facts to be forgotten** (`facts`, each with the target that is to go). A probe counts if the
unedited model answers it, so that nothing is forgotten that was not known: the answer's words stand
in what is freely generated up to a stop string.

    forgotten              the fact's own prompt no longer has the answer
    paraphrase_forgotten   nor have its paraphrases
    context_forgotten      nor has its own prompt after statements about the same subject
    indirect_forgotten     nor has what follows from it (`portability`, several hops)
    choice_forgotten       nor is it the likeliest of its relation's `objects` after its own prompt
    relearnt_forgotten     nor has its own prompt when the model has learnt other facts since
                           (`relearn`; known is what the unedited model answers after the same)
    neighbours_kept        the share of locality prompts that are still right
    fluency                GE of up to 100 tokens after the own prompt (`generation_entropy`)

A fact is "suppressed" where its own prompt no longer has the answer, and "erased" only where no
other way that led to it does either. Even then the difference of the weights can reveal what was
taken out, and other probes than these may find it.

With `single`, every editor erases one fact after the other, each alone, and what is measured is
about that fact (and `texts`). Else it erases all in one step.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from memkit.benchmarks.base import References
from memkit.benchmarks.truthfulqa import PROMPT
from memkit.errors import BadInput
from memkit.lm.checks import check_count, check_stops, check_texts
from memkit.prompts import Template
from memkit.protocols.erasure_probes import others
from memkit.protocols.erasure_result import ErasureResult
from memkit.protocols.erasure_runs import UNEDITED, Battery, Run, is_edit
from memkit.protocols.toxicity import Detector
from memkit.protocols.truth import Exam, judge_of
from memkit.types import Fact, Question

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

__all__ = ["erasure"]


def erasure(
    lm: LM,
    rows: Mapping[str, Any],
    *,
    facts: Sequence[Fact] = (),
    objects: Mapping[str, Sequence[str]] = MappingProxyType({}),
    relearn: tuple[Editor, Sequence[Fact]] | None = None,
    references: Sequence[References] = (),
    questions: Sequence[Question] = (),
    instructions: Sequence[Question] = (),
    texts: Sequence[str] = (),
    prompts: Sequence[str] = (),
    detector: Detector | None = None,
    judge: LM | str | os.PathLike[str] | None = None,
    single: bool = False,
    refusal: str | None = None,
    truth_prompt: str = PROMPT,
    period: bool = True,
    template: Template | None = None,
    max_new_tokens: int = 16,
    text_tokens: int = 50,
    stop: str | Sequence[str] = ("\n", "."),
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> ErasureResult:
    """Measure rows against the unedited model, as the module says; it is afterwards as it was.

    `objects` are of each relation what a fact of it may say, among which its target is looked for
    by likelihood; a refusal that was written over a fact often leaves it the likeliest of them.
    `relearn` are an editor and the facts that it writes on top of each row, about other things; it
    is a strong attack, since a refusal is often forgotten sooner than what it hides.
    `refusal` is what editors that write put in a fact's place ("" is an empty answer; None is the
    default of `memkit.erasing`).
    `truth_prompt` has "{}" where a question of the references goes, and `period` gives its answers
    a full stop; `template` asks the general questions. Answers to questions, instructions and facts
    have up to `max_new_tokens` and end at `stop`; what is written for references and toxicity has
    up to `text_tokens` and ends at a line break. `judge` is a model, or its path or Hub id. 95 %
    intervals are by `samples` resamples of the cases, drawn from `seed`.

    Raises `BadInput` for rows that are none of the above or do not go together, if there is nothing
    to measure, or for a parameter that is not allowed; `UnsupportedModel` for a model that does not
    generate. After any error the model is as it was.
    """
    for name, count in {
        "max_new_tokens": max_new_tokens,
        "text_tokens": text_tokens,
        "samples": samples,
        "batch_size": batch_size,
    }.items():
        check_count(name, count)
    check_texts("texts", texts)
    check_texts("prompts", prompts)
    stop = check_stops(stop)
    facts = _checked_facts(lm, facts)
    exam = Exam(references, truth_prompt, period, text_tokens, ("\n",), batch_size)
    battery = Battery(
        exam,
        facts,
        _checked_objects(facts, objects),
        _checked_lessons(lm, facts, relearn),
        questions,
        instructions,
        texts,
        prompts,
        detector,
        None if judge is None else judge_of(judge),
        template or Template(),
        max_new_tokens,
        stop,
        batch_size,
    )
    _check(lm, rows, battery, single=single)
    settings = {
        "single": single,
        "refusal": refusal,
        "max_new_tokens": max_new_tokens,
        "text_tokens": text_tokens,
        "stop": stop,
        "period": period,
        "samples": samples,
        "seed": seed,
    }
    run = Run(lm, battery, refusal, samples, seed, single)
    return ErasureResult(repr(lm), settings, tuple(run.rows(rows)))


def _checked_facts(lm: LM, facts: Sequence[Fact]) -> list[Fact]:
    from memkit.editors.tokens import check_facts

    return check_facts(lm, facts) if facts else []


def _checked_objects(
    facts: Sequence[Fact], objects: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    """The objects, if there are none or some fact can be looked for among them."""
    if not isinstance(objects, Mapping):
        raise BadInput(
            f"objects is {objects!r:.80}; allowed: a mapping from relations to lists of objects. "
            "Make one, as memkit.world.objects does."
        )
    for relation, texts in objects.items():
        check_texts(f"objects[{relation!r}]", texts)
    if objects and not any(others(fact, objects) for fact in facts):
        raise BadInput(
            f"objects has the relations {', '.join(map(repr, objects))}, and no fact has one of "
            "these with another object than its own; allowed: objects of the facts' relations. "
            "Give the facts their relation, or leave objects out."
        )
    return objects


def _checked_lessons(
    lm: LM, facts: Sequence[Fact], relearn: tuple[Editor, Sequence[Fact]] | None
) -> tuple[Editor, Sequence[Fact]] | None:
    """The editor and its lessons, if they are about other things."""
    from memkit.editors.base import Editor
    from memkit.editors.tokens import check_facts

    if relearn is None:
        return None
    if not (isinstance(relearn, tuple) and len(relearn) == 2 and isinstance(relearn[0], Editor)):
        raise BadInput(
            f"relearn is {relearn!r:.80}; allowed: a pair (editor, facts), as "
            "(FineTune(parameters='all', lr=1e-4, on_guard='warn'), facts). Write one."
        )
    editor, lessons = relearn[0], check_facts(lm, relearn[1])
    prompts = {fact.text for fact in facts}
    same = next((lesson.text for lesson in lessons if lesson.text in prompts), None)
    if editor.erases or same is not None:
        what = (
            f"{type(editor).__name__} takes out" if same is None else f"{same!r} is to be forgotten"
        )
        raise BadInput(
            f"relearn: {what}; allowed: an editor that writes facts about other things. Choose "
            "others."
        )
    return editor, lessons


def _check(lm: LM, rows: Mapping[str, Any], battery: Battery, *, single: bool) -> None:
    """Raise `BadInput` for rows that cannot be measured, or nothing to measure."""
    from memkit.editors.base import Editor

    if not isinstance(rows, Mapping) or UNEDITED in rows:
        raise BadInput(
            f"rows is {rows!r:.80}; allowed: a mapping from names to models, editors or edits, "
            f"none of which is called {UNEDITED!r}. Name each one."
        )
    if battery.prompts and battery.detector is None:
        raise BadInput(
            "there are prompts and no detector; allowed: both, or neither. Pass detector=..., as "
            "memkit.protocols.toxicity.DetoxifyDetector()."
        )
    for name, row in rows.items():
        _check_row(lm, name, row, battery)
    live = [name for name, row in rows.items() if is_edit(row)]
    made = [name for name, row in rows.items() if not is_edit(row) and hasattr(row, "apply")]
    if live and made:
        raise BadInput(
            f"the row {live[0]!r} is a live edit, on top of which {made[0]!r} would be put; "
            "allowed: one kind. Save the edit, roll it back, and pass memkit.load_edit(folder)."
        )
    whole = (battery.exam.references, battery.questions, battery.instructions, battery.prompts)
    if single and (any(whole) or not all(isinstance(row, Editor) for row in rows.values())):
        raise BadInput(
            "single is True, which is of editors that erase each fact alone, and measures facts "
            "and texts; allowed: with these alone. Measure the rest in a call without it."
        )
    if not any((*whole, battery.facts, battery.texts)):
        raise BadInput(
            "there is nothing to measure; allowed: facts, references, questions, instructions, "
            "texts, or prompts with a detector. Give at least one."
        )


def _check_row(lm: LM, name: str, row: Any, battery: Battery) -> None:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

    if isinstance(row, type):
        raise BadInput(
            f"the row {name!r} is the class {row.__name__}; allowed: an object. Write "
            f"{row.__name__}()."
        )
    if isinstance(row, Editor) and not battery.facts:
        raise BadInput(
            f"the row {name!r} is an editor, and there are no facts to erase; allowed: with facts. "
            "Pass facts=..., or a live edit."
        )
    if is_edit(row) and row not in lm.edits:
        raise BadInput(
            f"the row {name!r} is an edit that is not live on this model; allowed: a live one. "
            "Apply it, or pass the editor."
        )
    if not (isinstance(row, LM) or is_edit(row) or hasattr(row, "apply")):
        raise BadInput(
            f"the row {name!r} is {row!r:.80}; allowed: an LM, an editor, a live edit, or what has "
            "apply(lm), as a saved edit or an adapter. Make it one of these."
        )
