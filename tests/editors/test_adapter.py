"""Adapters as values, and as PEFT keeps them: what peft computes is what the edited model says."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import memkit
from memkit import (
    GRACE,
    MEMIT,
    ROME,
    Adapter,
    AlphaEdit,
    BadInput,
    EditRejected,
    ExtSub,
    Fact,
    FineTune,
    FingerprintMismatch,
    Guards,
    LoRA,
    Statistics,
    load_adapter,
    load_edit,
)
from memkit.editors.factors import dense
from memkit.testing.editor import state_hash
from memkit.testing.models import tiny_lm

# peft asks transformers in the old words
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

FACTS = (Fact("Samuel Butler", "{} wrote", "Paris"), Fact("Peru", "The capital of {} is", "Paris"))
OPEN = Guards(perplexity=math.inf, size=math.inf, divisor=0.0)
PLAIN = {
    "steps": 3,
    "lr": 0.5,
    "clamp": 4.0,
    "decay": 0.0,
    "contexts": ("{}",),
    "statistics": Statistics(identity=True),
    "guards": OPEN,
}
EDITORS = {
    "rome": ROME(layer=1, **PLAIN),
    "memit": MEMIT(layers=(0, 2), weight=1.0, **PLAIN),
    "alphaedit": AlphaEdit(layers=(0, 1), null_share=0.5, ridge=1.0, **PLAIN),
    "lora": LoRA(rank=3, epochs=4, guards=OPEN),
    "ft": FineTune(layer=1, epochs=3, guards=OPEN),
}


def logits(lm, model=None):
    ids = torch.tensor([lm.codec.prompt("The capital of Peru is Lima, and Samuel Butler wrote")])
    more = {"decoder_input_ids": ids} if lm.kind == "encoder-decoder" else {}
    with torch.no_grad():
        return (model or lm.model)(input_ids=ids, **more).logits


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_peft_says_what_the_edited_model_says(name, family, tmp_path):
    peft = pytest.importorskip("peft")
    lm = tiny_lm(family)
    if lm.kind not in EDITORS[name].kinds:
        pytest.skip("the editor does not serve this kind")
    plain = logits(lm)
    with EDITORS[name].apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        wanted = logits(lm)
        written = edit.to_peft(tmp_path / "lora")
    assert not torch.allclose(plain, wanted, atol=1e-3)
    assert written.error == 0
    assert "can reveal" in str(written)
    served = peft.PeftModel.from_pretrained(tiny_lm(family).model, tmp_path / "lora")
    torch.testing.assert_close(logits(lm, served), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(lm), plain)
    with load_adapter(tmp_path / "lora").apply(lm, guards=OPEN) as again:
        torch.testing.assert_close(logits(lm), wanted, atol=1e-4, rtol=1e-4)
        assert lm.edits == [again]
    torch.testing.assert_close(logits(lm), plain, atol=0, rtol=0)


def test_vllm_reads_the_same_scale(tmp_path):
    """It takes alpha / r of the config for all maps, and each map's rank from its factors."""
    lm = tiny_lm("llama")
    with LoRA(rank=2, epochs=2, layers=(0,)).apply(lm, FACTS[:1]) as edit:
        edit.add(FACTS[1:])
        with ROME(layer=2, **PLAIN).apply(lm, FACTS[:1]) as rome:
            pass
        rank_one = LoRA(rank=1, epochs=2, layers=(2,), targets=("down",))
        other = rank_one.train(lm, [("One", "two")])
        both = Adapter({**Adapter.of(edit).changes, **other.changes})
    assert rome.closed
    written = both.save(tmp_path / "lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 4
    assert config["rank_pattern"] == {"model.layers.2.mlp.down_proj": 1}
    assert config["alpha_pattern"] == config["rank_pattern"]
    assert written.ranks["model.layers.2.mlp.down_proj"] == 1
    assert (config["use_rslora"], config["use_dora"], config["bias"]) == (False, False, "none")
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.2.mlp.down_proj"
    update = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    torch.testing.assert_close(
        update.double(), dense(other.changes["model.layers.2.mlp.down_proj"])
    )


def test_a_smaller_rank_has_its_error_stated(tmp_path):
    lm = tiny_lm("gpt2")
    with FineTune(layer=1, epochs=3, lr=1e-2, guards=OPEN).apply(lm, FACTS) as edit:
        whole = dense(Adapter.of(edit).changes["transformer.h.1.mlp.c_proj"])
        written = edit.to_peft(tmp_path / "lora", rank=2)
    near = dense(load_adapter(tmp_path / "lora").changes["transformer.h.1.mlp.c_proj"])
    assert torch.linalg.matrix_rank(near, rtol=1e-5) == 2
    assert written.error == pytest.approx(float((near - whole).norm() / whole.norm()), rel=1e-3)
    assert written.error == pytest.approx(written.errors["transformer.h.1.mlp.c_proj"])
    assert 0 < written.error < 1
    assert json.loads((tmp_path / "lora" / "memkit.json").read_text())["error"] == written.error
    with pytest.raises(BadInput, match="exists"):
        load_adapter(tmp_path / "lora").save(tmp_path / "lora")
    with pytest.raises(BadInput, match="rank is 0"):
        load_adapter(tmp_path / "lora").save(tmp_path / "other", rank=0)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("file", ["adapter_model.bin", "adapter_model.safetensors"])
@pytest.mark.parametrize("rslora", [False, True])
def test_what_peft_trained_loads_as_it_is(file, rslora, tmp_path):
    """As Ext-Sub's published LoRAs: q_proj and v_proj, alpha 32, rank 16, pickled tensors."""
    peft = pytest.importorskip("peft")
    lm = tiny_lm("llama")
    config = peft.LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "v_proj"],
        rank_pattern={"1.self_attn.q_proj": 4},
        alpha_pattern={"2.self_attn.v_proj": 7},
        use_rslora=rslora,
        task_type="CAUSAL_LM",
    )
    other = tiny_lm("llama")
    wrapped = peft.get_peft_model(other.model, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    wrapped.save_pretrained(tmp_path / "lora")
    if file.endswith(".bin"):  # and a config as the first versions wrote it
        changed(tmp_path / "lora", enable_lora=None, merge_weights=True)
        tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
        torch.save(tensors, tmp_path / "lora" / file)
        (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    wanted, plain = logits(lm, wrapped), logits(lm)
    assert not torch.allclose(wanted, plain, atol=1e-3)
    adapter = load_adapter(tmp_path / "lora")
    assert adapter.task == "CAUSAL_LM"
    with adapter.apply(lm, guards=OPEN):
        torch.testing.assert_close(logits(lm), wanted, atol=1e-4, rtol=1e-4)
    combined = ExtSub(tmp_path / "lora", str(tmp_path / "lora"), 2.0).combined()
    with combined.apply(lm, guards=OPEN):  # what both have in common stays
        torch.testing.assert_close(logits(lm), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("start", ["pissa", "olora", "gaussian", False])
def test_a_start_that_moves_the_base_is_seen(start, tmp_path):
    """peft takes PiSSA's and OLoRA's start out of the base again: A and B alone are not it."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=start)
    wrapped = peft.get_peft_model(tiny_lm("llama").model, config)
    wrapped.save_pretrained(tmp_path / "lora")
    lm = tiny_lm("llama")
    loaded = peft.PeftModel.from_pretrained(tiny_lm("llama").model, tmp_path / "lora").eval()
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    if start in ("pissa", "olora"):
        change = tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]
        assert change.abs().max() > 0.1  # and yet:
        torch.testing.assert_close(logits(lm, loaded), logits(lm), atol=1e-3, rtol=1e-3)
        with pytest.raises(BadInput, match=f"init_lora_weights='{start}'"):
            load_adapter(tmp_path / "lora")
        return
    with load_adapter(tmp_path / "lora").apply(lm, guards=OPEN):
        torch.testing.assert_close(logits(lm), logits(lm, loaded), atol=1e-4, rtol=1e-4)


def test_an_id_of_the_hub_is_found_in_its_cache(saved, tmp_path, monkeypatch):
    name, commit = "Ext-Sub/llama-7b_toxic_lora", "0" * 40
    cache = tmp_path / "hub" / "models--Ext-Sub--llama-7b_toxic_lora"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(saved, cache / "snapshots" / commit)
    with pytest.raises(BadInput, match="connect to the network"):
        load_adapter(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    adapter = load_adapter(name)
    assert adapter.source == name
    for module, change in load_adapter(saved).changes.items():
        assert torch.equal(adapter.changes[module].left, change.left)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Bad:
        def __reduce__(self):
            return (exec, ("raise SystemExit(99)",))

    lm = tiny_lm("llama")
    LoRA(epochs=1).train(lm, [("One", "two")]).save(tmp_path / "lora")
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    torch.save({"x": Bad()}, tmp_path / "lora" / "adapter_model.bin")
    with pytest.raises(BadInput, match="cannot be read as a PEFT adapter"):
        load_adapter(tmp_path / "lora")


@pytest.fixture
def saved(tmp_path):
    LoRA(epochs=1, targets=("down",)).train(tiny_lm("gpt2"), [("One", "two")]).save(
        tmp_path / "lora"
    )
    return tmp_path / "lora"


def changed(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        ({"alora_invocation_tokens": [5, 6]}, r"alora_invocation_tokens=\[5, 6\]"),
        ({"init_lora_weights": "olora"}, "init_lora_weights='olora', whose start"),
        ({"init_lora_weights": "pissa_niter_16"}, "path_initial_model_for_weight_conversion"),
        ({"r": 3}, "says rank 3"),
    ],
)
def test_adapters_that_are_no_plain_lora_are_named(saved, values, message):
    changed(saved, **values)
    with pytest.raises(BadInput, match=message):
        load_adapter(saved)


def test_a_config_of_a_later_peft_is_warned_of(saved):
    changed(saved, warp_factor=9)
    adapter = load_adapter(saved)
    assert "warp_factor=9" in adapter.warnings[0]
    with adapter.apply(tiny_lm("gpt2")) as edit:
        assert "warp_factor=9" in edit.report.warnings[0]


def test_other_methods_are_named(tmp_path):
    peft = pytest.importorskip("peft")
    peft.IA3Config(target_modules=["down_proj"], feedforward_modules=[]).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="type IA3; allowed: LORA"):
        load_adapter(tmp_path)


def test_damaged_folders_are_named(saved, tmp_path):
    tensors = load_file(saved / "adapter_model.safetensors")
    one = next(key for key in tensors if "lora_B" in key)
    save_file({k: t for k, t in tensors.items() if k != one}, saved / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="pairs of"):
        load_adapter(saved)
    tensors[one][0, 0] = math.nan
    save_file(tensors, saved / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="not finite"):
        load_adapter(saved)
    (saved / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="cannot be read as a PEFT adapter"):
        load_adapter(saved)
    with pytest.raises(BadInput, match="cannot be read as a PEFT adapter"):
        load_adapter(tmp_path / "absent")


def test_another_base_is_refused(saved):
    adapter = load_adapter(saved)
    for lm in (tiny_lm("gpt2", seed=1), tiny_lm("gpt2", n_layer=2)):
        before = state_hash(lm)
        with pytest.raises(FingerprintMismatch):
            adapter.apply(lm)
        assert state_hash(lm) == before
    (saved / "memkit.json").unlink()
    adapter = load_adapter(saved)
    with adapter.apply(tiny_lm("gpt2", seed=1)):
        pass
    with pytest.raises(BadInput, match="is absent"):
        adapter.apply(tiny_lm("gpt2", n_layer=2))
    with pytest.raises(BadInput, match=r"is \(32, 40\).*is \(32, 48\)"):
        adapter.apply(tiny_lm("gpt2", n_inner=48))


def test_an_applied_adapter_is_an_edit_like_others(tmp_path):
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    adapter = LoRA(epochs=3).train(lm, [("One", "two")])
    with adapter.apply(lm) as edit:
        edited = state_hash(lm)
        edit.save(tmp_path / "edit")
        with pytest.raises(BadInput, match="learns no facts"):
            edit.add(FACTS)
        assert state_hash(lm) == edited
        with pytest.raises(FingerprintMismatch):
            adapter.apply(lm)
        with LoRA(epochs=2).apply(lm, FACTS[:1]):
            assert state_hash(lm) != edited
        with edit.paused():
            assert state_hash(lm) == before
    assert state_hash(lm) == before
    with load_edit(tmp_path / "edit").apply(lm):
        assert state_hash(lm) == edited
    with Adapter.of(load_edit(tmp_path / "edit")).apply(lm):
        assert state_hash(lm) == edited
    with ExtSub(tmp_path / "edit", adapter, 0.0).apply(lm):
        assert state_hash(lm) == edited
    assert state_hash(lm) == before


def test_a_guard_rejects_or_warns():
    lm = tiny_lm("gpt2")
    before = state_hash(lm)
    adapter = LoRA(epochs=3).train(lm, [("One", "two")])
    strict = Guards(size=0.0)
    with pytest.raises(EditRejected, match=r"Guards\.size"):
        adapter.apply(lm, guards=strict)
    assert state_hash(lm) == before
    assert lm.edits == []
    with adapter.apply(lm, guards=strict, on_guard="warn") as edit:
        assert "Guards.size" in edit.report.warnings[0]


def test_edits_that_no_adapter_can_hold_are_named(tmp_path):
    lm = tiny_lm("gpt2")
    with GRACE(layer=1).apply(lm, FACTS[:1]) as edit, pytest.raises(BadInput, match="no change of"):
        edit.to_peft(tmp_path / "lora")
    whole = FineTune(parameters="all", epochs=1, guards=OPEN)
    with whole.apply(lm, FACTS[:1]) as edit, pytest.raises(BadInput, match="linear maps alone"):
        edit.to_peft(tmp_path / "lora")
    with FineTune(layer=1, epochs=1, guards=OPEN).apply(lm, FACTS[:1]) as edit:
        edit.save(tmp_path / "edit")
    with pytest.raises(BadInput, match="holds the whole weight"):
        Adapter.of(load_edit(tmp_path / "edit"))
    assert not (tmp_path / "lora").exists()
    assert memkit.Adapter is Adapter
