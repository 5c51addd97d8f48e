"""What is chosen where nothing is said: presets, defaults and the sweep."""

from __future__ import annotations

import dataclasses
import math
import os

import pytest
import torch

from memkit import MEMIT, ROME, AlphaEdit, Guards, Statistics
from memkit.editors import EDITORS, choice
from memkit.editors.choice import PRESETS, Swept, choose, sweep
from memkit.errors import BadInput, EditRejected
from memkit.lm import layouts
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris", paraphrases=("The author {} wrote",)),
    Fact("Peru", "The capital of {} is", "Lima", locality=(("Who wrote", "x"), ("One,", "y"))),
    Fact("France", "The capital of {} is", "numbers"),
)
STATISTICS = Statistics(tokens=400, ridge=1e-2)
COMMON = {"contexts": ("{}",), "statistics": STATISTICS, "steps": 4}
ROMES = ROME(**COMMON)


def known_as(monkeypatch, lm, name):
    """Let a tiny model pass for a published one."""
    width = lm.model.get_input_embeddings().weight.shape[1]
    config = lm.model.config
    shape = (config.model_type, len(lm.layout.layers(lm.model)), width, config.vocab_size)
    monkeypatch.setattr(layouts, "KNOWN", {shape: name})


def doubled(lm, *layers):
    """Two units of the MLP do the same there, so that the second moment is singular."""
    for layer in layers:
        up = lm.model.transformer.h[layer].mlp.c_fc
        up.weight.data[:, 5], up.bias.data[5] = up.weight.data[:, 4], up.bias.data[4]


# presets


@pytest.mark.parametrize(
    ("editor", "name", "expected"),
    [
        (ROME(), "gpt2-xl", {"layer": 17, "steps": 20, "lr": 0.5, "clamp": 4.0, "decay": 0.5}),
        (ROME(), "gpt2-medium", {"layer": 8, "clamp": 3.0}),
        (ROME(), "llama-2-7b", {"layer": 5, "steps": 25, "decay": 1e-3}),
        (MEMIT(), "gpt2-xl", {"layers": (13, 14, 15, 16, 17), "weight": 2e4, "clamp": 0.75}),
        (MEMIT(), "gpt-j-6b", {"layers": (3, 4, 5, 6, 7, 8), "weight": 1.5e4, "steps": 25}),
        (MEMIT(), "llama-2-7b", {"layers": (4, 5, 6, 7, 8), "clamp": 4.0, "decay": 1e-3}),
        (AlphaEdit(), "llama-3-8b", {"lr": 0.1, "threshold": 2e-2, "ridge": 10.0}),
    ],
)
def test_a_known_models_preset_is_taken(monkeypatch, lm, editor, name, expected):
    known_as(monkeypatch, lm, name)
    method = next(key for key, kind in EDITORS.items() if kind is type(editor))
    fitted, chosen = choose(editor, lm, FACTS, method)
    for key, value in expected.items():
        assert getattr(fitted, key) == value
        preset = key in PRESETS[method][name]
        assert chosen[key] == f"{value} ({f'preset of {name}' if preset else 'default'})"


def test_what_is_given_stays(monkeypatch, lm):
    known_as(monkeypatch, lm, "gpt2-xl")
    fitted, chosen = choose(ROME(layer=1, clamp=1.5), lm, FACTS, "rome")
    assert (fitted.layer, fitted.clamp, fitted.steps) == (1, 1.5, 20)
    assert set(chosen) == {"steps", "lr", "decay"}


def test_the_choice_is_made_once_and_reported(monkeypatch):
    lm = tiny_lm("gpt2", n_layer=9)
    known_as(monkeypatch, lm, "gpt2-medium")
    with ROMES.apply(lm, FACTS[:1]) as edit:
        assert edit.editor == dataclasses.replace(ROMES, layer=8, clamp=3.0, lr=0.5, decay=0.5)
        monkeypatch.setattr(choice, "choose", lambda *args: pytest.fail("chosen again"))
        edit.add(FACTS[1:2])
        assert edit.report.chosen["layer"] == "8 (preset of gpt2-medium)"
        assert edit.report.parameters == ("transformer.h.8.mlp.c_proj.weight",)
        assert "layer: 8 (preset of gpt2-medium)" in str(edit.report)


