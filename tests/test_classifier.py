"""What `TextClassifier` alone does; what all methods do is in baselines/test_contract.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import films
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from bothways import InputError, TextClassifier
from bothways.finetuning.config import FinetuningConfig

Maker = Callable[[Path], Any]
METHODS: dict[str, Maker] = {
    "TextClassifier": lambda encoder: TextClassifier(encoder, epochs=8, learning_rate=3e-3),
    "TextClassifier, first": lambda encoder: TextClassifier(encoder, epochs=8, learning_rate=3e-3, pooling="first"),
}


@pytest.mark.parametrize("method", METHODS)
def test_contract(method: str, encoder_directory: Path) -> None:
    """fit, predict, clone; labels come back as they were given, whatever their type."""
    texts, names = films(300)
    test_texts, test_names = films(100, seed=1)
    estimator = METHODS[method](encoder_directory)
    assert clone(estimator).get_params() == estimator.get_params()
    for kind in (str, int, bool):
        labels = [kind(name == "positive") if kind is not str else name for name in names]
        truth = [kind(name == "positive") if kind is not str else name for name in test_names]
        fitted = clone(estimator).fit(texts, labels)
        said = fitted.predict(test_texts)
        assert said.shape == (100,)
        assert np.mean(said == np.array(truth)) > 0.9
        assert fitted.classes_.tolist() == sorted(set(labels))
        assert fitted.score(test_texts, truth) > 0.9


def test_defaults_are_those_of_the_command_line() -> None:
    """What `bothways finetune` does unless told otherwise, Python does, too."""
    recipe = vars(FinetuningConfig())
    ours = TextClassifier().get_params()
    shared = set(ours) & set(recipe)
    assert shared == set(ours) - {"encoder", "verbose"}
    assert {name: ours[name] for name in shared} == {name: recipe[name] for name in shared}


def test_probabilities_save_and_load(encoder_directory: Path, tmp_path: Path) -> None:
    texts, names = films(200)
    labels = [10 if name == "positive" else 9 for name in names]
    classifier = TextClassifier(encoder_directory, epochs=2, learning_rate=3e-3).fit(texts, labels)
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == (200, 2)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert (classifier.classes_[probabilities.argmax(-1)] == classifier.predict(texts)).all()
    classifier.save(tmp_path / "saved")
    again = TextClassifier.load(tmp_path / "saved")
    assert again.classes_.tolist() == [9, 10]
    np.testing.assert_allclose(again.predict_proba(texts), probabilities, atol=1e-5)
    with pytest.raises(InputError, match="exists already"):
        classifier.save(tmp_path / "saved")
    assert classifier.predict_proba([]).shape == (0, 2)


def test_pairs(encoder_directory: Path) -> None:
    pairs = [("good", "good"), ("good", "worse"), ("worse", "worse"), ("worse", "good")] * 100
    labels = [a == b for a, b in pairs]
    classifier = TextClassifier(encoder_directory, epochs=20, learning_rate=3e-3).fit(pairs, labels)
    assert classifier.score(pairs, labels) == 1.0
    assert classifier.predict(pairs).dtype == bool


def test_mistakes(encoder_directory: Path) -> None:
    classifier = TextClassifier(encoder_directory)
    with pytest.raises(NotFittedError):
        classifier.predict(["a"])
    for texts, labels, said in [
        (["a", "b"], ["x"], "2 texts but 1 labels"),
        (["a", "b"], ["x", "x"], "nothing to tell apart"),
        (["a", None], ["x", "y"], "Text 2 is None"),
        (["a", ("b", "c")], ["x", "y"], "Text 2 is a pair"),
        ("a text", ["x"], "Give a list of texts"),
    ]:
        with pytest.raises(InputError, match=said):
            classifier.fit(texts, labels)  # type: ignore[arg-type]


def test_what_is_truncated_is_said(encoder_directory: Path) -> None:
    texts, labels = films(40)
    texts[3] = "film " * 100
    classifier = TextClassifier(encoder_directory, epochs=1, max_length=40)
    with pytest.warns(UserWarning, match="1 of 40 texts are longer than 40 tokens and are truncated"):
        classifier.fit(texts, labels)
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 40 tokens and are truncated"):
        classifier.predict(texts[3:5])
    assert classifier.predict(["half an emoji \ud83d"]).shape == (1,)
