"""Model directories that cannot be used, each answered in one sentence."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from conftest import SENTENCES
from safetensors.torch import load_file, save_file

from bothways.baselines.bag_of_words import BagOfWords
from bothways.errors import InputError
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.tokenizer import Tokenizer


def refused(directory: Path, *said: str) -> None:
    with pytest.raises(InputError) as error:
        load_model(directory)
    sentence = str(error.value)
    assert str(directory) in sentence
    assert "\n" not in sentence
    for part in said:
        assert part in sentence, sentence


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "model.safetensors is missing"),
        ("tokenizer.json", "neither tokenizer.json nor vocab.txt"),
    ],
)
def test_a_missing_file(encoder_directory: Path, name: str, said: str) -> None:
    (encoder_directory / name).unlink()
    refused(encoder_directory, said)


def test_a_simpler_method(tmp_path: Path) -> None:
    BagOfWords().fit(["good", "bad"], ["a", "b"]).save(tmp_path / "svm")
    refused(tmp_path / "svm", "not BERT", "bothways.baselines")


def test_a_wrong_shape(encoder_directory: Path) -> None:
    edit(encoder_directory / "config.json", intermediate_size=48)
    refused(encoder_directory, "encoder.layer.0.intermediate.dense.weight", "(64, 32)", "(48, 32)")


def test_a_tensor_that_is_missing(encoder_directory: Path) -> None:
    tensors = load_file(encoder_directory / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, encoder_directory / "model.safetensors")
    refused(encoder_directory, "lack encoder.layer.1.output.dense.bias", "not a whole BERT encoder")


def test_weights_cut_short(encoder_directory: Path) -> None:
    path = encoder_directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(encoder_directory, "cannot be read")


def test_a_vocabulary_that_does_not_fit(encoder_directory: Path) -> None:
    Tokenizer.train([*SENTENCES * 20, "many new letters: xyzqwvkj абвгд"] * 5, 1000).save(encoder_directory)
    refused(encoder_directory, "tokenizer knows", "tokenizer that the model was trained with")


class Hostile:
    """What a pickle could do: run any command when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch opened",)


def test_a_pickle_is_never_opened(encoder_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (encoder_directory / "model.safetensors").unlink()
    (encoder_directory / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))
    refused(encoder_directory, "pytorch_model.bin", "pickle", "safetensors")
    assert not (tmp_path / "opened").exists()


def test_other_models_and_broken_settings(encoder_directory: Path) -> None:
    config = encoder_directory / "config.json"
    good = config.read_text()
    edit(config, model_type="gpt2")
    refused(encoder_directory, "model_type is 'gpt2'")
    config.write_text(good)
    edit(config, hidden_act="swish")
    refused(encoder_directory, "'swish'")
    config.write_text(good)
    edit(config, bothways={"format": 2})
    refused(encoder_directory, "newer bothways")
    config.write_text(good)
    edit(config, bothways={"format": 1, "outputs": [{"name": "a", "kind": "single", "lables": []}]})
    refused(encoder_directory, "unknown key 'lables'")
    config.write_text("{")
    refused(encoder_directory, "not JSON")


def test_what_starts_untrained_is_said(encoder_directory: Path) -> None:
    tensors = load_file(encoder_directory / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    tensors["cls.seq_relationship.extra"] = torch.zeros(2)
    save_file(tensors, encoder_directory / "model.safetensors")
    _, _, report = load_model(encoder_directory)
    assert str(report) == (
        f"{encoder_directory}: read a 2-layer encoder, 32 wide, with embeddings, encoder; untrained: pooling; "
        f"left aside: cls.seq_relationship."
    )


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such directory"):
        locate(tmp_path / "none")
    with pytest.raises(InputError, match="the hub did not deliver"):
        locate("nobody/no-such-model")
    with pytest.raises(InputError, match="neither a directory nor a hub name"):
        locate("no such name!")