def test_every_preset_is_complete():
    for method, models in PRESETS.items():
        place = "layer" if method == "rome" else "layers"
        assert set(models) <= {"", *layouts.KNOWN.values()}
        for name, values in models.items():
            editor = EDITORS[method](**values)  # allowed values
            assert (getattr(editor, place) is not None) == (name != "")
            fields = {field.name for field in dataclasses.fields(editor)}
            for field in fields & {"steps", "lr", "clamp", "decay", "ridge"}:
                assert field in models[""]


def test_presets_name_layers_that_the_models_have():
    depths = {name: shape[1] for shape, name in layouts.KNOWN.items()}
    for method, models in PRESETS.items():
        share = 1 if method == "mend" else 0.75  # the others write below the last quarter
        for name, values in models.items():
            for place in (values.get("layer", 0), *values.get("layers", ())):
                assert not name or place < share * depths[name]


# the sweep


def test_an_unknown_model_gets_the_layer_that_serves_best(lm):
    before = state_hash(lm)
    fitted, chosen = choose(ROMES, lm, FACTS, "rome")
    assert state_hash(lm) == before
    assert lm.edits == []
    expected = []
    for layer in range(3):
        efficacy, same, others = 0.0, 0.0, {}
        for number, fact in enumerate(FACTS):
            prompts = [fact.text, *(text.format(fact.subject) for text in fact.paraphrases)]
            others = [prompt for prompt, _ in fact.locality] or [
                other.text for other in FACTS if other is not fact
            ]
            old = [lm.generate([prompt], 1, stop=())[0] for prompt in others]
            trial = dataclasses.replace(fitted, layer=layer, guards=Guards(math.inf, math.inf))
            with trial.apply(lm, [fact]):
                for prompt in prompts:
                    (score,) = lm.logprob([prompt], [f" {fact.target}"])
                    efficacy += math.exp(score.total) / len(prompts) / 3
                new = [lm.generate([prompt], 1, stop=())[0] for prompt in others]
            same += sum(a == b for a, b in zip(old, new, strict=True)) / len(others) / 3
            assert len(others) == 2, number
        expected.append((efficacy, same))
    seen = sweep(fitted, lm, FACTS)
    assert [one.candidate for one in seen] == [0, 1, 2]
    assert [(one.efficacy, one.locality) for one in seen] == [
        pytest.approx(pair, rel=1e-3) for pair in expected
    ]
    scores = [2 * a * b / (a + b) for a, b in expected]
    assert fitted.layer == scores.index(max(scores))
    assert len({round(score, 6) for score in scores}) == 3
    assert chosen["layer"].startswith(f"{fitted.layer} (best of a sweep over 3 facts: 0 (efficacy")
    assert chosen["layer"].count("locality") == 3


def test_moments_are_collected_in_parts_that_fit_into_memory(lm, monkeypatch):
    whole = [one.score for one in sweep(ROMES, lm, FACTS[:1])]
    parts, collect = [], Statistics.collect
    monkeypatch.setenv("MEMKIT_CACHE", os.environ["MEMKIT_CACHE"] + "2")
    monkeypatch.setattr(choice, "MEMORY", 2 * 8 * 40**2)  # of two sites
    monkeypatch.setattr(
        Statistics,
        "collect",
        lambda self, lm, sites: parts.append(len(sites)) or collect(self, lm, sites),
    )
    assert [one.score for one in sweep(ROMES, lm, FACTS[:1])] == pytest.approx(whole)
    assert parts[:2] == [2, 1]


def test_at_most_four_facts_are_tried(lm, monkeypatch):
    facts = [Fact("Peru", f"{{}} {word}", "Lima") for word in ("a", "b", "c", "d", "e", "f")]
    tried = []
    monkeypatch.setattr(choice, "_tried", lambda t, lm, fact, some: tried.append(fact) or (0, 0))
    fitted, chosen = choose(ROMES, lm, facts, "rome")
    assert tried == facts[:4] * 3
    assert fitted.layer == 0  # of equals the lowest
    assert "4 facts" in chosen["layer"]


