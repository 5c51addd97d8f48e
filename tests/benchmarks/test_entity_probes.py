"""Entity Inferences and ECBD: rows as upstream writes them, and what is refused of them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from memkit import BadInput
from memkit.benchmarks import entity_inferences, load
from memkit.benchmarks.probes import Cloze, EntityProbe
from memkit.benchmarks.records import read

G, E = "<extra_id_0>", "<extra_id_1>"


def row(**fields) -> dict:
    template = {
        "probe_sentence": f"Storm Ada left much damage in {G}.",
        "labels": [f"{G} Peru {E}", f"{G} New Peru {E}", f"{G} Chad {E}"],
    }
    return {
        "ex_id": "disaster_dev_0",
        "definition": f"Storm Ada was a storm that hit {G} in 2031.",
        "def_target": f"{G} Peru {E}",
        "category": "disaster",
        "ent_str": "Storm Ada",
        "attribute": "Peru",
        "probe_sentences": {"template_0": template},
        "label": "Peru",
        **fields,
    }


def cloze(sentence: str, label: str, **fields) -> dict:
    probe = {"template_0": {"probe_sentence": sentence, "label": label}}
    return row(probe_sentences=probe, category="tv_show", label="ignored", **fields)


@pytest.fixture
def as_lines(tmp_path):
    """Write rows as JSON lines, in a file named .json as upstream's are."""

    def write(rows, name="rows.json"):
        (tmp_path / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        return tmp_path / name

    return write


def test_entity_inferences(as_lines):
    implicit = row(
        probe_sentences={
            "template_0": {
                "probe_sentence": f"{G} went to Storm Ada to help.",
                "labels": [f"{G} Nurses {E}", f"{G} Poets {E}"],
            },
            "template_1": {"probe_sentence": f"In {G}, all.", "labels": [f"{G} Nurses {E}"]},
        },
        label="Nurses",
    )
    path = as_lines([row(), row(), implicit], "disaster.json")
    bench = load("entity_inferences", path)
    definition = Cloze("Storm Ada was a storm that hit ", "Peru", " in 2031.")
    assert bench.probes[0] == EntityProbe(
        entity="Storm Ada",
        definition=definition,
        cloze=Cloze("Storm Ada left much damage in ", "Peru", "."),
        candidates=("Peru", "New Peru", "Chad"),
        category="disaster",
        kind="explicit",
        id="disaster_dev_0/explicit",
    )
    assert bench.probes[0].gold == "Peru"
    assert bench.probes[0].cloze.text == "Storm Ada left much damage in Peru."
    assert definition.masked == f"Storm Ada was a storm that hit {G} in 2031."
    assert [probe.id for probe in bench.probes] == [
        "disaster_dev_0/explicit",
        "disaster_dev_0#2/explicit",
        "disaster_dev_0#3/implicit",
        "disaster_dev_0#3/2/implicit",
    ]
    assert bench.probes[2].cloze == Cloze("", "Nurses", " went to Storm Ada to help.")
    assert bench.definitions == {"Storm Ada": definition.text}
    assert [passage.text for passage in bench.passages] == [definition.text]
    assert [p.kind for p in load("entity_inferences", path, "implicit").probes] == ["implicit"] * 2
    assert len(load("entity_inferences", path, limit=2).probes) == 2
    # a file's name says the kind, which is what specificity is measured within
    named = as_lines([row(), implicit], "disaster_explicit_attribute_independent.json")
    found = load("entity_inferences", named)
    assert [probe.kind for probe in found.probes] == ["explicit"] * 3
    assert found.probes[1].id.endswith("/explicit")


@pytest.mark.parametrize(
    ("left", "label", "span"),
    [
        (f"the {G}themed", f"{G} a cyberpunk- {E}", "a cyberpunk-"),
        (f"Ingrid{G}) is", f"{G} , born 16 April {E}", ", born 16 April"),
        (f"at 12{G} was", f"{G} \u00a0mph, although it {E}", "\u00a0mph, although it"),
        (f"a {G}.", f"{G}word{E}", "word"),
        (f"a {G}.", f"{G}  two spaces {E}", " two spaces"),
    ],
)
def test_spans_are_parsed_and_keep_their_own_white_space(as_lines, left, label, span):
    bench = load("ecbd", as_lines([cloze(left, label)]))
    (probe,) = bench.probes
    assert probe.gold == span
    assert probe.cloze.text == left.replace(G, span)
    assert (probe.candidates, probe.category) == ((), None)


def test_ecbd_of_every_form(tmp_path, as_lines):
    new = cloze(f"Ada made {G}.", f"{G} landfall {E}", context="...", augmented_probes=["x"])
    first = {
        "ex_id": "GPT-2_1_4_0",
        "masked_sentence": f"It has {G} in it.",
        "answer_str": f"{G} many parts {E}",
        "answer_d": {G: "many parts"},
        "span_type": "NP-COMMON",
        "definition": ["[ENT_START]Generative Two[ENT_END] is a model.", "It is GPT-2."],
        "year": "2019",
        "entity_span_str": "GPT-2",
    }
    as_lines([new], "all_ent_2020_2021_np_500samples.json")
    as_lines([new], "all_ent_2020_2021_random_500samples.json")
    as_lines([new], "all_ent_2020_2021_random_easy.json")
    as_lines([new], "ecbd_2023_augmented.json")
    as_lines([new], "specificity_popular_20np_20random.json")
    groups = {
        split: [probe.group for probe in load("ecbd", tmp_path, split).probes]
        for split in (None, "samples", "easy", "2023", "popular")
    }
    both = [(None, "np"), (None, "random")]
    assert groups == {
        None: both,
        "samples": both,
        "easy": [("easy", "random")],
        "2023": [("2023", None)],
        "popular": [("popular", None)],
    }
    (probe,) = load("ecbd", as_lines([first])).probes
    assert probe.definition == Cloze("Generative Two is a model. It is GPT-2.", "")
    assert (probe.gold, probe.kind, probe.entity) == ("many parts", "np", "GPT-2")
    with pytest.raises(BadInput, match="split is 'hard'; allowed: 'samples', 'easy'"):
        load("ecbd", tmp_path, "hard")
    with pytest.raises(BadInput, match="split is 'easy' for the file"):
        load("ecbd", tmp_path / "rows.json", "easy")


BAD = {
    "no gold": (row(label="Ghana"), "row 1, probe_sentences, template_0: the candidates of"),
    "a candidate twice": (
        row(
            probe_sentences={
                "t": {"probe_sentence": f"In {G}.", "labels": [f"{G} Peru {E}"] * 2},
            }
        ),
        "allowed: different ones",
    ),
    "no sentinel in the definition": (
        row(definition="Storm Ada hit Peru."),
        "row 1: definition has the sentinels none",
    ),
    "two sentinels in the definition": (
        row(definition=f"{G} hit {G}."),
        "row 1: definition has the sentinels <extra_id_0>, <extra_id_0>",
    ),
    "another sentinel": (row(definition=f"{E} hit Peru."), "has the sentinels <extra_id_1>"),
    "a target without its end": (row(def_target=f"{G} Peru"), "row 1: def_target is '<extra_id_0>"),
    "an empty target": (row(def_target=f"{G}  {E}"), "row 1: def_target is"),
    "a label without sentinels": (
        row(probe_sentences={"t": {"probe_sentence": f"In {G}.", "labels": ["Peru"]}}),
        "row 1, probe_sentences, t: labels is 'Peru'; allowed: a span between its sentinels",
    ),
    "no sentinel in the probe": (
        row(probe_sentences={"t": {"probe_sentence": "In Peru.", "labels": [f"{G} Peru {E}"]}}),
        "row 1, probe_sentences, t: probe_sentence has the sentinels none",
    ),
    "no probe": (row(probe_sentences={}), "row 1 has no probe sentence"),
    "no entity": (row(ent_str=" "), "row 1: ent_str is ' '"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_what_is_refused_names_file_and_row(as_lines, bad, message):
    path = as_lines([bad])
    with pytest.raises(BadInput) as caught:
        load("entity_inferences", path)
    assert message in str(caught.value)
    if "allowed: different" not in message:
        assert f"{str(path)!r}, row 1" in str(caught.value)


def test_a_definition_that_does_not_name_its_entity_is_kept_with_a_warning(as_lines):
    path = as_lines([row(), row(ent_str="Ada (2031)"), row(ent_str="storm ADA")])
    with pytest.warns(UserWarning, match=r"1 of 3 definitions .* row 2: 'Ada \(2031\)'"):
        assert len(load("entity_inferences", path).probes) == 3


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(BadInput, match=r"has no file of entity_inferences \(\*plicit\*\.json\)"):
        load("entity_inferences", tmp_path)
    with pytest.raises(BadInput, match="entity_inferences has path None"):
        load("entity_inferences")


@pytest.mark.parametrize("span", ["", " "])
def test_clozes_that_are_none(span):
    with pytest.raises(BadInput):
        EntityProbe("Ada", Cloze("Ada is.", ""), Cloze("Ada is ", span))
    with pytest.raises(BadInput, match=r"EntityProbe\.entity is empty"):
        EntityProbe(" ", Cloze("Ada is.", ""), Cloze("Ada is ", "here"))


# What the developers' folder holds: two fifths of Entity Inferences, a third of ECBD, half of the
# popular rows. Upstream has 170, 1,000 and 40.
@pytest.mark.filterwarnings("ignore:.*do not name their entity:UserWarning")
def test_real_entity_inferences(shared):
    folder = shared / "data" / "entity_inferences"
    bench = load("entity_inferences", folder)
    assert Counter(probe.group for probe in bench.probes) == {
        (category, kind): count
        for category, count in (("disaster", 11), ("fake_person", 5), ("tv_show", 18))
        for kind in ("explicit", "implicit")
    }
    for kind in ("explicit", "implicit"):  # what follows from a row is what its file is named after
        rows = [r for f in folder.glob(f"*_{kind}_*") for r in read("x", f, None, key="ex_id")]
        assert [probe.kind for _, probe in entity_inferences.probes(rows)] == [kind] * 34
    assert {len(probe.candidates) for probe in bench.probes} == {6, 7, 11, 12}
    again = load("entity_inferences", folder / "entity_inferences_augmented.json")
    rows = [{dataclasses.replace(p, id=None) for p in b.probes} for b in (bench, again)]
    assert rows[0] == rows[1]
    assert len(bench.definitions) == 34


@pytest.mark.filterwarnings("ignore:.*do not name their entity:UserWarning")
def test_real_ecbd(shared):
    folder = shared / "data" / "ecbd"
    bench = load("ecbd", folder)
    assert Counter(probe.kind for probe in bench.probes) == {"np": 150, "random": 152}
    assert len({probe.entity for probe in bench.probes}) == 77
    popular = load("ecbd", folder, "popular").probes
    assert [probe.group for probe in popular] == [("popular", None)] * 20
    assert all(probe.definition.span and not probe.candidates for probe in popular)
    assert any(probe.gold.startswith("\u00a0") for probe in bench.probes)
