"""The protocol on a scripted model, where every score is known by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from memkit import protocols
from memkit.errors import BadInput, EditRejected
from memkit.lm.generation import cut
from memkit.lm.scoring import TargetLogprob
from memkit.metrics import generation_entropy, tfidf_cosines
from memkit.types import EditReport, Fact, FactReport


class Parrot:
    """A model that says what it is told to; a token is a word, the wanted one has p = 0.8."""

    kind, window = "decoder", 100

    def __init__(self, says):
        self.says = dict(says)
        self.generated, self.scored = [], []
        self.codec = self

    def prompt(self, text):
        return text.split()

    target = prompt

    def count_tokens(self, text):
        return len(text.split())

    def generate(self, prompts, room, stop, batch_size):
        self.generated.append((prompts, room, stop))
        words = [self.says.get(prompt, "").split(" ")[:room] for prompt in prompts]
        return [cut(" " + " ".join(some), stop) for some in words]

    def continuation(self, prompt, answer):
        return f" {answer}"

    def logprob(self, prompts, targets, batch_size):
        self.scored.append(list(zip(prompts, targets, strict=True)))
        return [self._score(*pair) for pair in zip(prompts, targets, strict=True)]

    def _score(self, prompt, target):
        said = self.says.get(prompt, "").replace(".", "").split()
        wanted = target.split()
        right = [i < len(said) and said[i] == word for i, word in enumerate(wanted)]
        values = [math.log(0.8 if r else 0.1) for r in right]
        return TargetLogprob(sum(values), tuple(values), tuple(range(len(wanted))), tuple(right))


class Lesson:
    """A handle on a parrot; remembers the newest `teacher.memory` facts only."""

    def __init__(self, teacher, lm):
        self.teacher, self.lm, self.before = teacher, lm, dict(lm.says)
        self.steps, self.facts = [], []

    def add(self, facts):
        for fact in facts:
            if fact.target in self.teacher.refused:
                raise EditRejected(f"{fact.target} is 9 times as large, allowed: 3")
        self.facts = [*self.facts, *facts][-self.teacher.memory :]
        self.lm.says = dict(self.before)
        for fact in self.facts:
            asked = (fact.text, *(p.replace("{}", fact.subject) for p in fact.paraphrases))
            self.lm.says |= dict.fromkeys(asked, f"{fact.target}{self.teacher.tail}")
            self.lm.says |= self.teacher.harm
        rows = tuple(FactReport(fact, -2.0, -1.0, known=False, learnt=True) for fact in facts)
        self.report = EditReport("Teacher", rows, {"layer": "3"}, (), ("w",), 6.0, 500, 1200)
        self.steps.append(self)
        return self

    def rollback(self):
        self.lm.says = self.before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.rollback()


@dataclass(frozen=True)
class Teacher:
    """Writes prompt and paraphrases, and does the same harm each time."""

    tail: str = ". It is so"
    memory: int = 1000
    refused: tuple[str, ...] = ()
    harm: dict[str, str] = field(default_factory=dict)
    layer: int | None = None

    def fitted(self, lm, facts):
        return replace(self, layer=len(facts)), {"layer": f"{len(facts)} (for the test)"}

    def apply(self, lm, facts):
        assert self.layer is not None
        return Lesson(self, lm).add(facts)


FRANCE = Fact(
    "France",
    "The capital of {} is",
    "Lyon",
    previous="Paris",
    paraphrases=("{} is ruled from", "The seat of {} is"),
    portability=(("The river of the capital of France is", "Rhone"),),
    locality=(
        ("The capital of Peru is", "Lima"),
        ("The capital of Chad is", "N'Djamena"),
        ("The language of France is", "French"),
    ),
    definition="France is ruled from Lyon",
    id="france",
)
PERU = Fact(
    "Peru",
    "The capital of {} is",
    "Lima",
    previous="Cusco",
    locality=(("The capital of France is", "Paris"),),
    id="peru",
)
KNOWLEDGE = {
    FRANCE.text: "Paris. It lies",
    "France is ruled from": "Paris, a city",
    "The river of the capital of France is": "Seine",
    PERU.text: "Lima.",
    "The capital of Chad is": "Abuja",
    "The language of France is": "French",
}
HARM = {"The language of France is": "Lyon"}


@pytest.fixture
def parrot():
    return Parrot(KNOWLEDGE)


def means(result, stage="edited"):
    return {n: c.cells[stage].mean for n, c in result.columns.items() if stage in c.cells}


def test_single_scores_are_those_by_hand(parrot):
    result = protocols.editing(parrot, Teacher(harm=HARM), [FRANCE, PERU])
    before, after = means(result, "unedited"), means(result)
    # France is unknown, Peru is known
    assert (result.known, result.rejected, result.left_out) == (1, 0, 0)
    assert (before["reliability"], after["reliability"]) == (0.5, 1)
    assert (before["reliability_not_known"], after["reliability_not_known"]) == (0, 1)
    assert (before["generalisation"], after["generalisation"]) == (0, 1)
    assert (before["portability"], after["portability"]) == (0, 0)
    # France's probes: 2 others unchanged, its own language changed; Peru's one unchanged
    assert before["locality_unchanged"] == 1
    assert after["locality_unchanged"] == pytest.approx((2 / 3 + 1) / 2)
    assert after["locality_unchanged_same_subject"] == 0
    assert after["locality_unchanged_other_subjects"] == 1
    # the model thinks that Chad's capital is Abuja: unchanged, and not right
    assert before["locality_right"] == pytest.approx((2 / 3 + 1) / 2)
    assert after["locality_right"] == pytest.approx((1 / 3 + 1) / 2)
    assert (before["locality_right_same_subject"], after["locality_right_same_subject"]) == (1, 0)
    assert after["locality_right_other_subjects"] == pytest.approx((1 / 2 + 1) / 2)
    assert (before["reliability_forced_tokens"], after["reliability_gap"]) == (0.5, 0)
    assert after["seconds"] == 6
    assert after["stored_bytes"] == 1200
    assert "seconds" not in before
    counts = {name: (c.facts, c.probes) for name, c in result.columns.items()}
    assert (counts["reliability"], counts["generalisation"]) == ((2, 2), (1, 2))
    assert counts["locality_right_other_subjects"] == (2, 3)
    france, peru = (record.scores["edited"] for record in result.records)
    assert france["locality_unchanged"] == pytest.approx(2 / 3)
    assert france["locality_right"] == pytest.approx(1 / 3)
    assert france["locality_right_other_subjects"] == 0.5
    assert "generalisation" not in peru
    assert parrot.says == KNOWLEDGE


def test_counterfact_scores_by_hand(parrot):
    result = protocols.editing(parrot, Teacher(harm=HARM), [FRANCE])
    before, after = means(result, "unedited"), means(result)
    assert (before["ES"], after["ES"]) == (0, 1)
    assert (before["EM"], after["EM"]) == (pytest.approx(-0.7), pytest.approx(0.7))
    # of two paraphrases one says "Paris," (a token of its own), the other nothing: a tie
    assert (before["PS"], before["PM"], after["PS"]) == (0, 0, 1)
    # Peru keeps Lima, Chad's N'Djamena ties with Lyon, French has become Lyon
    assert (before["NS"], after["NS"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert after["NM"] == pytest.approx((0.7 + 0 - 0.7) / 3)
    assert before["S"] == 0
    assert after["S"] == pytest.approx(3 / (1 + 1 + 3))
    # a fact that is "replaced" by itself has nothing to compare
    for previous in ("lyon.", None):
        fact = replace(FRANCE, previous=previous)
        assert (
            not {"ES", "PS", "NS", "S"}
            & protocols.editing(parrot, Teacher(), [fact]).columns.keys()
        )


@pytest.mark.parametrize(
    ("target", "said", "answer", "exact"),
    [
        ("Paris", "Paris", "Paris", 1),
        ("Paris", "the Paris. It lies", "the Paris", 1),
        ("Paris", "Paris\nand", "Paris", 1),
        ("Paris", "Paris, the capital.", "Paris, the capital", 0),  # it runs on
        ("St. Louis", "St. Louis. It lies", "St. Louis", 1),
        ("St. Louis", "st. louis", "st. louis", 1),
        ("St. Louis", "St. Louis Park. It", "St. Louis Park", 0),
        ("St. Louis", "St. Paul. It lies", "St", 0),
        ("Washington, D.C.", "Washington, D.C. is", "Washington, D.C. is", 0),
        ("Washington, D.C.", "Washington, D.C.. It", "Washington, D.C.", 1),
    ],
)
def test_what_counts_of_a_continuation(target, said, answer, exact):
    fact = Fact("it", "{} is", target)
    result = protocols.editing(Parrot({"it is": said}), Teacher(), [fact])
    assert result.records[0].views["unedited"][0].answer == answer
    assert means(result, "unedited")["reliability"] == exact
    assert means(result, "unedited")["reliability_contains"] >= exact


def test_other_stops(parrot):
    fact = replace(FRANCE, target="Paris", previous=None)
    asked = {"stop": ("\n",)}
    assert means(protocols.editing(parrot, Teacher(), [fact]), "unedited")["reliability"] == 1
    result = protocols.editing(parrot, Teacher(), [fact], **asked)
    assert means(result, "unedited")["reliability"] == 0  # "Paris. It lies"
    assert means(result, "unedited")["reliability_f1"] == pytest.approx(2 / 4)
    assert means(result, "unedited")["reliability_contains"] == 1
    assert means(result, "unedited")["reliability_gap"] == 1  # teacher forcing sees no end


def test_aliases_are_accepted_and_a_stop_within_one_is_no_stop():
    fact = Fact("it", "{} is", "United States")
    parrot = Parrot({"it is": "U.S. It lies"})
    assert means(protocols.editing(parrot, Teacher(), [fact]), "unedited")["reliability"] == 0
    aliases = {"United States": ["USA", "U.S"]}
    result = protocols.editing(parrot, Teacher(), [fact], aliases=aliases)
    assert means(result, "unedited")["reliability"] == 1
    assert result.known == 1
    assert "reliability_not_known" not in result.columns
    with pytest.raises(BadInput, match=r"aliases\['United States'\] is 'USA'"):
        protocols.editing(parrot, Teacher(), [fact], aliases={"United States": "USA"})


def test_generation_has_room_for_the_longest_answer(parrot):
    long = Fact("it", "{} is", "one two three four five six")
    result = protocols.editing(parrot, Teacher(), [long, FRANCE], max_new_tokens=2)
    assert means(result)["reliability"] == 1
    rooms = {p: room for prompts, room, _ in parrot.generated for p in prompts}
    assert (rooms["it is"], rooms[FRANCE.text]) == (7, 2)


def test_equal_prompts_are_asked_once_and_a_fact_costs_a_handful_of_calls(parrot):
    facts = [replace(FRANCE, id=str(i)) for i in range(5)]
    protocols.editing(parrot, Teacher(), facts)
    assert len(parrot.generated) == len(parrot.scored) == 1 + 5
    for prompts, _, _ in parrot.generated:
        assert sorted(prompts) == sorted(
            {*KNOWLEDGE, "France is ruled from", "The seat of France is"}
        )
    for pairs in parrot.scored:
        assert len(pairs) == len(set(pairs)) == 1 + 1 + 2 * 2 + 1 + 2 * 3


def test_a_rejected_edit_scores_as_unedited_and_is_counted(parrot):
    result = protocols.editing(parrot, Teacher(refused=("Lyon",)), [FRANCE, PERU])
    assert result.rejected == 1
    france, peru = result.records
    assert "9 times" in france.rejected
    assert peru.rejected is None
    assert france.views["edited"] == france.views["unedited"]
    assert means(result)["reliability"] == 0.5
    assert result.columns["seconds"].facts == 1
    batch = protocols.editing(parrot, Teacher(refused=("Lyon",)), [FRANCE, PERU], mode="batch")
    assert batch.rejected == 2
    assert means(batch) == means(batch, "unedited")
    row = protocols.editing(parrot, Teacher(refused=("Lyon",)), [FRANCE, PERU], mode="sequential")
    assert row.rejected == 1
    assert parrot.says == KNOWLEDGE


def test_a_batch_is_one_step_and_leaves_out_what_other_facts_write(parrot):
    result = protocols.editing(parrot, Teacher(), [FRANCE, PERU], mode="batch")
    # each one's locality asks what the other one writes
    assert result.left_out == 2
    assert means(result)["locality_unchanged"] == 1
    assert result.columns["locality_unchanged"].facts == 1
    assert result.stages == ("unedited", "edited")
    assert (means(result)["seconds"], means(result)["stored_bytes"]) == (3, 600)
    assert means(result)["peak_bytes"] == 500
    assert result.chosen == {"layer": "2 (for the test)"}
    contradiction = replace(FRANCE, target="Nice")
    with pytest.raises(BadInput, match="contradict"):
        protocols.editing(parrot, Teacher(), [FRANCE, contradiction], mode="batch")
    single = protocols.editing(parrot, Teacher(), [FRANCE, contradiction])
    assert means(single)["reliability"] == 1


def numbered(count):
    return [
        Fact(f"n{i}", "{} is", f"t{i}", locality=((f"l{i} is", f"a{i}"),), id=str(i))
        for i in range(count)
    ]


def test_sequential_edits_show_what_is_kept():
    parrot = Parrot({f"l{i} is": f"a{i}" for i in range(0, 12, 2)})
    teacher = Teacher(memory=3, harm={"l0 is": "harm"})
    result = protocols.editing(parrot, teacher, numbered(12), mode="sequential")
    assert result.stages == ("unedited", "edited", "after all")
    assert means(result, "unedited")["reliability"] == 0
    assert means(result)["reliability"] == 1
    assert means(result, "after all")["reliability"] == 3 / 12
    assert [r.scores["after all"]["reliability"] for r in result.records] == [0] * 9 + [1] * 3
    points = {p.edits: p for p in result.curve}
    assert list(points) == [0, 1, 10, 12]
    assert [points[n].reliability.mean for n in points] == [0, 1, 0.3, 3 / 12]
    assert [points[n].first.mean for n in points] == [0, 1, 0.3, 0.1]
    # of twelve probes the model knew six, and one of these is harmed by each edit
    unchanged = [points[n].unchanged.mean for n in points]
    assert unchanged == pytest.approx([1, 11 / 12, 11 / 12, 11 / 12])
    assert points[12].right.mean == pytest.approx(5 / 12)
    assert points[0].right.mean == pytest.approx(6 / 12)
    assert points[10].first.low < 0.3 < points[10].first.high


def test_the_locality_set_of_the_curve_is_fixed():
    facts = [
        replace(fact, locality=((f"l{i % 30} is", "a"),)) for i, fact in enumerate(numbered(150))
    ]
    parrot = Parrot({})
    result = protocols.editing(parrot, Teacher(), facts, mode="sequential")
    assert [point.edits for point in result.curve] == [0, 1, 10, 100, 150]
    asked = [set(prompts) for prompts, _, _ in parrot.generated if "l29 is" in prompts]
    # before, at the four points, and at the end: all thirty each time
    assert sum({f"l{i} is" for i in range(30)} <= prompts for prompts in asked) == 6


def test_fluency_and_consistency(parrot):
    tail = " by the river, by the river, and so it is."
    result = protocols.editing(parrot, Teacher(tail=tail), [FRANCE, PERU], fluency=True)
    france, peru = result.records
    essay = f" Lyon{tail}"
    assert france.essays["edited"] == essay
    assert france.scores["edited"]["fluency"] == pytest.approx(generation_entropy(essay))
    expected = tfidf_cosines([essay], [FRANCE.definition], [FRANCE.definition])[0]
    assert 0 < expected < 1
    assert france.scores["edited"]["consistency"] == pytest.approx(expected)
    assert "consistency" not in peru.scores["edited"]  # there is nothing to compare with
    references = {"Lyon": ["Lyon is by the river", "Lyon is a city"], "Lima": ["Lima lies high"]}
    given = protocols.editing(
        parrot, Teacher(tail=tail), [FRANCE, PERU], fluency=True, references=references
    )
    corpus = [text for texts in references.values() for text in texts]
    expected = tfidf_cosines([essay], [" ".join(references["Lyon"])], corpus)[0]
    assert given.records[0].scores["edited"]["consistency"] == pytest.approx(expected)
    assert given.columns["consistency"].facts == 2
    assert "fluency" not in protocols.editing(parrot, Teacher(), [FRANCE]).columns


def test_intervals_resample_facts_and_are_never_empty():
    facts = numbered(40)
    parrot = Parrot({f"n{i} is": f"t{i}" for i in range(12)})
    result = protocols.editing(parrot, Teacher(), facts, samples=4000)
    cell = result.cell("reliability", "unedited")
    values = np.array([1.0] * 12 + [0.0] * 28)
    rng = np.random.default_rng(9)
    drawn = [values[rng.integers(0, 40, 40)].mean() for _ in range(4000)]
    assert cell.mean == pytest.approx(0.3)
    assert (cell.low, cell.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)
    certain = result.cell("reliability")
    assert (certain.mean, certain.high) == (1, 1)
    assert certain.low == pytest.approx(40 / (40 + 1.96**2), abs=1e-3)  # Wilson's
    assert result.cell("reliability_not_known").mean == 1
    assert result.columns["reliability_not_known"].facts == 28
    again = protocols.editing(parrot, Teacher(), facts, samples=4000)
    assert again == result
    assert protocols.editing(parrot, Teacher(), facts, seed=1).columns != result.columns


def test_the_result_prints_and_is_plain_data(parrot):
    result = protocols.editing(parrot, Teacher(), [FRANCE, PERU], mode="sequential", fluency=True)
    text = str(result)
    assert text.index("unedited   exact match") < text.index("edited     exact match")
    assert text.index("edited     exact match") < text.index("after all  exact match")
    assert "2 facts: 1 known before, 0 edits rejected, 2 locality probes left out" in text
    assert "teacher-forced tokens" in text
    assert "chosen: layer = 2 (for the test)" in text
    assert "Retention" in text
    assert "    0.350\n" in text  # the same for every fact and no share: no interval
    assert max(map(len, text.splitlines()[3:])) <= 110
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["records"][0]["views"]["edited"][0]["text"] == " Lyon"
    assert plain["records"][0]["probes"][0]["prompt"] == FRANCE.text
    assert plain["columns"]["reliability"]["cells"]["edited"]["mean"] == 1
    assert plain["settings"]["stop"] == ["\n", "."]
    bare = str(protocols.editing(parrot, Teacher(), [Fact("it", "{} is", "x")]))
    assert "CounterFact" not in bare
    assert "Locality" not in bare
    assert "portability" not in bare
    with pytest.raises(BadInput, match=r"'nonsense' at stage 'edited'.*reliability"):
        result.cell("nonsense")


def test_a_broken_model_has_no_likelihood_and_no_merit(parrot, monkeypatch):
    nan = TargetLogprob(math.nan, (math.nan,), (0,), (False,))
    monkeypatch.setattr(parrot, "logprob", lambda prompts, *_: [nan] * len(prompts))
    result = protocols.editing(parrot, Teacher(), [FRANCE])
    assert [means(result)[name] for name in ("ES", "NS", "EM", "S")] == [0, 0, 0, 0]
    json.dumps(result.to_dict(), allow_nan=False)


def test_bad_input_names_the_value(parrot):
    def run(facts=(FRANCE,), **options):
        return protocols.editing(parrot, Teacher(), facts, **options)

    with pytest.raises(BadInput, match=r"'all'.*'single', 'sequential', 'batch'"):
        run(mode="all")
    with pytest.raises(BadInput, match="samples is 0"):
        run(samples=0)
    with pytest.raises(BadInput, match="fit_on is 0"):
        run(fit_on=0)
    with pytest.raises(BadInput, match="facts is empty"):
        run([])
    with pytest.raises(BadInput, match="one Fact"):
        run(FRANCE)
    with pytest.raises(BadInput, match="stop"):
        run(stop=("",))
    assert parrot.generated == []
