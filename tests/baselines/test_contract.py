"""One contract for everything that classifies, ours and the baselines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import films
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from bothways import InputError
from bothways.baselines.methods import METHODS, Options

CHECKS = [
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_mixin_order,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_set_params,
    estimator_checks.check_valid_tag_types,
]
"""Those of scikit-learn's own that give no numbers to fit."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, encoder_config: Any, tokenizer: Any) -> Options:
    from conftest import random_bert

    from bothways.formats.writing import save_model

    directory = tmp_path_factory.mktemp("encoder") / "encoder"
    save_model(directory, random_bert(encoder_config), tokenizer)
    return Options(encoder=str(directory), static_vectors=str(static_directory(directory.parent / "static")))


def static_directory(path: Path) -> Path:
    """A model2vec directory in which every word of the made-up reviews has a vector by chance."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = sorted({word for text in films(500)[0] for word in text.split()})
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(words) + 1, 16)).astype(np.float32)
    StaticModel(vectors, tokenizer).save_pretrained(path)
    return path


LEAST = {"majority": 0.4, "glove": 0.75, "frozen": 0.75}
"""Accuracy on two classes, 0.9 for others: the first does not learn, the second learns vectors from too few texts,
the third has an encoder of random weights."""


def made(name: str, options: Options) -> Any:
    """A method, so set that it learns a few hundred made-up reviews in a second or two."""
    estimator = METHODS[name].make(options)
    quick: dict[str, dict[str, Any]] = {
        "random_forest": {"classifier__n_estimators": 20},
        "bert": {"epochs": 8, "learning_rate": 3e-3},
        "rnn": {"width": 16, "hidden_size": 16, "learning_rate": 1e-2},
        "lstm": {"width": 16, "hidden_size": 16, "learning_rate": 1e-2},
        "frozen": {"classifier": make_pipeline(StandardScaler(), LogisticRegression(C=100.0, max_iter=1000))},
        "untrained": {"epochs": 8, "learning_rate": 3e-3},
    }
    return estimator.set_params(**quick.get(name, {}))


@pytest.mark.parametrize("name", METHODS)
def test_labels_come_back_as_they_were_given_and_probabilities_agree(name: str, options: Options) -> None:
    texts, names = films(300)
    test_texts, test_names = films(100, seed=1)
    estimator = made(name, options)
    for kind in (str, int, bool) if name != "untrained" else (str,):
        labels, truth = ([n if kind is str else kind(n == "positive") for n in given] for given in (names, test_names))
        fitted = clone(estimator).fit(texts, labels)
        predicted, probabilities = fitted.predict(test_texts), fitted.predict_proba(test_texts)
        assert predicted.shape == (100,)
        assert predicted.dtype == fitted.classes_.dtype == np.array(labels).dtype
        assert fitted.classes_.tolist() == sorted(set(labels))
        assert probabilities.shape == (100, 2)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
        assert (fitted.classes_[probabilities.argmax(-1)] == predicted).all()
        assert fitted.score(test_texts, truth) > LEAST.get(name, 0.9)
        assert fitted.predict_proba([]).shape == (0, 2)


@pytest.mark.parametrize("name", METHODS)
def test_what_was_saved_says_the_same_and_can_be_set_anew(name: str, options: Options, tmp_path: Path) -> None:
    texts, names = films(120)
    labels = [10 if n == "positive" else 9 for n in names]
    fitted = made(name, options).fit(texts, labels)
    fitted.save(tmp_path / "saved")
    again = type(fitted).load(tmp_path / "saved")
    assert again.classes_.tolist() == [9, 10]
    np.testing.assert_allclose(again.predict_proba(texts), fitted.predict_proba(texts), atol=1e-5)
    assert not [
        path for path in (tmp_path / "saved").rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib", ".npy")
    ]
    with pytest.raises(InputError, match="exists already"):
        fitted.save(tmp_path / "saved")
    fitted.save(tmp_path / "saved", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    if name not in ("bert", "untrained"):  # whose encoder is the directory that was loaded
        assert repr(again) == repr(fitted)


@pytest.mark.parametrize("name", METHODS)
def test_pairs_are_read_where_pairs_were_learned(name: str, options: Options, tmp_path: Path) -> None:
    pairs = [("good film", "scene"), ("worse film", "scene"), ("film", "good scene"), ("film", "worse scene")] * 50
    labels = ["good" in first + second for first, second in pairs]
    fitted = made(name, options).fit(pairs, labels)
    assert fitted.score(pairs, labels) > (0.4 if name == "majority" else 0.9)
    fitted.save(tmp_path / "saved")
    for estimator in (fitted, type(fitted).load(tmp_path / "saved")):
        with pytest.raises(InputError, match="reads pairs of texts, not single texts"):
            estimator.predict(["a film"])


@pytest.mark.parametrize("name", METHODS)
def test_one_seed_gives_one_result(name: str, options: Options) -> None:
    texts, labels = films(100)
    first, second = (made(name, options).fit(texts, labels).predict_proba(texts) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", METHODS)
def test_scikit_learn_finds_an_estimator(name: str, options: Options) -> None:
    estimator = METHODS[name].make(options)
    for check in CHECKS:
        check(name, clone(estimator))
    assert estimator.__sklearn_tags__().input_tags.string
    if name in ("majority", "svm"):  # all others would take long
        assert cross_val_score(estimator, *films(90), cv=3).shape == (3,)


@pytest.mark.parametrize("name", METHODS)
def test_mistakes_are_one_sentence(name: str, options: Options, tmp_path: Path) -> None:
    estimator = METHODS[name].make(options)
    for use in (lambda: estimator.predict(["a"]), lambda: estimator.save(tmp_path / "saved")):
        with pytest.raises(NotFittedError, match="has not learned anything yet"):
            use()
    for texts, labels, said in [
        (["a", "b"], ["x"], "2 texts but 1 labels"),
        (["a", "b"], ["x", "x"], "nothing to tell apart"),
        (["a", None], ["x", "y"], "Text 2 is None"),
        (["a", ("b", "c")], ["x", "y"], "Text 2 is a pair"),
        ("a text", ["x"], "Give a list of texts"),
    ]:
        with pytest.raises(InputError, match=said):
            estimator.fit(texts, labels)
    with pytest.raises(InputError, match=r"saved|directory"):
        type(estimator).load(tmp_path / "nowhere")


def test_names_of_methods_cost_nothing_to_read() -> None:
    script = (
        "import sys, bothways.baselines.methods; print([m for m in ('torch', 'sklearn', 'gensim') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
