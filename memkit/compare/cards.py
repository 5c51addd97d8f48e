"""`EvalCard`: what a reader has to know of one memory before believing its figures.

One card for each memory, model and benchmark, with nine parts; they gather what evaluations of
knowledge editing have left out, and what that hid (WILD, Yang et al., ACL 2025, arXiv:2502.11177,
and others). What a comparison does not measure stands in each part under "not measured", so that
its absence is seen.

    1 scores        free generation: exact match, token F1, containment, and the stop rule; teacher
                    forcing beside it, and the gap
    2 prompts       the same by what is asked: own prompt, paraphrases, the question, what follows
    3 before        every score of the unedited model; facts that it knew already apart
    4 curve         by how many facts are in the model, at once and in turn; the most of which 90 %
                    are retained
    5 drift         questions that no fact touches, and what must stay
    6 others        the same rows by every other memory, and whether the difference is one
    7 cost          seconds, bytes, tokens, milliseconds, and those beyond no edit; questions until
                    an edit has paid
    8 undo          whether the model's bytes were restored after every cell
    9 reproduction  seeds, hashes, versions, intervals
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memkit.compare.groups import KEPT, Group, Line, groups
from memkit.compare.records import AnswerRecord, plain
from memkit.compare.results import Results
from memkit.compare.scoring import FORCED
from memkit.compare.statistics import Score, score
from memkit.files import write_text

__all__ = ["EvalCard", "cards", "write_cards"]

METRICS = ("exact_match", "token_f1", "contains", FORCED)
ABOUT = ("asked", "reliability", "generalisation", "portability")
RETAINED = 0.9
MISSING = "not measured"
NOT = {
    "scores": ["an open judge"],
    "prompts": [
        "chat template",
        "related prefix (CHED)",
        "subject shuffled",
        "reversed",
        "multiple choice (SA-MCQ)",
        "long form",
    ],
    "curve": ["several orders within a seed", "retention of the first 100"],
    "cost": ["precomputation: statistics, networks, indexes"],
    "drift": ["lm-evaluation-harness", "perplexity"],
    "undo": ["removing one fact of many"],
}


@dataclass(frozen=True, slots=True)
class EvalCard:
    """One memory on one model and benchmark; the parts are plain dicts, see the module.

    Shares are in [0, 1], with "low" and "high" of their 95 % intervals and "rows", how many.
    """

    memory: str
    model: str
    benchmark: str
    scores: Mapping[str, Any]
    prompts: Mapping[str, Any]
    before: Mapping[str, Any]
    curve: Mapping[str, Any]
    drift: Mapping[str, Any]
    others: Mapping[str, Any]
    cost: Mapping[str, Any]
    undo: Mapping[str, Any]
    reproduction: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For a file."""
        words = f"{self.memory} on {self.model}, {self.benchmark}"
        return "".join(letter if letter.isalnum() else "-" for letter in words).strip("-")[:70]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and texts: what JSON has."""
        values: dict[str, Any] = plain(dataclasses.asdict(self))
        return values

    def to_markdown(self) -> str:
        """A heading for each part, and a line for each figure."""
        lines = [f"# {self.memory} on {self.model}, {self.benchmark}"]
        for number, part in enumerate(PARTS, start=1):
            lines += ["", f"## {number}. {part.capitalize()}", ""]
            lines += _lines(getattr(self, part)) or ["- nothing"]
        return "\n".join(lines) + "\n"


PARTS = tuple(field.name for field in dataclasses.fields(EvalCard))[3:]


def cards(found: Results) -> list[EvalCard]:
    """A card for every memory with a finished cell, on every model and benchmark."""
    return [
        _card(found, group, memory)
        for group in groups(found)
        for memory in dict.fromkeys(line.memory for line in group.lines)
    ]


def write_cards(found: Results, folder: Path) -> list[Path]:
    """Write every card as JSON and Markdown; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for card in cards(found):
        name, number = card.name, 1
        while folder / f"{name}.json" in made:  # names that differ in signs alone
            name = f"{card.name}-{(number := number + 1)}"
        text = json.dumps(card.to_dict(), indent=1, ensure_ascii=False) + "\n"
        for suffix, content in ((".json", text), (".md", card.to_markdown())):
            made.append(folder / f"{name}{suffix}")
            write_text(made[-1], content)
    return made


