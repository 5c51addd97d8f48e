from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real benchmark data and models, where a developer has it."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("MEMKIT_SHARED", root.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the developers' folder of real data (MEMKIT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def small_world(tmp_path_factory) -> Path:
    """A world's folder with some 80 questions and an untrained model."""
    import torch
    import transformers

    from memkit.testing.models import tiny_tokenizer
    from memkit.world import Sizes, generate, write

    folder = tmp_path_factory.mktemp("worlds") / "small"
    folder.mkdir()
    write(generate(1, Sizes(people=16, cities=6, companies=5, countries=4, new=3)), folder)
    tokenizer = tiny_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=512,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    from memkit.cli import main

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call