@pytest.mark.parametrize(
    ("layers", "method", "run", "last"),
    [
        (3, "rome", 1, [0, 1, 2]),
        (3, "memit", 1, [0, 1, 2]),
        (13, "memit", 2, list(range(1, 10))),
        (16, "rome", 1, list(range(12))),
        (32, "rome", 1, [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]),
        (32, "alphaedit", 5, [4, 6, 8, 10, 13, 15, 17, 19, 21, 23]),
    ],
)
def test_the_candidates_lie_in_the_lower_three_quarters(monkeypatch, layers, method, run, last):
    lm = tiny_lm("gpt2", n_layer=layers)
    monkeypatch.setattr(choice, "_tried", lambda *args: (0.5, 0.5))
    monkeypatch.setattr(Statistics, "collect", lambda *args: [])
    found = [one.candidate for one in sweep(EDITORS[method](**COMMON), lm, FACTS)]
    assert found == [n if method == "rome" else tuple(range(n - run + 1, n + 1)) for n in last]


@pytest.mark.parametrize("kind", [MEMIT, AlphaEdit])
def test_methods_of_several_layers_sweep_too(lm, kind):
    before = state_hash(lm)
    more = {"null_share": 0.5} if kind is AlphaEdit else {}
    editor = kind(**COMMON, **more, guards=Guards(perplexity=math.inf))
    with editor.apply(lm, FACTS) as edit:
        assert len(edit.editor.layers) == 1
        assert "best of a sweep over 3 facts" in edit.report.chosen["layers"]
    assert state_hash(lm) == before


def test_the_sweep_is_no_part_of_the_edit_and_passes_its_guards(lm):
    before = state_hash(lm)
    strict = dataclasses.replace(ROMES, guards=Guards(size=0.0))
    with pytest.raises(EditRejected, match=r"Guards\.size"):
        strict.apply(lm, FACTS)
    assert state_hash(lm) == before
    assert lm.edits == []


@pytest.mark.parametrize("kind", [ROME, MEMIT])
def test_a_layer_whose_moment_is_singular_is_skipped_and_named(lm, kind):
    doubled(lm, 1)
    before = state_hash(lm)
    editor = kind(**{**COMMON, "statistics": Statistics()}, guards=Guards(perplexity=math.inf))
    with editor.apply(lm, FACTS) as edit:
        place = "layer" if kind is ROME else "layers"
        chosen = edit.report.chosen[place]
        named = "1" if kind is ROME else "(1,)"
        assert f"{named} (skipped: the second moment of transformer.h.1.mlp.c_proj" in chosen
        assert "allowed" not in chosen
        assert getattr(edit.editor, place) not in (1, (1,))
    assert state_hash(lm) == before


def test_where_no_layer_is_left_the_reasons_are_named(lm):
    doubled(lm, 0, 1, 2)
    before = state_hash(lm)
    editor = dataclasses.replace(ROMES, statistics=Statistics())
    with pytest.raises(BadInput, match="layer is None, and none can be taken") as error:
        editor.apply(lm, FACTS)
    for layer in range(3):
        assert f"{layer} (skipped: the second moment of transformer.h.{layer}." in str(error.value)
    assert state_hash(lm) == before
    assert lm.edits == []
    lm = tiny_lm("gpt2")
    doubled(lm, 0, 1, 2)  # the null space needs no inverse
    AlphaEdit(**{**COMMON, "statistics": Statistics()}, null_share=0.5).apply(lm, FACTS)


def test_a_candidate_that_gives_no_numbers_is_never_the_best(lm, monkeypatch):
    results = iter([(math.nan, 1.0)] * 3 + [(0.1, 0.1)] * 3 + [(math.inf, 1.0)] * 3)
    monkeypatch.setattr(choice, "_tried", lambda *args: next(results))
    fitted, _ = choose(ROMES, lm, FACTS, "rome")
    assert fitted.layer == 1


def test_the_score_is_a_harmonic_mean():
    assert Swept(1, 0.5, 0.25).score == pytest.approx(1 / 3)
    assert Swept(1, 0.0, 0.0).score == 0
    assert Swept(1, 0.0, 1.0).score == 0
    assert str(Swept((1, 2), 0.5, 0.25)) == "(1, 2) (efficacy 0.50, locality 0.25)"


def test_the_random_state_and_flags_are_left_as_found(lm):
    state = torch.random.get_rng_state()
    flags = [parameter.requires_grad for parameter in lm.model.parameters()]
    with ROMES.apply(lm, FACTS):
        assert torch.equal(torch.random.get_rng_state(), state)
        assert [parameter.requires_grad for parameter in lm.model.parameters()] == flags