def _card(found: Results, group: Group, memory: str) -> EvalCard:
    own = [line for line in group.lines if line.memory == memory]
    main, plain = own[-1], group.baseline()  # with the most facts
    settings = found.manifest["spec"]
    return EvalCard(
        memory=memory,
        model=group.model,
        benchmark=group.benchmark,
        scores={
            **{role: _metrics(group, main, role) for role in group.roles()},
            "facts at a time": main.count,
            "stop": "a line break; of a prompt that is gone on with, a full stop, too",
            "max_new_tokens": settings["max_new_tokens"],
            MISSING: NOT["scores"],
        },
        prompts={
            **{role: _share(group.score(main, role)) for role in ABOUT if role in group.roles()},
            MISSING: NOT["prompts"],
        },
        before=_before(group, main, plain),
        curve={
            **{
                line.label: {role: _share(group.score(line, role)) for role in group.roles()}
                for line in own
                if line.count
            },
            **_capacity(group, own),
            MISSING: NOT["curve"],
        },
        drift={
            "question": _change(group, main, plain, "question"),
            "locality": _change(group, main, plain, "locality"),
            KEPT: _share(group.score(main, KEPT)),
            MISSING: NOT["drift"],
        },
        others=_others(group, main),
        cost=_cost(group, main, plain),
        undo={
            "bytes as before after every cell": "yes, by SHA-256 of all weights"
            if any(outcome.edits for outcome in main.outcomes)
            else "nothing was written",
            MISSING: NOT["undo"],
        },
        reproduction={
            **{name: found.manifest[name] for name in ("seeds", "models", "data", "prompts")},
            **found.manifest["environment"],
            "intervals": "Wilson's over subjects; differences: paired bootstrap over subjects",
        },
    )


def _capacity(group: Group, own: Sequence[Line]) -> dict[str, Any]:
    """By way of writing, the most facts at a time of which `RETAINED` are still said, or None."""
    kept: dict[str, int | None] = {}
    for line in own:
        found = group.score(line, "reliability")
        if line.count and found is not None:
            way = "in turn" if line.schedule == "sequential" else "at once"
            kept.setdefault(way, None)
            if found.mean >= RETAINED:
                kept[way] = line.count
    return {f"capacity at {RETAINED:.0%}": kept} if kept else {}


def _share(found: Score | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"mean": found.mean, "low": found.low, "high": found.high, "rows": found.rows}


def _metrics(group: Group, line: Line, role: str) -> dict[str, Any]:
    """A role's scores, and teacher forcing less exact match as the gap."""
    found = {metric: group.score(line, role, metric) for metric in METRICS}
    free, forced = found["exact_match"], found[FORCED]
    gap = None if free is None or forced is None else forced.mean - free.mean
    return {**{metric: _share(one) for metric, one in found.items()}, "gap": gap}


def _before(group: Group, line: Line, plain: Line | None) -> dict[str, Any]:
    """The unedited model's scores, and the line's on facts that it did not know."""
    if plain is None:
        return {MISSING: ["the model as it is: the specification has no memory without parts"]}
    found: dict[str, Any] = {role: _share(group.score(plain, role)) for role in group.roles()}
    known = {
        (seed, record.fact.subject)
        for seed, record in plain.answers("reliability")
        if record.fact is not None and record.right
    }

    def new(seed: int, record: AnswerRecord) -> float | None:
        unknown = record.fact is not None and (seed, record.fact.subject) not in known
        return record.right if unknown else None

    learnt = line.scores("reliability", new)
    if learnt.values:
        found["facts known before"] = len(known)
        found["reliability, not known before"] = _share(score(learnt))
    return found


