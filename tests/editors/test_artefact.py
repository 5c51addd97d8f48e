"""An edit on disk: how much it takes, that it is the same edit, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file

from memkit import MEMIT, ROME, FineTune, Guards, Statistics, editors, load_edit
from memkit.editors import artefact, weights
from memkit.editors.artefact import CARD, TENSORS
from memkit.editors.base import Draft, Editor, Made
from memkit.editors.steps import Dense, LowRank
from memkit.errors import BadInput, FingerprintMismatch
from memkit.files import sha256
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = (
    Fact(
        "Samuel Butler",
        "{} wrote",
        "Paris",
        relation="author",
        previous="Erewhon",
        paraphrases=("The author {} wrote",),
        locality=(("Who wrote", "Lima"), ("One", "two")),
        portability=(("The capital of France is", "Paris"),),
        definition="Samuel Butler is 東京 🙂.",
        id="f1",
    ),
    Fact("Peru", "The capital of {} is", "Lima"),
    Fact("France", "The capital of {} is", "numbers"),
)
OPEN = Guards(perplexity=math.inf, size=math.inf)
COMMON = {
    "contexts": ("{}", "One. {}"),
    "statistics": Statistics(tokens=400, ridge=1e-2),
    "steps": 3,
    "guards": OPEN,
}
EDITOR = ROME(layer=1, **COMMON)
TUNING = FineTune(layer=1, epochs=2, lr=1e-3, guards=OPEN)


@pytest.fixture
def folder(lm, tmp_path):
    """A saved edit of two steps."""
    with EDITOR.apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        edit.save(tmp_path / "edit")
    return tmp_path / "edit"


def card_of(folder):
    return json.loads((folder / CARD).read_text(encoding="utf-8"))


def rewrite(folder, card=None, tensors=None):
    """A folder with another card or tensors, whose hash is right."""
    card = card or card_of(folder)
    if tensors is not None:
        save_file(tensors, folder / TENSORS)
        card["sha256"] = sha256(folder / TENSORS)
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")


# what is in it


def test_an_edit_of_rome_takes_a_row_and_a_column(tmp_path):
    lm = tiny_lm("gpt2", n_embd=128, n_inner=1024)
    weight = lm.layout.site(lm.model, 1).weight
    with dataclasses.replace(EDITOR, steps=2).apply(lm, FACTS[1:2]) as edit:
        edit.save(tmp_path / "edit")
        assert edit.report.stored_bytes == 4 * sum(weight.shape)
    size = sum(path.stat().st_size for path in (tmp_path / "edit").iterdir())
    assert (tmp_path / "edit" / TENSORS).stat().st_size < 4 * sum(weight.shape) + 500
    assert size < weight.nbytes / 20
    assert sorted(path.name for path in (tmp_path / "edit").iterdir()) == [CARD, TENSORS]


def test_the_card_says_what_was_done(lm, folder):
    card = card_of(folder)
    assert set(card["versions"]) == {"memkit", "torch", "transformers"}
    assert card["editor"].startswith("ROME(")
    assert card["turned"] == {"transformer.h.1.mlp.c_proj.weight": True}
    assert set(card["fingerprint"]) == {"config", "transformer.h.1.mlp.c_proj.weight"}
    assert [len(step["facts"]) for step in card["steps"]] == [1, 2]
    saved = load_edit(folder)
    assert saved.facts == FACTS
    assert saved.versions == card["versions"]
    with saved.apply(lm) as edit:
        assert edit.report == saved.report
        (score,) = lm.logprob([FACTS[2].text], [" numbers"])
        assert edit.report.facts[2].after == pytest.approx(score.total, abs=1e-6)
        assert edit.report.seconds > 0
        with pytest.raises(BadInput, match="undo got 3; allowed: 1 to 2"):
            edit.undo(3)
        edit.undo(2)


def test_the_representation_is_text_and_safetensors_alone(folder):
    for path in folder.iterdir():
        data = path.read_bytes()
        assert not data.startswith((b"\x80", b"PK"))
        with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, IndexError, EOFError)):
            pickle.loads(data)
    tensors = load_file(folder / TENSORS)
    name = "transformer.h.1.mlp.c_proj.weight"
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    assert shapes[f"0/{name}/0/left"] == (32, 1)
    assert shapes[f"1/{name}/1/right"] == (40, 1)
    assert len(shapes) == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "editor",
    [EDITOR, MEMIT(layers=(0, 1), weight=1.0, **COMMON), TUNING],
    ids=["rome", "memit", "ft"],
)
def test_what_is_loaded_is_the_same_to_the_byte(tmp_path, editor, dtype):
    lm = tiny_lm("gpt2")
    lm.model.to(dtype)
    before = state_hash(lm)
    with editor.apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        edited, report = state_hash(lm), edit.report
        edit.save(tmp_path / "edit")
    assert state_hash(lm) == before != edited
    with load_edit(tmp_path / "edit").apply(lm) as edit:
        assert state_hash(lm) == edited
        edit.save(tmp_path / "again")
        assert edit.report.facts == report.facts
    assert state_hash(lm) == before
    again = load_edit(tmp_path / "again")
    assert (again.facts, again.fingerprint) == (FACTS, load_edit(tmp_path / "edit").fingerprint)


def test_dense_steps_are_written_as_one(lm, tmp_path):
    weight = lm.layout.site(lm.model, 1).parameter
    with TUNING.apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:2]).add(FACTS[2:])
        after = weight.detach().clone()
        edit.save(tmp_path / "edit")
        assert len(edit.steps) == 3  # the handle is as it was
    assert list(load_file(tmp_path / "edit" / TENSORS)) == [
        "0/transformer.h.1.mlp.c_proj.weight/0/after"
    ]
    saved = load_edit(tmp_path / "edit")
    assert len(saved.steps) == 1
    assert saved.facts == FACTS
    with saved.apply(lm) as edit:
        assert torch.equal(weight, after)
        (change,) = next(iter(edit.steps[0].changes.values()))
        assert isinstance(change, Dense)
        edit.undo()
        assert not torch.equal(weight, after)


def test_low_rank_changes_upon_dense_ones_are_kept_beside_them(lm, tmp_path):
    with TUNING.apply(lm, FACTS[:1]) as edit:
        edit.editor = dataclasses.replace(EDITOR, lr=0.5, clamp=4.0, decay=0.5)
        edit.add(FACTS[1:2]).add(FACTS[2:])
        edited = state_hash(lm)
        edit.save(tmp_path / "edit")
    with load_edit(tmp_path / "edit").apply(lm) as live:
        assert state_hash(lm) == edited
        (row,) = live.steps[0].changes.values()
        assert [type(change) for change in row] == [Dense, LowRank, LowRank]


def test_an_edit_upon_another_is_tied_to_the_edited_model(lm, tmp_path):
    base = EDITOR.apply(lm, FACTS[:1])
    with EDITOR.apply(lm, FACTS[1:2]) as edit:
        both = state_hash(lm)
        edit.save(tmp_path / "edit")
    saved = load_edit(tmp_path / "edit")
    with saved.apply(lm):
        assert state_hash(lm) == both
    base.rollback()
    before = state_hash(lm)
    with pytest.raises(FingerprintMismatch, match=r"mlp\.c_proj\.weight has fingerprint"):
        saved.apply(lm)
    assert state_hash(lm) == before
    assert lm.edits == []


# where it goes


def test_an_edit_is_replaced_only_when_asked(lm, folder):
    with EDITOR.apply(lm, FACTS[1:2]) as edit:
        with pytest.raises(BadInput, match="exists"):
            edit.save(folder)
        assert load_edit(folder).facts == FACTS
        edit.save(folder, replace=True)
        assert load_edit(folder).facts == FACTS[1:2]
    with pytest.raises(BadInput, match="holds nothing"):
        edit.save(folder, replace=True)
    assert load_edit(folder).facts == FACTS[1:2]


def test_a_failed_save_leaves_what_was_there(lm, folder, monkeypatch):
    def failing(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(artefact, "sha256", failing)
    with EDITOR.apply(lm, FACTS[1:2]) as edit:
        for target in (folder, folder.parent / "new"):
            with pytest.raises(KeyboardInterrupt):
                edit.save(target, replace=True)
    monkeypatch.undo()
    assert load_edit(folder).facts == FACTS
    assert [path.name for path in folder.parent.iterdir() if path.name != "cache"] == ["edit"]


# other models


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, r"transformer\.h\.1\.mlp\.c_proj\.weight"),
        ({"layer_norm_epsilon": 1e-3}, "config"),
        ({"n_layer": 1}, "config"),
    ],
)
def test_another_model_is_refused_with_both_fingerprints(folder, change, named):
    other = tiny_lm("gpt2", **change)
    before = state_hash(other)
    saved = load_edit(folder)
    with pytest.raises(FingerprintMismatch, match=named) as error:
        saved.apply(other)
    assert sum(len(word.strip(".,;")) == 64 for word in str(error.value).split()) == 2
    assert state_hash(other) == before
    assert other.edits == []


def test_a_model_of_another_dtype_is_refused(folder):
    other = tiny_lm("gpt2")
    other.model.bfloat16()
    with pytest.raises(FingerprintMismatch):
        load_edit(folder).apply(other)


def test_what_the_edit_does_not_touch_may_differ(folder):
    other = tiny_lm("gpt2")
    other.model.transformer.h[0].mlp.c_proj.weight.data += 1
    with load_edit(folder).apply(other):
        pass


# damage


def test_a_damaged_or_foreign_folder_is_refused(folder, tmp_path):
    data, card = (folder / TENSORS).read_bytes(), (folder / CARD).read_text(encoding="utf-8")

    def refused(said):
        with pytest.raises(BadInput, match=said) as error:
            load_edit(folder)
        assert str(folder) in str(error.value)
        assert "allowed: a folder that Edit.save wrote" in str(error.value)
        (folder / TENSORS).write_bytes(data)
        (folder / CARD).write_text(card, encoding="utf-8")
        load_edit(folder)

    for broken in (data[:-1], data[: len(data) // 2], b"", data[:-1] + bytes([data[-1] ^ 1])):
        (folder / TENSORS).write_bytes(broken)
        refused("has SHA-256 [0-9a-f]{64}, and its card says [0-9a-f]{64}")
    (folder / TENSORS).unlink()
    refused("FileNotFoundError")
    (folder / CARD).unlink()
    refused("FileNotFoundError")
    for text in (card[: len(card) // 2], "", "[]", "3", '{"format": 1}', "\x00"):
        (folder / CARD).write_text(text, encoding="utf-8")
        refused("cannot be read as an edit")
    (folder / CARD).write_bytes(b"\xff\xfe" + card.encode())
    refused("UnicodeDecodeError")
    with pytest.raises(BadInput, match="cannot be read as an edit"):
        load_edit(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"editor": "__import__('os').system('touch written')"},
        {"editor": 3},
        {"steps": []},
        {"steps": [3]},
        {"steps": [{"facts": [{"fact": {"subject": "Peru"}}]}]},
        {"steps": "abc"},
        {"turned": {}},
        {"turned": []},
        {"turned": {"transformer.h.0.mlp.c_proj.weight": True}},
        {"fingerprint": {}},
        {"fingerprint": "abc"},
        {"fingerprint": {"config": "x", "other": "y"}},
        {"versions": None},
    ],
    ids=str,
)
def test_a_card_that_does_not_fit_is_refused(folder, change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rewrite(folder, {**card_of(folder), **change})
    with pytest.raises(BadInput, match="allowed"):
        load_edit(folder)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("name", ["0", "0/name", "0/name/0", "0/name/x/left", "0/name/0/middle"])
def test_tensors_that_do_not_fit_are_refused(folder, name):
    tensors = load_file(folder / TENSORS)
    rewrite(folder, tensors={**tensors, name: torch.ones(2, 1)})
    with pytest.raises(BadInput, match="cannot be read as an edit"):
        load_edit(folder)


def test_factors_of_another_shape_leave_the_model_as_it_was(lm, folder):
    tensors = {name: torch.ones(7, 1) for name in load_file(folder / TENSORS)}
    rewrite(folder, tensors=tensors)
    before = state_hash(lm)
    with pytest.raises(RuntimeError, match="size of tensor"):
        load_edit(folder).apply(lm)
    assert state_hash(lm) == before
    assert lm.edits == []


def test_loading_waits_for_its_turn(lm, folder):
    with (
        EDITOR.apply(lm, FACTS[:1]) as edit,
        edit.paused(),
        pytest.raises(BadInput, match="is paused"),
    ):
        load_edit(folder).apply(lm)


@dataclass(frozen=True, kw_only=True)
class Wide(Editor):
    """Adds factors of a rank that depends on the fact's target."""

    guards: Guards = OPEN

    def write(self, draft: Draft) -> Made:
        site = draft.lm.layout.site(draft.lm.model, 1)
        generator = torch.Generator().manual_seed(sum(len(step.facts) for step in draft.past))
        left, right = (torch.randn(d, 60, generator=generator) for d in site.weight.shape)
        draft.add(site, left / 1e3, right)
        return Made()


def test_factors_larger_than_the_weights_are_written_as_these(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(editors, "EDITORS", {**editors.EDITORS, "wide": Wide})
    monkeypatch.setattr(weights, "MANY", 10_000)
    before = state_hash(lm)
    with Wide().apply(lm, FACTS[:1]) as edit:
        for fact in FACTS[1:3]:
            edit.add([fact])
        edited = state_hash(lm)
        edit.save(tmp_path / "edit")
        edit.add(FACTS[:1])
        further = state_hash(lm)
        edit.undo()
        assert state_hash(lm) == edited
        edit.remove(0)
        assert state_hash(lm) != edited
    assert state_hash(lm) == before != edited
    tensors = load_file(tmp_path / "edit" / TENSORS)
    assert [tensor.dtype for tensor in tensors.values()] == [torch.float64]
    with load_edit(tmp_path / "edit").apply(lm) as live:
        assert state_hash(lm) == edited
        assert [len(step.facts) for step in live.steps] == [3]
        live.add(FACTS[:1])
        assert state_hash(lm) == further
