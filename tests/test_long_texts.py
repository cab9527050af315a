"""Long texts: which tokens are read, and that all ways of using a model read the same."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import transformers
from conftest import films, random_bert
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways import TextClassifier
from bothways.batch import PackedBatch
from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig, within
from bothways.finetuning.fit import fit, resolved_for
from bothways.finetuning.run import finetune
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model, to_published_config
from bothways.inference.engine import Engine, load_classifier
from bothways.inference.prepared import prepared
from bothways.long_texts import Both, Head, LongTexts, Tail, Windows, covered, read_once, selection_of, windows_of
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.tables.table import Columns, LabelColumn, Table
from bothways.tokenizer import Tokenizer

FIRST = OutputConfig(name="first", kind="single", labels=("a", "b", "c"))
MEAN = OutputConfig(name="mean", kind="multi", labels=("x", "y"), reads="mean")
TEXTS = ["good " * 70, "film", "the film " * 60, "很好" * 12, "", "plot is thin " * 9, "书 " * 400]


# ── Which tokens are read ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_parts_of_a_text_that_is_too_long() -> None:
    assert Head().select(1000, 510) == [[(0, 510)]]
    assert Tail().select(1000, 510) == [[(490, 1000)]]
    assert Both().select(1000, 510) == [[(0, 127), (617, 1000)]]  # the paper, section 5.3: 128 and 382
    assert Windows(overlap=2, most=9).select(20, 8) == [[(0, 8)], [(6, 14)], [(12, 20)]]
    assert Windows(overlap=2, most=9).select(17, 8) == [[(0, 7)], [(5, 12)], [(10, 17)]]
    assert Windows(overlap=2, most=2).select(20, 8) == [[(0, 8)], [(6, 14)]]
    assert Windows(overlap=2, most=1).select(20, 8) == Head().select(20, 8)


@settings(deadline=None)
@given(length=st.integers(0, 3000), room=st.integers(1, 200), overlap=st.integers(0, 300), most=st.integers(1, 12))
def test_windows_cover_every_token_and_overlap(length: int, room: int, overlap: int, most: int) -> None:
    windows = [spans[0] for spans in Windows(overlap, most).select(length, room)]
    shared = min(overlap, room // 2)
    assert 1 <= len(windows) <= most
    assert len({stop - start for start, stop in windows}) == 1
    assert all(stop - start <= room for start, stop in windows)
    assert windows[0][0] == 0
    assert windows[-1][1] == min(length, covered(most, room, shared))
    for (start, stop), (following, _) in pairwise(windows):
        assert start < following <= stop - shared
    if len(windows) > 1:  # one fewer would not do
        assert covered(len(windows) - 1, room, shared) < windows[-1][1]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 400), min_size=1, max_size=2), room=st.integers(2, 90), way=st.data())
def test_nothing_is_read_that_does_not_fit(lengths: list[int], room: int, way: st.DataObject) -> None:
    selection = selection_of(way.draw(st.sampled_from(get_args(LongTexts))), overlap=5, most_windows=3)
    windows = windows_of(lengths, room, selection)
    for window in windows:
        assert sum(stop - start for spans in window for start, stop in spans) <= room
    for length, of_text in zip(lengths, zip(*windows, strict=True), strict=True):
        assert all(0 <= start <= stop <= length for spans in of_text for start, stop in spans)
        assert read_once(of_text) == len({i for spans in of_text for span in spans for i in range(*span)})
    if sum(lengths) <= room:
        assert windows == [[[(0, length)] for length in lengths]]


def test_tokens_are_those_of_the_whole_text(tokenizer: Tokenizer) -> None:
    text = "the plot is thin and the jokes are worse, 书的内容太空洞"
    whole = tokenizer.encode(text, with_offsets=True)
    cut = tokenizer.encode(text, max_length=12, selection=Windows(overlap=3, most=99), with_offsets=True)
    assert (cut.dropped, cut.read) == (0, len(whole))
    assert cut.windows is not None
    assert cut.offsets is not None
    assert whole.offsets is not None
    assert cut.words is not None
    start, found = 0, set()
    for length in cut.windows:
        assert length <= 12
        ids = cut.token_ids[start : start + length]
        assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        places = [tuple(place) for place in cut.offsets[start + 1 : start + length - 1].tolist()]
        found.update(zip(places, ids[1:-1].tolist(), strict=True))
        start += length
    assert start == len(cut)
    expected = zip(map(tuple, whole.offsets[1:-1].tolist()), whole.token_ids[1:-1].tolist(), strict=True)
    assert found == set(expected)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_shorter_of_a_pair_is_in_every_window(tokenizer: Tokenizer, swapped: bool) -> None:
    long, short = "plot " * 50, "good film"
    given = (short, long) if swapped else (long, short)
    whole, cut = (
        tokenizer.encode(*given),
        tokenizer.encode(*given, max_length=20, selection=Windows(overlap=4, most=99)),
    )
    assert (cut.dropped, cut.read) == (0, len(whole))
    assert cut.windows is not None
    expected = tokenizer.encode(short).token_ids[1:-1].tolist()
    for ids, segments in zip(
        np.split(cut.token_ids, np.cumsum(cut.windows)[:-1]),
        np.split(cut.segment_ids, np.cumsum(cut.windows)[:-1]),
        strict=True,
    ):
        side = ids[segments == (0 if swapped else 1)].tolist()
        assert [token for token in side if token not in (tokenizer.cls_id, tokenizer.sep_id)] == expected


def test_a_million_characters_take_seconds(tokenizer: Tokenizer, encoder_config: EncoderConfig) -> None:
    started = time.perf_counter()
    bert = random_bert(encoder_config, FIRST)
    bert.config = replace(bert.config, long_texts="windows", overlap=16, most_windows=8)
    engine = Engine(bert, tokenizer, precision="fp32")
    (encoding,) = encodings = engine.encode(["the film " * 111_111])
    assert len(encoding) == 8 * 64
    assert encoding.read + encoding.dropped == 222_222 + 2
    assert encoding.read == bert.config.longest_text == 2 + 8 * 62 - 7 * 16
    assert engine.run(encodings).truncated == 1
    assert time.perf_counter() - started < 30


# ── What is said of them ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_is_the_mean_of_its_windows_as_transformers_reads_each(
    tmp_path: Path, tokenizer: Tokenizer, encoder_config: EncoderConfig
) -> None:
    """A linear layer on a mean is the mean of the layer on each."""
    bert = random_bert(encoder_config, FIRST)
    bert.config = replace(bert.config, long_texts="windows", overlap=16, most_windows=5)
    save_model(tmp_path / "model", bert, tokenizer)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    engine = Engine(*load_classifier(tmp_path / "model"), precision="fp32")
    assert engine.config == replace(bert.config, max_length=64)
    encodings = engine.encode(TEXTS)
    found = engine.run(encodings).logits["first"]
    assert [len(encoding.windows or (1,)) for encoding in encodings] == [2, 1, 3, 1, 1, 1, 5]
    for logits, encoding in zip(found, encodings, strict=True):
        windows = encoding.windows or (len(encoding),)
        with torch.no_grad():
            each = [
                theirs(input_ids=torch.from_numpy(ids).long().unsqueeze(0)).logits[0]
                for ids in np.split(encoding.token_ids, np.cumsum(windows)[:-1])
            ]
        np.testing.assert_allclose(logits, torch.stack(each).mean(0).numpy(), atol=1e-5)


def test_a_text_in_windows_alone_as_in_a_batch(tokenizer: Tokenizer, encoder_config: EncoderConfig) -> None:
    bert = random_bert(encoder_config, FIRST, MEAN)
    bert.config = replace(bert.config, long_texts="windows", overlap=16, most_windows=8)
    engine = Engine(bert, tokenizer, precision="fp32")
    encodings = engine.encode(TEXTS)
    together = engine.run(encodings).logits
    for i, encoding in enumerate(encodings):
        for name, logits in engine.run([encoding]).logits.items():
            np.testing.assert_allclose(together[name][i], logits[0], atol=1e-5)
    batch = PackedBatch.pack(encodings)
    with torch.inference_mode():
        plain, rounded, ready = (
            bert(batch),
            bert(replace(filled := batch.rounded_up(), lengths=tuple(filled.sequence_starts.diff().tolist()))),
            prepared(bert)(batch),
        )
    for name in ("first", "mean"):
        assert batch.size(bert.output(name).config.reads) == len(TEXTS)
        assert len(rounded[name]) == filled.size("first")
        torch.testing.assert_close(plain[name], torch.from_numpy(together[name]), atol=1e-5, rtol=0)
        torch.testing.assert_close(ready[name], plain[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rounded[name][: len(TEXTS)], plain[name], atol=1e-5, rtol=0)


def long_films(rows: int) -> tuple[list[str], list[str]]:
    """Films whose label hangs on a word in the middle, where neither end is."""
    texts, labels = films(rows)
    return [f"{'the ' * 12} {text} {'film ' * 18}" for text in texts], labels


def test_windows_find_what_neither_end_has(tmp_path: Path, encoder_directory: Path) -> None:
    texts, labels = long_films(300)
    chosen = {
        "epochs": 12,
        "learning_rate": 3e-3,
        "batch_size": 16,
        "precision": "fp32",
        "max_length": 20,
        "held_out": 0.0,
    }
    ends = TextClassifier(encoder_directory, long_texts="both", **{**chosen, "epochs": 3})
    with pytest.warns(UserWarning, match="300 of 300 texts are longer than 20 tokens"):
        ends.fit(texts, labels)
    with pytest.warns(UserWarning, match="are truncated"):
        assert ends.score(texts, labels) < 0.75
    classifier = TextClassifier(encoder_directory, **chosen).fit(texts, labels)  # all long, so windows
    assert classifier.engine_.config.long_texts == "windows"
    assert classifier.score(texts, labels) > 0.9
    classifier.save(tmp_path / "saved")
    loaded = TextClassifier.load(tmp_path / "saved", precision="fp32")
    np.testing.assert_allclose(loaded.predict_proba(texts), classifier.predict_proba(texts), atol=1e-5)


def test_what_is_not_read_is_reported(
    tmp_path: Path, encoder_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = films(60)
    rows = [f"{text} {'film ' * (300 if i % 10 == 0 else 0)},{y}" for i, (text, y) in enumerate(zip(texts, labels))]  # noqa: B905
    (tmp_path / "long.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    config = FinetuningConfig(
        epochs=1, max_length=40, long_texts="windows", overlap=8, most_windows=3, precision="fp32", held_out=0.0
    )
    done = finetune(tmp_path / "long.csv", tmp_path / "out", encoder=encoder_directory, config=config)
    assert "6 of 60 training texts are longer than 100 tokens and are truncated." in capsys.readouterr().err
    share = done.metrics["training"]["share_of_tokens_dropped"]
    whole = Tokenizer.load(tmp_path / "out").encode_batch([row.rsplit(",", 1)[0] for row in rows])
    assert share == pytest.approx(sum(max(0, len(e) - 100) for e in whole) / sum(map(len, whole)), abs=1e-4)
    ours = json.loads((tmp_path / "out" / "config.json").read_text())["bothways"]
    assert (ours["long_texts"], ours["max_length"], ours["overlap"], ours["most_windows"]) == ("windows", 40, 8, 3)


@pytest.mark.parametrize(("long", "chosen"), [(2, "head"), (40, "windows")])
def test_the_recipe_takes_windows_where_many_texts_are_long(encoder_directory: Path, long: int, chosen: str) -> None:
    texts, labels = films(40)
    texts = [text + " film" * (100 if i < long else 0) for i, text in enumerate(texts)]
    table = Table("texts", Columns(), list(map(str, range(40))), texts, None, {"label": labels})
    bert, tokenizer, _ = load_model(encoder_directory)
    output = OutputConfig(name="label", kind="single", labels=("negative", "positive"), column="label")
    fit(bert, tokenizer, table, FinetuningConfig(epochs=1), outputs=[output], quiet=True)
    assert bert.config.long_texts == chosen


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_directory_that_says_nothing_of_long_texts_reads_the_head(encoder_directory: Path) -> None:
    assert "long_texts" not in (encoder_directory / "config.json").read_text()
    assert load_model(encoder_directory)[0].config.long_texts == "head"


@pytest.mark.parametrize(
    ("key", "value"), [("long_texts", "middle"), ("overlap", -1), ("most_windows", 0), ("overlap", "4")]
)
def test_a_directory_with_wrong_settings_is_refused(encoder_directory: Path, key: str, value: object) -> None:
    path = encoder_directory / "config.json"
    content = json.loads(path.read_text())
    content["bothways"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"config\.json.*{key}"):
        load_model(encoder_directory)


@pytest.mark.parametrize(
    ("long_texts", "written"),
    [("head", set()), ("tail", {"long_texts"}), ("windows", {"long_texts", "overlap", "most_windows"})],
)
def test_what_was_not_chosen_is_not_written(
    encoder_config: EncoderConfig, long_texts: LongTexts, written: set[str]
) -> None:
    config = BertConfig(encoder=encoder_config, long_texts=long_texts, overlap=9, most_windows=8)
    assert set(to_published_config(config)["bothways"]) == {"format", "max_length", "text_columns", "outputs"} | written


def test_labels_of_words_need_the_head(tmp_path: Path, encoder_directory: Path) -> None:
    (tmp_path / "tags.csv").write_text("tokens,tags\na good film,O B O\nthe plot,O O\nthin plot,B O\n")
    columns = Columns(text="tokens", labels=(LabelColumn.parse("slots=tags:tags"),))
    config = FinetuningConfig(epochs=1, long_texts="windows", held_out=0.0)
    with pytest.raises(InputError, match="output 'slots' has a label for each word"):
        finetune(tmp_path / "tags.csv", tmp_path / "out", encoder=encoder_directory, columns=columns, config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("setting", "value"), [("overlap", -1), ("overlap", 33), ("most_windows", 0)])
def test_settings_of_windows_that_make_no_sense(setting: str, value: int) -> None:
    with pytest.raises(InputError, match="--" + setting.replace("_", "-") + " is "):
        FinetuningConfig(max_length=64, **{setting: value})


@pytest.mark.parametrize(
    ("chosen", "held", "told"),
    [
        ({"max_length": 64, "overlap": 32}, (64, 32), ""),
        ({"overlap": None}, (64, 16), ""),
        ({"max_length": 2048}, (64, 16), "The encoder has 64 positions, so 64 tokens are read at once."),
        ({"overlap": 40}, (64, 32), "Of 64 tokens that are read at once, windows share 32, not 40."),
        (
            {"max_length": 2048, "overlap": 600},
            (64, 32),
            "The encoder has 64 positions, so 64 tokens are read at once. Of 64 tokens that are read at once, windows "
            "share 32, not 600.",
        ),
    ],
)
def test_no_more_is_asked_of_an_encoder_than_it_has_positions(
    chosen: dict, held: tuple[int, int], told: str, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    bert = random_bert(encoder_config)
    assert bert.config.longest == 64
    config = FinetuningConfig(long_texts="windows", **chosen)
    assert within(config, bert.config)[1] == told
    found = resolved_for(config, bert, 100)
    assert (found.max_length, found.overlap) == held
    assert within(found, bert.config) == (found, "")


def test_what_is_reduced_is_said(tmp_path: Path, encoder_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = long_films(40)
    chosen = {"epochs": 1, "max_length": 2048, "overlap": 600, "long_texts": "windows"}
    with pytest.warns(UserWarning, match="windows share 32, not 600"):
        classifier = TextClassifier(encoder_directory, **chosen).fit(texts, labels)
    assert (classifier.engine_.config.longest, classifier.engine_.config.overlap) == (64, 32)
    table = tmp_path / "t.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True)))
    finetune(table, tmp_path / "out", encoder=encoder_directory, config=FinetuningConfig(**chosen))
    assert "windows share 32, not 600" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["training"]["settings"]["overlap"] == 32
