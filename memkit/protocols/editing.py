"""The editing protocol: what an editor changes, what it should not have, and what that cost.

Every score is taken of the unedited and of the edited model, and is a mean over facts, each of
which is the mean over its own probes. Intervals are by resampling facts.

    reliability     the fact's own prompt
    generalisation  its paraphrases ("{}" is the subject)
    portability     prompts whose answer follows from the fact
    locality        prompts whose answer must stay: `locality_unchanged`, the answer is the
                    unedited model's; `locality_right`, it is the expected one; both also for
                    prompts that name the fact's subject (`_same_subject`) and others
                    (`_other_subjects`)

**Free generation is the main score**: greedy, up to a stop string or the end token, exact match
with an accepted answer (`reliability`), with `_f1` and `_contains` beside it. What counts is the
text before the first stop string, as in WILD (Yang et al., ACL 2025, arXiv:2502.11177): by default
a line break or a full stop, so that "Paris. It lies" after a cloze prompt is right and "Paris, the
capital" is not: a model that runs on has not learnt where the answer ends. A stop string within an
accepted answer with which the text begins does not end it ("St. Louis"); in another answer an
initial does ("J. Doe"). Generation has at least room for the longest accepted answer and one token
more.

**Teacher forcing is beside it**, as in EasyEdit's and MEND's figures: `_forced_tokens`, the share
of the target's tokens that are the argmax after the prompt and the tokens before, and
`_forced_sequence`, whether all are. `_gap` is `_forced_tokens` less exact match.

**CounterFact** (Meng et al., NeurIPS 2022, section 3.4), where `Fact.previous` is known: ES, PS and
NS say whether the new object's mean token NLL is below the previous one's after the fact's prompt
and its paraphrases, and the expected one's below the new one's after its locality prompts; EM, PM
and NM are the differences of exp(-NLL); S is the harmonic mean of the means of ES, PS and NS.

**Known facts**: where the unedited model is right by free generation nothing was learnt.
`reliability_not_known` leaves them out.

**Text** (with `fluency`): `fluency` is GE, `consistency` the tf-idf cosine with the texts about the
target (`references`), or the fact's definition. Departures from ROME: greedy, after the fact's own
prompt, which is not counted, with up to 100 new tokens; and the texts are those given, not
Wikipedia's.

**Cost**: seconds and stored bytes of an edit (in a batch its share of them), and its peak memory
(in a batch that of the whole batch). Edits that a guard rejected have none.

Modes: "single" writes, scores and takes back one fact after the other. "batch" writes all in one
step. "sequential" writes one after the other on one handle, and scores each right after its own
edit (stage "edited") and when all are written ("after all"); a fact that a later one overwrites
counts as lost. With several facts in the model, locality probes that ask what another fact of the
run writes are left out. A rejected edit scores what the model then says without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memkit.errors import BadInput
from memkit.lm.checks import check_count, check_stops
from memkit.metrics import generation_entropy, tfidf_cosines
from memkit.protocols.editing_modes import MODES, Bench, Mode, Run, check_writes
from memkit.protocols.editing_probes import Interview, Probe, View, values
from memkit.protocols.editing_result import EditingResult, Record, columns, curve
from memkit.types import EditReport, Fact

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

__all__ = ["editing"]

Scores = dict[str, float]
Texts = Mapping[str, Sequence[str]]


def editing(
    lm: LM,
    editor: Editor,
    facts: Sequence[Fact],
    *,
    mode: Mode = "single",
    max_new_tokens: int = 16,
    stop: str | Sequence[str] = ("\n", "."),
    aliases: Texts | None = None,
    fluency: bool = False,
    references: Texts | None = None,
    fit_on: int = 8,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> EditingResult:
    """Score an editor on facts, as the module says; the model is afterwards as it was.

    What is None in the editor is chosen once, on the first `fit_on` facts (which are scored too),
    before anything is measured. `aliases` gives other accepted forms of an answer, `references`
    texts about a target, both by the answer's text. `samples` resamples, drawn from `seed`, make
    the intervals.

    Raises `BadInput` for facts that cannot be written, prompts that do not fit into the window, a
    parameter that is not allowed, or an editor that erases; `UnsupportedModel` for a model that the
    editor does not serve or that does not generate.
    """
    counts = {"max_new_tokens": max_new_tokens, "fit_on": fit_on, "samples": samples}
    for name, count in counts.items():
        check_count(name, count)
    if mode not in MODES:
        raise BadInput(f"mode is {mode!r}; allowed: {', '.join(map(repr, MODES))}. Choose one.")
    check_writes(editor)
    stop = check_stops(stop)
    facts = _checked(lm, facts, mode)
    aliases, references = _texts("aliases", aliases), _texts("references", references)
    editor, chosen = editor.fitted(lm, facts[:fit_on])
    interview = Interview(lm, max_new_tokens, stop, aliases, batch_size)
    bench = Bench.of(interview, facts, alone=mode == "single", fluency=fluency)
    run = MODES[mode](bench, editor)
    records, stages = _records(bench, run, references), tuple(run.looks)
    reports = [outcome for outcome in run.outcomes if isinstance(outcome, EditReport)]
    return EditingResult(
        model=repr(lm),
        editor=repr(editor),
        settings={"mode": mode, "stop": stop, **counts, "fluency": fluency, "seed": seed},
        chosen={**(reports[0].chosen if reports else {}), **chosen},
        stages=stages,
        known=sum(record.known for record in records),
        rejected=sum(record.rejected is not None for record in records),
        left_out=bench.left_out,
        columns=columns(records, stages, samples, seed),
        curve=curve(run.curve, samples, seed),
        records=tuple(records),
    )


def _checked(lm: LM, facts: Sequence[Fact], mode: Mode) -> list[Fact]:
    """The facts as a list; only in one batch may none contradict another."""
    from memkit.editors.tokens import check_facts  # loads torch

    if mode == "batch" or isinstance(facts, Fact) or not facts:
        return check_facts(lm, facts)
    return [fact for one in facts for fact in check_facts(lm, [one])]


def _texts(what: str, given: Texts | None) -> Texts:
    """The texts; `BadInput` where a single string stands for a list of them."""
    for name, texts in (given or {}).items():
        if isinstance(texts, str):
            raise BadInput(
                f"{what}[{name!r}] is {texts!r:.80}; allowed: a list of strings. Put one string "
                "into brackets."
            )
    return given or {}


def _records(bench: Bench, run: Run, references: Texts) -> list[Record]:
    """What was found of each fact."""
    written = {
        stage: _of_essays(bench.facts, [look.essay for look in looks], references)
        for stage, looks in run.looks.items()
    }
    records = []
    for i, (fact, probes, outcome) in enumerate(
        zip(bench.facts, bench.probes, run.outcomes, strict=True)
    ):
        before = run.looks["unedited"][i].views
        scores = {
            stage: _means(probes, looks[i].views, before) | written[stage][i]
            for stage, looks in run.looks.items()
        }
        known = scores["unedited"]["reliability"] == 1
        if not known:
            for own in scores.values():
                own["reliability_not_known"] = own["reliability"]
        report = outcome if isinstance(outcome, EditReport) else None
        if report:
            scores["edited"] |= _cost(report)
        essays = {stage: looks[i].essay for stage, looks in run.looks.items()}
        records.append(
            Record(
                fact=fact,
                known=known,
                rejected=None if isinstance(outcome, EditReport) else outcome,
                warnings=report.warnings if report else (),
                probes=tuple(probes),
                views={stage: looks[i].views for stage, looks in run.looks.items()},
                essays={stage: text for stage, text in essays.items() if text is not None},
                scores=scores,
            )
        )
    return records


def _means(probes: Sequence[Probe], views: Sequence[View], before: Sequence[View]) -> Scores:
    """Each score's mean over the fact's probes; one without a probe is absent."""
    found: dict[str, list[float]] = {}
    for probe, view, old in zip(probes, views, before, strict=True):
        for name, value in values(probe, view, old).items():
            found.setdefault(name, []).append(value)
    return {name: sum(column) / len(column) for name, column in found.items()}


def _cost(report: EditReport) -> Scores:
    share = max(1, len(report.facts))
    return {
        "seconds": report.seconds / share,
        "peak_bytes": float(report.peak_bytes),
        "stored_bytes": report.stored_bytes / share,
    }


def _of_essays(
    facts: Sequence[Fact], essays: Sequence[str | None], references: Texts
) -> list[Scores]:
    """Fluency of each long text, and consistency where there is something to compare it with."""
    about = [tuple(references.get(fact.target, ())) or (fact.definition or "",) for fact in facts]
    corpus = list(dict.fromkeys(text for texts in about for text in texts if text))
    joined = [" ".join(texts) for texts in about]
    cosines = tfidf_cosines([essay or "" for essay in essays], joined, corpus)
    made: list[Scores] = []
    for essay, reference, cosine in zip(essays, joined, cosines, strict=True):
        scores = {} if essay is None else {"fluency": generation_entropy(essay)}
        made.append(scores | ({"consistency": cosine} if scores and reference else {}))
    return made