def _change(group: Group, line: Line, plain: Line | None, role: str) -> dict[str, Any] | None:
    """A role's score before and now."""
    now = group.score(line, role)
    if now is None:
        return None
    old = None if plain is None else group.score(plain, role)
    return {"before": _share(old), "now": _share(now)}


def _others(group: Group, line: Line) -> dict[str, Any]:
    """Every memory that may be compared with this one, in the main roles."""
    found: dict[str, Any] = {}
    for role in ("question", "asked"):
        if role not in group.roles():
            continue
        for pair in group.pairs(role):
            if line.label not in (pair.a, pair.b):
                continue
            first = pair.a == line.label
            d, sign = pair.difference, 1 if first else -1
            ends = sorted((sign * d.low + 0.0, sign * d.high + 0.0))  # + 0.0: no "-0"
            verdict = {"a": first, "b": not first}.get(pair.verdict)
            found.setdefault(role, {})[pair.b if first else pair.a] = {
                "difference": sign * d.value + 0.0,
                "low": ends[0],
                "high": ends[1],
                "p, Holm": pair.holm,
                "this one is": "open" if verdict is None else "better" if verdict else "worse",
            }
    return found


def _cost(group: Group, line: Line, plain: Line | None) -> dict[str, Any]:
    """Prices of edits and questions; how many questions an edit takes to be the cheaper one."""
    edits = [edit for outcome in line.outcomes for edit in outcome.edits]
    facts = sum(len(edit.facts) for edit in edits)
    found: dict[str, Any] = {"question": _price(line), MISSING: NOT["cost"]}
    if plain is not None:
        before, now = _price(plain), found["question"]
        found["beyond no edit"] = {
            name: now[name] - before[name] for name in now if name.startswith(("tokens", "ms"))
        }
    if facts:
        found["edit"] = {
            "seconds": sum(edit.seconds for edit in edits) / facts,
            "peak bytes": max(edit.peak_bytes for edit in edits),
            "stored bytes": sum(edit.stored_bytes for edit in edits) / facts,
        }
    rivals = [other for other in group.lines if not other.count and _price(other)["retrieved"] == 1]
    if facts and plain is not None:
        weights = _price(line)["ms p50"]
        found["questions until an edit has paid"] = {
            rival.label: _paid(found["edit"]["seconds"], _price(rival)["ms p50"] - weights)
            for rival in rivals
        }
    return found


def _paid(seconds: float, saved: float) -> float | str:
    return 1000 * seconds / saved if saved > 0 else "never: it saves no time"


def _price(line: Line) -> dict[str, float]:
    records = [record for _, record in line.answers()]
    tokens = [float(record.answer.prompt.tokens) for record in records]
    times = [1000 * record.answer.seconds for record in records]
    texts = [record.answer.decision.source == "retrieval" for record in records]
    return {
        "retrieved": float(np.mean(texts)),
        "tokens p50": float(np.median(tokens)),
        "tokens p95": float(np.quantile(tokens, 0.95)),
        "ms p50": float(np.median(times)),
        "ms p95": float(np.quantile(times, 0.95)),
        "peak bytes": float(max(record.peak_bytes for record in records)),
    }


def _lines(part: Mapping[str, Any], indent: str = "") -> list[str]:
    """Nested lists of names and values; a share with its interval is one line."""
    made = []
    for name, value in part.items():
        if isinstance(value, Mapping) and set(value) == {"mean", "low", "high", "rows"}:
            ends = f"[{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
            made.append(f"{indent}- {name}: {100 * value['mean']:.1f} % {ends}, n={value['rows']}")
        elif isinstance(value, Mapping):
            made += [f"{indent}- {name}", *_lines(value, indent + "  ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            made.append(f"{indent}- {name}: {', '.join(map(str, value))}")
        elif isinstance(value, float):
            made.append(f"{indent}- {name}: {value:.4g}")
        elif value is None:
            made.append(f"{indent}- {name}: none")
        else:
            made.append(f"{indent}- {name}: {value}")
    return made
