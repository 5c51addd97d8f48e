"""The report: one HTML file that needs nothing else, made of records alone.

Tables are the same as `memkit.compare.tables` prints. Below them each question can be opened: what
every memory was shown, what it decided and what it said. These data are embedded as JSON, texts
once each; a run of more than `LIMIT` answers shows the first rows of each role, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import memkit
from memkit.compare.figures import by_popularity, frontier, retention
from memkit.compare.groups import Group, groups
from memkit.compare.records import plain
from memkit.compare.results import Results
from memkit.compare.spec import ROLES
from memkit.compare.tables import Table, tables

__all__ = ["LIMIT", "html"]

LIMIT = 60_000  # answers that are embedded


def html(runs: Sequence[Results], more: Sequence[Table] = (), metric: str = "exact_match") -> str:
    """The page of one run, or of several below each other; `more` are tables that come first.

    `metric` is that of the tables; figures and marks are of exact match.
    """
    import jinja2

    source = resources.files("memkit").joinpath("templates/compare.html.jinja")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made = [group for run in runs for group in groups(run)]
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        title=" and ".join(run.name for run in runs),
        runs=runs,
        more=more,
        tables=[(run, tables(run, metric)) for run in runs],
        figures=[(group.name, _figures(group)) for group in made],
        data=_embedded(_data(made)),
        facts=[_about(run) for run in runs],
        version=memkit.__version__,
    )


def _figures(group: Group) -> list[tuple[str, str]]:
    """Captions and figures."""
    role = group.roles()[0]
    found = [
        ("Right answers by popularity of the subject", by_popularity(group)),
        (
            f"Accuracy and price ({role}): the dotted line joins the highest means, sure or not",
            frontier(group),
        ),
    ]
    found += [
        (f"Retention, {role}", figure)
        for role, figure in retention(group, [*ROLES[1:], ROLES[0]]).items()
    ]
    return [(caption, figure) for caption, figure in found if figure]


def _about(run: Results) -> list[tuple[str, str]]:
    """What was run, of what, where."""
    environment, manifest = run.manifest["environment"], run.manifest
    git = environment["git"]
    commit = "no checkout" if git is None else git["commit"] + (", changed" if git["dirty"] else "")
    done = f"{len(run.done)} of {len(run.outcomes)}, {len(run.failures)} failed"
    sessions = manifest["sessions"]
    return [
        ("specification", manifest["name"]),
        ("cells", done),
        ("models", ", ".join(f"{name} {hash[:12]}" for name, hash in manifest["models"].items())),
        ("data", ", ".join(f"{name} {hash[:12]}" for name, hash in manifest["data"].items())),
        ("prompts", manifest["prompts"][:12]),
        ("seeds", ", ".join(map(str, manifest["seeds"]))),
        ("command", " ".join(sessions[-1]["command"])),
        ("sessions", f"{len(sessions)}, the last began {sessions[-1]['began']}"),
        ("memkit", f"{environment['memkit']}, {commit}"),
        ("packages", ", ".join(f"{k} {v}" for k, v in environment["packages"].items())),
        ("machine", f"{environment['machine']}, {environment['device']}"),
    ]


class _Texts:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def _data(made: Sequence[Group]) -> dict[str, Any]:
    """What the page's script shows of each question, and how much was left out."""
    texts = _Texts()
    total = sum(len(outcome.answers) for g in made for line in g.lines for outcome in line.outcomes)
    share = min(1.0, LIMIT / max(1, total))
    parts = [_group(group, share, texts) for group in made]
    return {"texts": list(texts.numbers), "groups": parts, "all": total, "share": share}


def _group(group: Group, share: float, texts: _Texts) -> dict[str, Any]:
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    kept = {
        role: {
            (seed, record.id)
            for seed, record in list(group.lines[0].answers(role))[
                : max(1, round(share * len(list(group.lines[0].answers(role)))))
            ]
        }
        for role in group.roles()
    }
    for number, line in enumerate(group.lines):
        for seed, record in line.answers():
            if (seed, record.id) not in kept[record.role]:
                continue
            question, answer = record.answer.question, record.answer
            row = rows.setdefault(
                (seed, record.id),
                {
                    "seed": seed,
                    "role": record.role,
                    "q": texts(question.text),
                    "want": texts(" or ".join(question.answers[:3])),
                    "was": texts(record.fact.previous or "") if record.fact else None,
                    "views": question.popularity,
                    "a": [None] * len(group.lines),
                },
            )
            row["a"][number] = [
                int(record.right),
                texts(record.scored),
                texts(answer.text),
                texts(answer.decision.source),
                texts(answer.decision.reason),
                texts(answer.prompt.text),
                [
                    [texts(hit.passage.id), round(hit.score, 3), texts(hit.passage.text)]
                    for hit in answer.hits
                ],
                [texts(edit) for edit in answer.edits],
                round(1000 * answer.seconds, 1),
            ]
    labels = [line.label for line in group.lines]
    return {"name": group.name, "lines": labels, "rows": list(rows.values())}


def _embedded(data: dict[str, Any]) -> str:
    """JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter, safe in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(letter, safe)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
