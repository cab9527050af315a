"""The demo on few reviews: the whole road, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bothways import InputError, TextClassifier, demo


def test_the_whole_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("chinese", "english"):
        whole = getattr(demo, f"{language}_reviews")()
        assert len(whole) > 30_000
        assert {label for _, label in whole} == {"positive", "negative"}
        monkeypatch.setattr(demo, f"{language}_reviews", lambda reviews=whole[::80]: reviews)
    monkeypatch.setattr(demo, "TEST_ROWS", 50)
    monkeypatch.setattr(demo, "TRAIN_ROWS", 150)
    monkeypatch.setattr(demo, "PRETRAINING", replace(demo.PRETRAINING, steps=3))
    demo.run(tmp_path / "demo")
    printed = capsys.readouterr().out
    for method in (
        "majority class",
        "TF-IDF + linear SVM",
        "not pre-trained",
        "pre-trained here",
        "shipped: zh-mini, en-mini",
    ):
        assert method in printed
    assert f"bothways classify {tmp_path / 'demo' / 'english'}" in printed
    assert TextClassifier.load(tmp_path / "demo" / "chinese").predict(["很好"]).tolist()[0] in ("positive", "negative")
    with pytest.raises(InputError, match="exists already"):
        demo.run(tmp_path / "demo")


def test_no_review_is_in_two_parts() -> None:
    reviews = [(f"review {i % 12_000}", "positive") for i in range(24_000)]
    train, test, rest = demo.split(reviews)
    texts = [text for part in (train, test, rest) for text, _ in part]
    assert len(texts) == len(set(texts)) == 12_000
    assert demo.split(reviews)[1] == test
