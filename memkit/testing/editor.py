"""EditorContract: what every editor promises, as tests. Subclass it and override `editor`.

class TestMine(EditorContract):
families = ("gpt2", "llama")

@pytest.fixture
def editor(self):
return Mine(layer=1)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import memkit
from memkit.editors.base import Editor
from memkit.editors.guards import Guards
from memkit.editors.rebuilding import rebuilt
from memkit.errors import BadInput, EditRejected, FingerprintMismatch, UnsupportedModel
from memkit.lm.model import LM
from memkit.testing.models import tiny_lm
from memkit.types import Fact

__all__ = ["EditorContract", "state_hash"]

Imprint = tuple[str, tuple[float, ...]]

FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris", paraphrases=("The author {} wrote",)),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)


def state_hash(lm: LM) -> str:
    """SHA-256 over the bytes of the whole state dict."""
    digest = hashlib.sha256()
    for name, tensor in lm.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class EditorContract:
    """The laws of the handle. `families` are those of `tiny_lm` that the editor is run on."""

    families: Sequence[str] = ("gpt2",)
    head: str | None = None  # of the families' transformers classes, where it is not the first
    unsupported: str | None = "bert"
    facts: Sequence[Fact] = FACTS
    strict: Guards = Guards(size=0.0)  # bounds that no edit by this editor keeps

    @pytest.fixture
    def editor(self) -> Editor:
        """The editor under test, with settings that a tiny model can take."""
        raise NotImplementedError

    @pytest.fixture
    def lm(self, request: Any) -> LM:
        """A tiny random model of the first family, made anew."""
        return tiny_lm(self.families[0], head=self.head)

    def test_it_changes_the_output_and_rolling_back_restores_every_byte(
        self, editor: Editor
    ) -> None:
        """On every family: first that something changed, then that nothing has."""
        for family in self.families:
            lm = tiny_lm(family, head=self.head)
            before, scores = self.imprint(lm), self.scores(lm)
            edit = editor.apply(lm, self.facts)
            assert self.scores(lm) != scores, family
            assert self.imprint(lm) != before, family
            assert lm.edits == [edit]
            edit.rollback()
            assert self.imprint(lm) == before, family
            assert self.scores(lm) == scores, family
            assert lm.edits == []
            edit.rollback()

    def test_the_target_becomes_more_likely(self, editor: Editor, lm: LM) -> None:
        """One fact, and a report that says so; less likely where the editor erases."""
        with editor.apply(lm, self.facts[:1]) as edit:
            (row,) = edit.report.facts
            assert row.forget == editor.erases
            assert row.after < row.before if editor.erases else row.after > row.before
            assert row.fact == self.facts[0]
            assert edit.report.stored_bytes > 0
            assert edit.report.seconds > 0
            assert edit.report.parameters
            assert self.facts[0].target in str(edit.report)

    def test_leaving_by_an_exception_restores_every_byte(self, editor: Editor, lm: LM) -> None:
        """Ctrl-C within the `with` block."""
        before = self.imprint(lm)
        with pytest.raises(KeyboardInterrupt), editor.apply(lm, self.facts[:1]):  # noqa: PT012
            assert self.imprint(lm) != before
            raise KeyboardInterrupt
        assert self.imprint(lm) == before

    def test_an_exception_within_the_edit_restores_every_byte(
        self, editor: Editor, lm: LM, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C after the method has written, before the handle is there."""
        before = self.imprint(lm)
        seen: list[Imprint] = []

        def write(fitted: Editor, draft: Any) -> Any:
            original(fitted, draft)
            seen.append(self.imprint(lm))
            raise KeyboardInterrupt

        original = type(editor).write
        monkeypatch.setattr(type(editor), "write", write)
        with pytest.raises(KeyboardInterrupt):
            editor.apply(lm, self.facts[:1])
        assert seen[0] != before
        assert self.imprint(lm) == before
        assert lm.edits == []

    def test_steps_are_taken_back_to_the_byte(self, editor: Editor, lm: LM) -> None:
        """`undo` gives the bytes from before a step, and `add` goes on from there."""
        hashes = [self.imprint(lm)]
        edit = editor.apply(lm, self.facts[:1])
        hashes.append(self.imprint(lm))
        for fact in self.facts[1:]:
            edit.add([fact])
            hashes.append(self.imprint(lm))
        assert len(set(hashes)) == len(hashes)
        assert [row.fact for row in edit.report.facts] == list(self.facts)
        edit.undo()
        assert self.imprint(lm) == hashes[-2]
        edit.undo(2)
        assert self.imprint(lm) == hashes[0]
        edit.add(self.facts[:1])
        assert self.imprint(lm) == hashes[1]
        with pytest.raises(BadInput, match="undo got 2; allowed: 1 to 1"):
            edit.undo(2)
        edit.rollback()
        assert self.imprint(lm) == hashes[0]

    def test_handles_nest_and_close_in_reverse_order(self, editor: Editor, lm: LM) -> None:
        """Another order raises, names both, and changes nothing."""
        before = self.imprint(lm)
        outer = editor.apply(lm, self.facts[:1])
        one = self.imprint(lm)
        inner = editor.apply(lm, self.facts[1:2])
        assert self.imprint(lm) != one
        assert lm.edits == [outer, inner]
        two = self.imprint(lm)
        with pytest.raises(BadInput) as error:
            outer.rollback()
        assert repr(outer) in str(error.value)
        assert repr(inner) in str(error.value)
        assert self.imprint(lm) == two
        inner.rollback()
        assert self.imprint(lm) == one
        outer.rollback()
        assert self.imprint(lm) == before

    def test_a_paused_edit_is_away_and_comes_back(self, editor: Editor, lm: LM) -> None:
        """The original model in between, and nothing that would mix the two."""
        before = self.imprint(lm)
        with editor.apply(lm, self.facts[:1]) as edit:
            edited = self.imprint(lm)
            with edit.paused():
                assert self.imprint(lm) == before
                assert lm.edits == []
                with pytest.raises(BadInput, match="paused"):
                    editor.apply(lm, self.facts[1:2])
                with pytest.raises(BadInput, match="paused"):
                    edit.rollback()
            assert self.imprint(lm) == edited
            assert lm.edits == [edit]
        assert self.imprint(lm) == before

    def test_a_saved_edit_is_the_same_on_its_base_and_refused_elsewhere(
        self, editor: Editor, lm: LM, tmp_path: Any
    ) -> None:
        """Loaded, it gives the same bytes and goes on as if never saved; another model is named."""
        before = self.imprint(lm)
        with editor.apply(lm, self.facts[:2]) as edit:
            edited, report, made = self.imprint(lm), edit.report, edit.editor
            edit.save(tmp_path / "edit")
            with pytest.raises(BadInput, match="exists"):
                edit.save(tmp_path / "edit")
            with pytest.raises(FingerprintMismatch):
                memkit.load_edit(tmp_path / "edit").apply(lm)
            assert self.imprint(lm) == edited
            edit.add(self.facts[2:])
            further = self.imprint(lm)
        saved = memkit.load_edit(tmp_path / "edit")
        assert saved.facts == tuple(self.facts[:2])
        assert saved.editor == made
        assert [row.fact for row in saved.report.facts] == [row.fact for row in report.facts]
        with saved.apply(lm) as live:
            assert self.imprint(lm) == edited
            assert lm.edits == [live]
            live.add(self.facts[2:])
            assert self.imprint(lm) == further != edited
            live.undo()
            assert self.imprint(lm) == edited
        assert self.imprint(lm) == before
        other = tiny_lm(self.families[0], head=self.head, seed=1)
        with pytest.raises(FingerprintMismatch):
            saved.apply(other)

    def test_its_representation_rebuilds_it(self, editor: Editor, lm: LM) -> None:
        """Also with what was chosen for the model."""
        assert rebuilt(repr(editor)) == editor
        with editor.apply(lm, self.facts[:1]) as edit:
            assert rebuilt(repr(edit.editor)) == edit.editor
            assert edit.report.editor == repr(edit.editor)
        with pytest.raises(dataclasses.FrozenInstanceError):
            editor.seed = 1  # type: ignore[misc]

    def test_state_is_left_as_it_was_found(self, editor: Editor, lm: LM) -> None:
        """Random state, `requires_grad`, gradients, modes and hooks."""
        parameters = list(lm.model.parameters())
        parameters[0].requires_grad_(False)
        flags = [parameter.requires_grad for parameter in parameters]
        parameters[1].grad = torch.ones_like(parameters[1])
        random, modes = torch.random.get_rng_state(), [m.training for m in lm.model.modules()]
        with torch.no_grad(), editor.apply(lm, self.facts[:2]):
            pass
        assert torch.equal(torch.random.get_rng_state(), random)
        assert [parameter.requires_grad for parameter in parameters] == flags
        assert torch.equal(parameters[1].grad, torch.ones_like(parameters[1]))
        assert all(p.grad is None for p in parameters[:1] + parameters[2:])
        assert [module.training for module in lm.model.modules()] == modes
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())

    def test_a_model_in_training_mode_is_edited_as_in_evaluation_mode(self, editor: Editor) -> None:
        """Dropout has no part in an edit, and the mode stays."""
        imprints: list[Imprint] = []
        for training in (False, True):
            lm = tiny_lm(self.families[0], head=self.head)
            lm.model.train(training)
            with editor.apply(lm, self.facts[:1]):
                imprints.append(self.imprint(lm))
            assert all(module.training == training for module in lm.model.modules())
        assert imprints[0] == imprints[1]

    def test_equal_calls_give_equal_bytes(self, editor: Editor) -> None:
        """Whatever the random state outside."""
        hashes: list[Imprint] = []
        for _ in range(2):
            lm = tiny_lm(self.families[0], head=self.head)
            torch.manual_seed(len(hashes))
            editor.apply(lm, self.facts)
            hashes.append(self.imprint(lm))
        assert hashes[0] == hashes[1]

    def test_other_models_are_named(self, editor: Editor) -> None:
        """A kind that the method does not serve is refused."""
        if self.unsupported is None:
            pytest.skip("the editor serves every kind")
        lm = tiny_lm(self.unsupported)
        before = self.imprint(lm)
        with pytest.raises(UnsupportedModel, match=type(lm.model).__name__):
            editor.apply(lm, self.facts[:1])
        assert self.imprint(lm) == before

    def test_bad_facts_are_refused_before_anything_is_written(self, editor: Editor, lm: LM) -> None:
        """No facts, one fact, a contradiction, a prompt beyond the window."""
        before = self.imprint(lm)
        with pytest.raises(BadInput, match="facts is empty"):
            editor.apply(lm, [])
        with pytest.raises(BadInput, match="one Fact"):
            editor.apply(lm, self.facts[0])  # type: ignore[arg-type]
        fact = self.facts[0]
        with pytest.raises(BadInput, match="contradict each other"):
            editor.apply(lm, [fact, dataclasses.replace(fact, target="London")])
        long = dataclasses.replace(fact, prompt="{} " + "wrote Erewhon and " * 60)
        with pytest.raises(BadInput, match="window"):
            editor.apply(lm, [long])
        assert self.imprint(lm) == before
        assert lm.edits == []

    def test_a_guard_rejects_or_warns(self, editor: Editor, lm: LM) -> None:
        """Rejecting restores every byte; warning keeps the edit and says so."""
        before = self.imprint(lm)
        strict = dataclasses.replace(editor, guards=self.strict)
        with pytest.raises(EditRejected, match=r"Guards\."):
            strict.apply(lm, self.facts[:1])
        assert self.imprint(lm) == before
        assert lm.edits == []
        told = dataclasses.replace(strict, on_guard="warn")
        with told.apply(lm, self.facts[:1]) as edit:
            assert any("Guards." in warning for warning in edit.report.warnings)
            assert self.imprint(lm) != before

    def test_answers_name_the_edit(self, editor: Editor, lm: LM) -> None:
        """The answer's evidence has the edits that were live."""
        if lm.kind not in ("decoder", "encoder-decoder"):
            pytest.skip("the model does not generate")
        with editor.apply(lm, self.facts[:1]) as edit:
            answer = memkit.QA(lm).ask("One, two?")
            assert answer.edits == (repr(edit),)
        assert memkit.QA(lm).ask("One, two?").edits == ()

    def imprint(self, lm: LM) -> Imprint:
        """The bytes of the weights, and what the model says: adaptors change only that."""
        return state_hash(lm), tuple(self.scores(lm))

    def scores(self, lm: LM) -> list[float]:
        """The targets' log-probabilities."""
        from memkit.editors.tokens import target_text

        prompts = [fact.text for fact in self.facts]
        targets = [target_text(fact, lm) for fact in self.facts]
        return [score.total for score in lm.logprob(prompts, targets)]
