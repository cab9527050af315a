"""The recipe of the shipped encoders, on made-up texts: from texts to a directory that fine-tuning takes."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import films
from safetensors.torch import load_file
from tiny_e5 import write_tiny_e5

from bothways import InputError, TextClassifier
from bothways.encoders.recipe import make
from bothways.encoders.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_from_texts_to_an_encoder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES[name]
    write_tiny_e5(tmp_path / "e5.bin", ["query:", *" ".join(films(9)[0]).lower().split()])
    monkeypatch.setattr("bothways.encoders.recipe.path_of", lambda: tmp_path / "e5.bin")
    for seed, source in enumerate(recipe.sources):
        documents = "\n\n".join(". ".join(films(9, seed=100 * seed + i)[0]) for i in range(60))
        (tmp_path / f"{source.file}.txt.xz").write_bytes(lzma.compress(documents.encode()))
    small = tuple(replace(stage, steps=4, batch_tokens=1024) for stage in recipe.training)
    recipe = replace(recipe, preset="tiny", vocab_size=300, training=small)
    if recipe.distillation is not None:
        recipe = replace(recipe, distillation=replace(recipe.distillation, steps=4, batch_tokens=1024))
        recipe = replace(recipe, layers=recipe.layers[:1])
    made = make(name, recipe, tmp_path, tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(made / "model.safetensors").values()} == {torch.bfloat16}
    config = json.loads((made / "config.json").read_text())
    taught = recipe.distillation is not None
    assert [output["name"] for output in config["bothways"]["outputs"]] == (["mlm"] if taught else ["mlm", "nsp"])
    for stage in range(1, len(small) + taught + 1):
        assert json.loads((made / f"metrics-{stage}.json").read_text())["updates"] == 4
        assert (made / f"curves-{stage}.svg").is_file() == (stage <= len(small))
    card = (made / "README.md").read_text("utf-8")
    assert ("multilingual-e5-small" in card) == taught
    for source in recipe.sources:
        assert source.what in card
        assert source.licence in card
    texts, labels = films(60)
    assert TextClassifier(made, epochs=1).fit(texts, labels).predict(texts).shape == (60,)
    assert make(name, recipe, tmp_path, tmp_path / "out") == made


def test_a_text_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"en-wiki\.txt\.xz: this text of the recipe is missing"):
        make("en-mini", RECIPES["en-mini"], tmp_path, tmp_path / "out")
