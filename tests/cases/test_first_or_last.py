"""Where there are two of something, neither wins in silence."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from bothways import TextClassifier, Tokenizer
from cases.helpers import (
    VOCABULARY,
    check_refusal,
    csv_of,
    edit_weights,
    labels_of,
    metrics_of,
    reference,
    refuses,
    review_rows,
    run,
    succeeds,
    write_csv,
    write_json,
    write_rows,
)

Published = Callable[..., Path]
TEXTS = ["the good film", "worse", "酒店 书", "thin plot with the scene"]

# ── Files of weights ─────────────────────────────────────────────────────────────────────────────────────────────────


def stray(directory: Path, name: str) -> None:
    """Another file of weights, with other numbers."""
    tensors = load_file(directory / "model.safetensors")
    save_file({key: tensor + 1 for key, tensor in tensors.items()}, directory / name, metadata={"format": "pt"})


def same_answers(directory: Path) -> None:
    """Our probabilities are those of `transformers`."""
    answers = TextClassifier.load(directory, precision="fp32").predict_proba(TEXTS)
    np.testing.assert_allclose(answers, reference(directory, TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "model_old.safetensors",
        "model-old.safetensors",
        "model (1).safetensors",
        "model.fp16.safetensors",
        "outputs.safetensors",
        "model-00001-of-00002.safetensors",
    ],
)
def test_a_stray_file_of_weights_is_left_alone(name: str, published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=3)
    stray(directory, name)
    same_answers(directory)


def sharded(directory: Path, shards: int = 2) -> dict[str, str]:
    """The weights in several files with an index, as large models have them."""
    tensors = load_file(directory / "model.safetensors")
    names = sorted(tensors)
    index: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        save_file({name: tensors[name] for name in part}, directory / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    return index


def test_the_index_of_several_files_is_followed(published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=3)
    stray(directory, "model-00003-of-00003.safetensors")
    sharded(directory)
    (directory / "model.safetensors").unlink()
    same_answers(directory)


def test_one_file_comes_before_an_index(published: Published, place: Path) -> None:
    """As in `transformers`."""
    directory = published(place / "p", num_labels=3)
    sharded(directory)
    edit_weights(directory / "model.safetensors", lambda w: {name: tensor * 0.5 for name, tensor in w.items()})
    same_answers(directory)


def test_a_file_that_the_index_names_and_that_is_missing_is_named(published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=3)
    sharded(directory)
    (directory / "model.safetensors").unlink()
    (directory / "model-00002-of-00002.safetensors").unlink()
    refuses("classify", "p", says=[r"model-00002-of-00002\.safetensors", "missing|no such|lack"], stdin=b"good\n")


def test_two_spellings_of_one_weight_are_refused_or_read_as_transformers_does(
    published: Published, place: Path
) -> None:
    directory = published(place / "p", num_labels=3)

    def double(weights: dict[str, torch.Tensor]) -> None:
        weights["bert.embeddings.LayerNorm.gamma"] = weights["bert.embeddings.LayerNorm.weight"] * 3

    edit_weights(directory / "model.safetensors", double)
    ended = run("classify", "p", stdin=b"good\n")
    if ended.status:
        check_refusal(ended, [r"model\.safetensors", "LayerNorm"])
    else:
        same_answers(directory)


def test_a_tokenizer_json_comes_before_a_vocabulary(published: Published, place: Path) -> None:
    directory = published(place / "p")
    (directory / "vocab.txt").write_text("\n".join(reversed(VOCABULARY)) + "\n", "utf-8")
    theirs, ours = AutoTokenizer.from_pretrained(directory), Tokenizer.load(directory)
    for text in TEXTS:
        assert ours.encode(text).token_ids.tolist() == theirs(text)["input_ids"]


# ── Archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TABLE = csv_of(review_rows())
OTHER = csv_of(review_rows(10, seed=5))


def zipped(name: str, *entries: tuple[str, bytes | str]) -> str:
    """A zip file of these entries in this order; those that end with a slash are folders."""
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return name


ONE_TABLE: dict[str, list[tuple[str, bytes | str]]] = {
    "alone": [("t.csv", TABLE)],
    "a folder first": [("data/", ""), ("data/t.csv", TABLE)],
    "what macOS adds first": [("__MACOSX/", ""), ("__MACOSX/._t.csv", b"\0\5\x16\7 Mac OS X"), ("t.csv", TABLE)],
    "what macOS adds last": [("t.csv", TABLE), ("__MACOSX/._t.csv", b"\0\5\x16\7 Mac OS X")],
    "folder and macOS": [
        ("d/", ""),
        ("__MACOSX/d/._t.csv", b"\0\5\x16\7"),
        ("d/.DS_Store", b"\0\0"),
        ("d/t.csv", TABLE),
    ],
    "a page to read first": [("README.txt", "What this is."), ("t.csv", TABLE)],
}


@pytest.mark.parametrize("case", ONE_TABLE)
def test_the_one_table_of_a_zip_is_read(case: str, encoder: Path) -> None:
    zipped("t.csv.zip", *ONE_TABLE[case])
    succeeds("finetune", "--train", "t.csv.zip", "--encoder", encoder, "--epochs", 1, "--out", "out")
    metrics = metrics_of("out")
    assert metrics["examples"] + metrics["training"]["examples"] == 40
    assert labels_of("out") == ["negative", "positive"]


@pytest.mark.parametrize("verb", ["finetune", "dev", "evaluate", "classify", "tokenizer", "corpus"])
def test_two_tables_in_a_zip_are_refused_by_every_verb(verb: str, encoder: Path, classifier: Path) -> None:
    zipped("t.csv.zip", ("train.csv", TABLE), ("test.csv", OTHER))
    Path("t.csv").write_text(TABLE, "utf-8")
    words: dict[str, tuple[object, ...]] = {
        "finetune": ("finetune", "--train", "t.csv.zip", "--encoder", encoder, "--out", "out"),
        "dev": ("finetune", "--train", "t.csv", "--dev", "t.csv.zip", "--encoder", encoder, "--out", "out"),
        "evaluate": ("evaluate", classifier, "t.csv.zip"),
        "classify": ("classify", classifier, "t.csv.zip", "--out", "answers.jsonl"),
        "tokenizer": ("tokenizer", "train", "t.csv.zip", "--vocab-size", 100, "--out", "tok"),
        "corpus": ("corpus", "build", "t.csv.zip", "--tokenizer", encoder, "--out", "corpus"),
    }
    refuses(*words[verb], says=[r"t\.csv\.zip", r"train\.csv", r"test\.csv"])


@pytest.mark.parametrize("first", ["__MACOSX/._docs.txt", "docs/"])
def test_the_one_text_of_a_zip_is_read(first: str, place: Path) -> None:
    zipped("docs.txt.zip", (first, ""), ("docs.txt", "zwei gute Filme\n" * 20))
    succeeds("tokenizer", "train", "docs.txt.zip", "--vocab-size", 100, "--out", "tok")
    assert '"filme"' in (place / "tok" / "tokenizer.json").read_text("utf-8")


def test_two_texts_in_a_zip_are_refused() -> None:
    zipped("docs.txt.zip", ("a.txt", "a film\n" * 20), ("b.txt", "a book\n" * 20))
    use = ("tokenizer", "train", "docs.txt.zip", "--vocab-size", 100, "--out", "tok")
    refuses(*use, says=[r"docs\.txt\.zip", r"a\.txt", r"b\.txt"])


def test_a_zip_of_nothing_is_refused(classifier: Path) -> None:
    zipped("t.csv.zip", ("data/", ""))
    refuses("evaluate", classifier, "t.csv.zip", says=[r"t\.csv\.zip", "no table|no file|empty|nothing|holds no"])


def test_a_zip_with_a_password_is_refused(classifier: Path) -> None:
    zipped("t.csv.zip", ("t.csv", TABLE))
    content = bytearray(Path("t.csv.zip").read_bytes())
    content[6] |= 1  # the flag before the entry and the one in the directory at the end
    content[content.index(b"PK\1\2") + 8] |= 1
    Path("t.csv.zip").write_bytes(content)
    refuses("evaluate", classifier, "t.csv.zip", says=[r"t\.csv\.zip", "password|encrypted"])


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_streams_one_after_the_other_are_read_to_the_end(ending: str, classifier: Path) -> None:
    """What `cat a.gz b.gz` makes, and compressors that work in parallel."""
    compress: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": lambda part: pyarrow.Codec("zstd").compress(part, asbytes=True),
    }
    content = TABLE.encode()
    parts = [compress[ending](content[start : start + 400]) for start in range(0, len(content), 400)]
    Path(f"t.csv.{ending}").write_bytes(b"".join(parts))
    assert len(succeeds("classify", classifier, f"t.csv.{ending}").answers) == 40


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lacking", [0, 1, 20, 39])
def test_a_row_without_its_second_text_is_named_wherever_it_stands(lacking: int, encoder: Path) -> None:
    rows: list[dict[str, str]] = [{**row, "text_pair": "the film"} for row in review_rows()]
    del rows[lacking]["text_pair"]
    write_rows("t.jsonl", rows)
    use = ("finetune", "--train", "t.jsonl", "--encoder", encoder, "--out", "out")
    refuses(*use, says=[r"t\.jsonl", rf"line {lacking + 1}\b", "'text_pair'"])


def test_many_rows_without_their_second_text_are_no_table_of_single_texts(encoder: Path) -> None:
    rows: list[dict[str, str]] = [{**row, "text_pair": "the film"} for row in review_rows()]
    for row in rows[:30]:
        del row["text_pair"]
    write_rows("t.jsonl", rows)
    use = ("finetune", "--train", "t.jsonl", "--encoder", encoder, "--out", "out")
    refuses(*use, says=[r"t\.jsonl", r"line (1|31)\b", "'text_pair'"])


@pytest.mark.parametrize("missing", ["label", "text"])
def test_any_other_cell_that_is_missing_is_named(missing: str, encoder: Path) -> None:
    rows = review_rows()
    del rows[0][missing]
    write_rows("t.jsonl", rows)
    use = ("finetune", "--train", "t.jsonl", "--encoder", encoder, "--out", "out")
    refuses(*use, says=[r"t\.jsonl", r"line 1\b", f"'{missing}'"])


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
@pytest.mark.parametrize("verb", ["finetune", "dev", "evaluate"])
def test_a_header_that_comes_again_is_named_with_its_line(
    name: str, verb: str, encoder: Path, classifier: Path
) -> None:
    """What `cat a.csv b.csv` makes. It is no row whose text is `text` and whose label is `label`."""
    rows = [list(row.values()) for row in review_rows()]
    cells = [["text", "label"], *rows[:20], ["text", "label"], *rows[20:]]
    write_csv(name.removesuffix(".gz"), cells, "\t" if name == "t.tsv" else ",")
    if name.endswith(".gz"):
        Path(name).write_bytes(gzip.compress(Path("t.csv").read_bytes()))
    write_rows("good.csv", review_rows())
    words: dict[str, tuple[object, ...]] = {
        "finetune": ("finetune", "--train", name, "--encoder", encoder, "--out", "out"),
        "dev": ("finetune", "--train", "good.csv", "--dev", name, "--encoder", encoder, "--out", "out"),
        "evaluate": ("evaluate", classifier, name),
    }
    refuses(*words[verb], says=[name.replace(".", r"\."), r"line 22\b", "header|names of the columns|column names"])


def test_a_header_that_comes_again_is_seen_where_documents_are_read() -> None:
    write_csv("t.csv", [["text", "n"], *[["a good film", 1]] * 10, ["text", "n"], *[["a book", 2]] * 10])
    use = ("tokenizer", "train", "t.csv", "--vocab-size", 100, "--out", "tok")
    refuses(*use, says=[r"t\.csv", r"line 12\b", "header|names of the columns|column names"])


def test_a_text_that_is_called_like_its_column_is_a_text(classifier: Path) -> None:
    """With another cell that is not."""
    write_csv("t.csv", [["text", "label"], ["text", "positive"], ["label", "negative"]])
    assert succeeds("evaluate", classifier, "t.csv").status == 0


# ── Lists in a cell ──────────────────────────────────────────────────────────────────────────────────────────────────

LISTS = ["['neg', 'x0']", '["neg", "x0"]', "['neg' 'x0']", "('neg', 'x0')", "{'neg', 'x0'}", "['neg']", "[]"]


@pytest.mark.parametrize(
    ("name", "cell"), [*(("t.csv", cell) for cell in LISTS), ("t.jsonl", LISTS[0]), ("t.parquet", LISTS[1])]
)
def test_a_list_that_was_written_as_text_is_no_label(name: str, cell: str, encoder: Path) -> None:
    """As pandas writes a column of lists; the sentence says how to write them."""
    cells = ["neg", "x0", "neg|x0", *[cell] * 9]
    write_rows(name, [{"text": f"film {i}", "label": label} for i, label in enumerate(cells)])
    use = ("finetune", "--train", name, "--encoder", encoder, "--out", "out", "--output", "label:multi")
    line = 5 if name == "t.csv" else 4
    refuses(*use, says=[name.replace(".", r"\."), rf"(line|row) {line}\b", "'label'", r"\||list"])


def test_pandas_writes_such_lists(encoder: Path) -> None:
    import pandas

    frame = pandas.DataFrame({"text": ["a", "b", "c"] * 4, "label": [["neg", "x0"], ["neg"], []] * 4})
    frame.to_csv("t.csv", index=False)
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--output", "label:multi")
    refuses(*use, says=[r"t\.csv", r"line 2\b", "'label'", r"a\|b|\|"])
    frame.to_parquet("t.parquet")
    use = ("finetune", "--train", "t.parquet", "--encoder", encoder, "--epochs", 1, "--out", "out")
    succeeds(*use, "--output", "label:multi")
    assert labels_of("out") == ["neg", "x0"]


@pytest.mark.parametrize("column", ["both", "tags"])
def test_lists_of_tags_written_as_text_are_no_tags(column: str, encoder: Path) -> None:
    """`['O', 'B-X']` has as many spaces as its tokens, so the numbers agree."""
    tokens = "['good', 'film']" if column == "both" else "good film"
    write_rows("t.csv", [{"text": tokens, "label": "['O', 'B-X']"}] * 10)
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out", "--output", "label:tags")
    refuses(*use, says=[r"t\.csv", r"line 2\b", "'label'|'text'", "space|list"])


def test_a_list_written_as_text_is_no_single_label_either(encoder: Path) -> None:
    write_rows("t.csv", [{"text": f"film {i}", "label": f"['{'ab'[i % 2]}']"} for i in range(10)])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--out", "out")
    refuses(*use, says=[r"t\.csv", r"line 2\b", "'label'", "list"])


@pytest.mark.parametrize("label", ["[neg]", "(neg)", "neg, or so", "{", "[", "don't", "a [b]"])
def test_brackets_in_a_label_are_no_list(label: str, encoder: Path) -> None:
    write_rows("t.csv", [{"text": f"film {i}", "label": label if i % 2 else "other"} for i in range(20)])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    succeeds(*use, "--output", "label:multi")
    assert set(labels_of("out")) == {label, "other"}


# ── Flags ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("flag", ["--train", "--label", "--out"])
def test_a_flag_given_twice_is_refused(flag: str, encoder: Path, place: Path) -> None:
    """Two tables are never one of them; only --output may be repeated."""
    write_rows("a.csv", [{**row, "mood": row["label"]} for row in review_rows()])
    shutil.copy("a.csv", "b.csv")
    words = {"--train": "a.csv", "--label": "label", "--out": "out", "--epochs": "1", "--encoder": encoder}
    more = {"--train": "b.csv", "--label": "mood", "--out": "other"}[flag]
    ended = run("finetune", *(word for pair in words.items() for word in pair), flag, more)
    assert ended.status == 2
    assert flag in ended.err
    assert "Traceback" not in ended.err
    assert not (place / "out").exists()
    assert not (place / "other").exists()


def test_outputs_may_be_repeated(encoder: Path) -> None:
    write_rows("t.csv", [{**row, "n": i} for i, row in enumerate(review_rows())])
    use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "out")
    succeeds(*use, "--output", "label:single", "--output", "n:regression")
    assert [o["name"] for o in json.loads(Path("out/config.json").read_text())["bothways"]["outputs"]] == ["label", "n"]


def test_one_name_for_a_directory_and_a_shipped_encoder_is_the_directory(encoder: Path) -> None:
    """What stands here is what is meant."""
    shutil.copytree(encoder, "en-mini")
    write_rows("t.csv", review_rows())
    succeeds("finetune", "--train", "t.csv", "--encoder", "en-mini", "--epochs", 1, "--out", "out")
    assert json.loads(Path("out/config.json").read_text())["hidden_size"] == 32
