"""Temperature, thresholds, prediction sets and none of these, against references and on a small trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films, random_bert
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from bothways import InputError, TextClassifier
from bothways.batch import Predictions
from bothways.cli import main
from bothways.evaluation.calibration import calibrate, reliability
from bothways.evaluation.rejection import rows_of_each_class, threshold_of
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine, load_classifier
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.tasks.metrics import Metrics
from bothways.tasks.multi import MultiLabel, best_threshold
from bothways.tasks.single import SingleLabel
from bothways.tasks.temperature import sigmoid_temperature, softmax_temperature
from bothways.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def classifier(
    tmp_path_factory: pytest.TempPathFactory, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> TextClassifier:
    encoder = tmp_path_factory.mktemp("models") / "encoder"
    save_model(encoder, random_bert(encoder_config), tokenizer)
    texts, names = films(400)
    return TextClassifier(encoder, epochs=4, learning_rate=3e-3, coverage=0.9).fit(texts, names)


def drawn(temperature: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn as their softmax at a temperature says."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(rows, 4)).astype(np.float32) * 3
    probabilities = torch.softmax(torch.from_numpy(logits) / temperature, -1).numpy().astype(np.float64)
    classes = (random.random((rows, 1)) > probabilities.cumsum(-1)).sum(-1).clip(max=3)
    return logits, classes


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    assert softmax_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_of_sigmoids_is_found() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(5000, 3)).astype(np.float32) * 3
    present = (random.random((5000, 3)) < 1 / (1 + np.exp(-logits / 2))).astype(np.float32)
    assert sigmoid_temperature(logits, present) == pytest.approx(2.0, rel=0.1)


def test_few_rows_that_are_all_right_carry_no_temperature_to_its_end() -> None:
    logits = np.array([[4.0, 0.0]] * 10, np.float32)
    assert 0.2 < softmax_temperature(logits, np.zeros(10, np.int64)) < 1.0


def test_a_threshold_is_where_f1_is_best() -> None:
    found = np.array([0.9, 0.8, 0.7, 0.35, 0.33, 0.31, 0.2, 0.15])
    present = np.array([1, 1, 1, 1, 1, 0, 0, 0], bool)
    assert best_threshold(found, present) == pytest.approx((0.33 + 0.31) / 2)
    assert best_threshold(found[:5], np.array([1, 0, 0, 0, 0], bool)) == 0.5  # one row tells nothing
    task = MultiLabel(OutputConfig(name="x", kind="multi", labels=("a",)))
    logits = np.log(found / (1 - found)).astype(np.float32)[:, None]
    output = task.calibrated(Predictions([None] * 8, {"x": logits}, {}), list(present.astype(np.float32)[:, None]))  # type: ignore[list-item]
    decided = MultiLabel(output).decide(MultiLabel(output).probabilities(Predictions([], {"x": logits}, {})))
    assert decided[:, 0].tolist() == present.tolist()


def topics(rows: int, seed: int) -> tuple[Predictions, list[np.ndarray]]:
    """Logits of 20 labels that say little about which of them are present."""
    random = np.random.default_rng(seed)
    present = random.random((rows, 20)) < 0.15
    logits = (random.normal(size=present.shape) + present - 1).astype(np.float32)
    return Predictions([None] * rows, {"x": logits}, {}), list(present.astype(np.float32))  # type: ignore[list-item]


def test_thresholds_are_measured_on_rows_they_were_not_fitted_to() -> None:
    """Fitted to 200 rows they are a tenth better there than on others; what is told is not."""
    task = MultiLabel(OutputConfig(name="x", kind="multi", labels=tuple("abcdefghijklmnopqrst")))
    predictions, targets = topics(200, seed=0)
    fitted = MultiLabel(task.calibrated(predictions, targets))

    def f1(rows: tuple[Predictions, list[np.ndarray]]) -> float:
        metrics = Metrics(fitted)
        metrics.add(rows[1], fitted.probabilities(rows[0]))
        return metrics.result()["macro_f1"]

    told = reliability(task, predictions, targets)
    assert told is not None
    same, new = f1((predictions, targets)), f1(topics(5000, seed=1))
    assert same > new + 0.05
    assert told["measured"]["macro_f1"] == pytest.approx(new, abs=0.03)
    assert told["measured"]["examples"] == 200


def test_rows_that_say_something_are_halved_wherever_they_stand() -> None:
    """As in two tables of different outputs whose rows alternate."""
    task = MultiLabel(OutputConfig(name="x", kind="multi", labels=tuple("abcdefghijklmnopqrst")))
    predictions, targets = topics(200, seed=0)
    silent = [np.full(20, np.nan, np.float32) if row % 2 else target for row, target in enumerate(targets)]
    told = reliability(task, predictions, silent)
    assert told is not None
    assert told["measured"]["examples"] == 100
    assert told["after"] != told["before"]


def test_prediction_sets_are_those_of_mapie_and_cover_what_they_promise() -> None:
    classification = pytest.importorskip("mapie.classification")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """A classifier whose probabilities are what it is given."""

        classes_ = np.arange(4)
        fitted_ = True

        def fit(self, X: np.ndarray, y: np.ndarray) -> Given:
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return X

        def predict(self, X: np.ndarray) -> np.ndarray:
            return X.argmax(-1)

    logits, classes = drawn(2.0, 3000)
    found = torch.softmax(torch.from_numpy(logits), -1).numpy().astype(np.float64)
    output = SingleLabel(OutputConfig(name="x", kind="single", labels=("a", "b", "c", "d"))).with_sets(
        Predictions([], {"x": logits[:1000]}, {}), classes[:1000].tolist(), 0.9
    )
    ours = found[1000:] >= output.set_threshold
    theirs = classification.SplitConformalClassifier(Given(), confidence_level=0.9, conformity_score="lac", prefit=True)
    _, sets = theirs.conformalize(found[:1000], classes[:1000]).predict_set(found[1000:])
    assert (ours == sets[:, :, 0]).all()
    assert ours[np.arange(2000), classes[1000:]].mean() == pytest.approx(0.9, abs=0.025)


def test_distances_are_those_of_scipy(classifier: TextClassifier) -> None:
    """With the means and the covariance counted by hand."""
    texts, names = films(400)
    config = classifier.bert_.config.outputs[1]
    layer = classifier.bert_.output("label.known")
    vectors = classifier.engine_.represent(classifier.engine_.encode(texts), config.reads).astype(np.float64)
    classes = np.array([config.labels.index(name) for name in names])
    means = np.stack([vectors[classes == c].mean(0) for c in range(2)])
    covariance = LedoitWolf(assume_centered=True).fit(vectors - means[classes]).covariance_
    # All rows, where the layer saw those that were not held out: so near, not the same.
    expected = [min(mahalanobis(v, mean, np.linalg.inv(covariance)) for mean in means) for v in vectors[:50]]
    np.testing.assert_allclose(layer.distances(vectors[:50].astype(np.float32)), expected, rtol=0.25)


def test_texts_of_another_kind_are_none_of_these(classifier: TextClassifier, tmp_path: Path) -> None:
    """Known texts stay known, others are told apart; and so after saving, as an answer and as a label."""
    others = ["天气很好", "1234 5678"] * 10
    test_texts, _ = films(200, seed=1)
    assert classifier.known(test_texts).mean() >= 0.85
    assert classifier.known(others).mean() <= 0.1
    classifier.save(tmp_path / "saved")
    again = TextClassifier.load(tmp_path / "saved")
    assert (again.known(test_texts + others) == classifier.known(test_texts + others)).all()
    assert classifier.known([]).shape == (0,)


def test_answers_say_whether_a_text_is_known(
    classifier: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier.save(tmp_path / "saved")
    (tmp_path / "texts.csv").write_text(f"text\n{films(1, seed=1)[0][0]}\n天气很好\n", "utf-8")
    command = ["bothways", "classify", f"{tmp_path / 'saved'}", f"{tmp_path / 'texts.csv'}"]
    answers = {}
    for name, flags in {"plain": [], "reject": ["--reject", "neither"]}.items():
        monkeypatch.setattr("sys.argv", [*command, *flags, "--out", f"{tmp_path / name}"])
        main()
        answers[name] = [json.loads(line)["outputs"]["label"] for line in (tmp_path / name).read_text().splitlines()]
    assert [answer["known"] for answer in answers["plain"]] == [True, False]
    assert answers["plain"][1]["label"] in ("positive", "negative")
    assert [answer["label"] for answer in answers["reject"]] == [answers["plain"][0]["label"], "neither"]
    assert set(answers["plain"][0]["set"]) <= {"positive", "negative"}


def test_calibration_changes_no_decision_and_lowers_the_error(classifier: TextClassifier) -> None:
    texts, _ = films(300, seed=2)
    output = classifier.bert_.config.outputs[0]
    predictions = next(classifier.engine_.predict(texts))
    raw = SingleLabel(OutputConfig(name=output.name, kind="single", labels=output.labels)).probabilities(predictions)
    assert (raw.argmax(-1) == SingleLabel(output).probabilities(predictions).argmax(-1)).all()
    assert output.temperature != 1.0


def test_transformers_reads_a_calibrated_directory_to_the_same_logits(
    encoder_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModel, AutoModelForSequenceClassification

    texts, names = films(200)
    TextClassifier(encoder_directory, epochs=1, pooling="first").fit(texts, names).save(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").glob("*.safetensors")} == {
        "model.safetensors",
        "outputs.safetensors",
    }
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)[1]["missing_keys"]
    bert, tokenizer = load_classifier(tmp_path / "saved")
    encoding = tokenizer.encode_batch(texts[:1], max_length=64)[0]
    ours = Engine(bert, tokenizer, precision="fp32").run([encoding]).logits["label"]
    with torch.no_grad():
        logits = theirs(torch.from_numpy(np.array(encoding.token_ids, np.int64))[None]).logits.numpy()
    np.testing.assert_allclose(ours, logits, atol=1e-4)


def test_lost_distances_are_refused(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    (tmp_path / "saved" / "outputs.safetensors").unlink()
    with pytest.raises(InputError, match=r"the weights of output layer .* are missing"):
        load_classifier(tmp_path / "saved")


def test_few_rows_are_not_held_out(encoder_directory: Path) -> None:
    texts, names = films(40)
    few = TextClassifier(encoder_directory, epochs=1).fit(texts, names)
    assert [output.name for output in few.bert_.config.outputs] == ["label"]
    assert few.known(texts).all()


def test_dev_rows_take_the_place_of_held_out_ones(encoder_directory: Path) -> None:
    texts, names = films(60)
    dev = films(40, seed=3)
    fitted = TextClassifier(encoder_directory, epochs=1).fit(texts, names, dev=dev)
    assert fitted.bert_.config.outputs[0].temperature != 1.0


def test_a_sample_of_many_rows_has_all_classes() -> None:
    targets = np.array([0] * 1000 + [1] * 3 + [-100] * 5 + [2] * 10)
    chosen = rows_of_each_class(targets, 20, seed=0)
    assert len(chosen) == 20
    assert np.bincount(targets[chosen]).tolist() == [9, 3, 8] or np.bincount(targets[chosen]).tolist() == [8, 3, 9]


def test_an_encoder_in_bf16_still_knows_its_texts(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    loaded = TextClassifier.load(tmp_path / "saved", precision="bf16")
    assert loaded.known(films(100, seed=1)[0]).mean() >= 0.8


def test_a_model_is_saved_twice_to_the_same_bits(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "one")
    bert, tokenizer, report = load_model(tmp_path / "one")
    assert not report.untrained
    assert not report.unused
    save_model(tmp_path / "two", bert, tokenizer)
    for name in ("config.json", "model.safetensors", "outputs.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_rows_nothing_is_calibrated(classifier: TextClassifier) -> None:
    from bothways.tables.table import Columns, Table

    nothing = Table("nothing", Columns(), values={"label": []})
    assert calibrate(classifier.bert_, classifier.tokenizer_, nothing, nothing) == {}


@pytest.mark.parametrize("texts", [10, 20, 34, 56, 400])
def test_the_threshold_from_few_texts_keeps_as_many_new_ones_as_promised(texts: int) -> None:
    """Among numbers evenly between 0 and 1 the threshold is the share that it keeps."""
    chance = np.random.default_rng(0)
    kept = [threshold_of(chance.random(texts)) for _ in range(4000)]
    assert np.mean(kept) > (0.945 if texts >= 19 else 0.9)
