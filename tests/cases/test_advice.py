"""The advice fits the mistake: bytes tell an encoding and a kind of file, so the sentence names what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from cases.helpers import check_refusal, csv_of, refuses, review_rows, run, succeeds

Published = Callable[..., Path]

FRENCH = "C’était un film très émouvant, à voir"
CHINESE = [("这家酒店很干净，服务也不错。", "好"), ("书的内容太空洞，不值得买！", "坏")] * 10
ROWS = [{"text": text, "label": label} for text, label in CHINESE]
TABLE = csv_of(ROWS)


def sheet() -> bytes:
    """The beginning of what Excel writes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    return stream.getvalue()


def zipped() -> bytes:
    """The table in a zip."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("t.csv", TABLE)
    return stream.getvalue()


def parquet() -> bytes:
    """The table as Parquet."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


def tabs(rows: list[dict[str, str]]) -> str:
    """Rows as the text of a TSV file."""
    return "".join("\t".join(cells) + "\n" for cells in (rows[0].keys(), *(row.values() for row in rows)))


def lines(rows: list[dict[str, str]]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
"""The first bytes of an .xls file."""

KINDS: dict[str, tuple[bytes, list[str]]] = {
    "UTF-16 with a mark": (TABLE.encode("utf-16"), ["UTF-16"]),
    "UTF-16, big end first": (b"\xfe\xff" + TABLE.encode("utf-16-be"), ["UTF-16"]),
    "UTF-16 without a mark": (csv_of(review_rows()).encode("utf-16-le"), ["UTF-16"]),
    "UTF-32": (TABLE.encode("utf-32"), ["UTF-32"]),
    "gzip": (gzip.compress(TABLE.encode()), ["gzip", r"\.gz"]),
    "bzip2": (bz2.compress(TABLE.encode()), ["bzip2|bz2", r"\.bz2"]),
    "xz": (lzma.compress(TABLE.encode()), [r"\bxz\b", r"\.xz"]),
    "zstd": (zstd(TABLE.encode()), ["zst", r"\.zst"]),
    "zip": (zipped(), [r"\bzip\b", r"\.zip"]),
    "xlsx": (sheet(), ["xlsx|Excel|spreadsheet", "CSV"]),
    "xls": (OLE, ["xls|Excel|spreadsheet", "CSV"]),
    "Parquet": (parquet(), ["Parquet", r"\.parquet"]),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", ["PDF"]),
    "cp1252": (f"text,label\n{FRENCH},oui\nrien,non\n".encode("cp1252"), ["cp1252|windows-1252", "line 2"]),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, "t.csv") for kind in KINDS),
        *((kind, name) for kind in ("UTF-16 with a mark", "gzip", "xlsx", "cp1252") for name in ("t.tsv", "t.jsonl")),
    ],
)
def test_bytes_tell_what_a_table_is(kind: str, name: str, classifier: Path) -> None:
    """Read, or refused for what it is."""
    content, says = KINDS[kind]
    write = {"t.csv": csv_of, "t.tsv": tabs, "t.jsonl": lines}[name]
    if kind == "cp1252":
        rows = [{"text": "rien", "label": "non"}, {"text": FRENCH, "label": "oui"}]
        content = write(rows if name == "t.jsonl" else rows[1:]).encode(kind)
    elif kind == "gzip":
        content = gzip.compress(write(ROWS).encode())
    Path(name).write_bytes(content)
    ended = run("classify", classifier, name)
    if ended.status == 0:
        assert [answer["text"] for answer in ended.answers][:1] in (
            [ROWS[0]["text"]],
            [review_rows()[0]["text"]],
            [FRENCH.split(",")[0]],
        )
        return
    sentence = check_refusal(ended, [name.replace(".", r"\."), *says])
    assert "GB18030" not in sentence


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("cp1252", "xls", "PDF")])
def test_they_tell_what_documents_are(kind: str) -> None:
    content, says = KINDS[kind]
    name = "docs.txt"
    Path(name).write_bytes(content)
    ended = run("tokenizer", "train", name, "--vocab-size", 100, "--out", "tok")
    if ended.status == 0:
        assert '"酒"' in Path("tok/tokenizer.json").read_text("utf-8"), "read as something that it is not"
        return
    assert "GB18030" not in check_refusal(ended, [name, *says[:1]])


@pytest.mark.parametrize("kind", ["UTF-16 with a mark", "gzip", "zip", "xlsx", "cp1252"])
def test_they_tell_what_standard_input_is(kind: str, classifier: Path) -> None:
    content, says = KINDS[kind]
    ended = run("classify", classifier, stdin=content)
    if ended.status == 0:
        assert ended.answers[1]["text"].startswith(ROWS[0]["text"])
        return
    assert "GB18030" not in check_refusal(ended, ["standard input", *says[:1]])


@pytest.mark.parametrize("encoding", ["gb18030", "gbk"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "docs.txt", "-"])
def test_chinese_in_its_own_encoding_is_told(encoding: str, name: str, classifier: Path) -> None:
    content = (TABLE if name != "t.tsv" else TABLE.replace(",", "\t")).encode(encoding)
    says = ["iconv", "GB18030|GBK", r"line \d"]
    if name == "-":
        check_refusal(run("classify", classifier, stdin=content), ["standard input", *says])
        return
    Path(name).write_bytes(content)
    words: tuple[object, ...] = ("classify", classifier, name)
    if name == "docs.txt":
        words = ("tokenizer", "train", name, "--vocab-size", 100, "--out", "tok")
    refuses(*words, says=[name.replace(".", r"\."), *says])


@pytest.mark.parametrize("damage", [b"\xe8", b"\xff", b"\xc3("])
def test_a_damaged_character_in_utf_8_is_no_other_encoding(damage: bytes, classifier: Path) -> None:
    """To convert such a file would spoil all that is right in it."""
    lines = TABLE.encode().split(b"\n")
    lines[10] = lines[10].replace("，".encode(), damage).replace("！".encode(), damage)
    Path("t.csv").write_bytes(b"\n".join(lines))
    sentence = refuses("classify", classifier, "t.csv", says=[r"t\.csv", "line 11", "UTF-8"])
    assert "GB18030" not in sentence
    assert "1252" not in sentence


def test_a_file_cut_within_a_character_is_no_other_encoding(classifier: Path) -> None:
    Path("t.csv").write_bytes(TABLE.encode()[:-3])
    sentence = refuses("classify", classifier, "t.csv", says=[r"t\.csv", "line 21", "UTF-8|cut"])
    assert "GB18030" not in sentence


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "zip"])
def test_a_table_under_the_name_of_an_archive_is_told(ending: str, classifier: Path) -> None:
    """It is not damaged, and to fetch it again would not help."""
    name = f"t.csv.{ending}"
    Path(name).write_text(TABLE, "utf-8")
    ended = run("classify", classifier, name)
    if ended.status == 0:
        assert len(ended.answers) == 20
        return
    check_refusal(ended, [name.replace(".", r"\."), "not compressed|plain text|rename|remove"])


@pytest.mark.parametrize(("content", "name"), [("gzip", "t.csv.zst"), ("xz", "t.csv.gz"), ("zip", "t.csv.gz")])
def test_one_archive_under_the_name_of_another_is_told(content: str, name: str, classifier: Path) -> None:
    Path(name).write_bytes(KINDS[content][0])
    ended = run("classify", classifier, name)
    if ended.status == 0:
        assert len(ended.answers) == 20
        return
    check_refusal(ended, [name.replace(".", r"\."), KINDS[content][1][0]])


@pytest.mark.parametrize("content", ["csv", "gzip", "xlsx"])
def test_what_is_no_parquet_is_told(content: str, classifier: Path) -> None:
    Path("t.parquet").write_bytes(TABLE.encode() if content == "csv" else KINDS[content][0])
    says = {"csv": ["text|CSV"], "gzip": ["gzip"], "xlsx": ["xlsx|Excel|spreadsheet|zip"]}[content]
    refuses("classify", classifier, "t.parquet", says=[r"t\.parquet", "Parquet", *says])


@pytest.mark.parametrize(
    "content", ['[\n  {"text": "a", "label": "x"},\n  {"text": "b", "label": "y"}\n]', '[{"text": "a", "label": "x"}]']
)
def test_a_whole_json_array_is_told(content: str, classifier: Path) -> None:
    Path("t.json").write_text(content)
    refuses("classify", classifier, "t.json", says=[r"t\.json", "line 1", "one object a line"])


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack", "model.onnx"])
def test_weights_of_another_program_are_named(name: str, published: Published, place: Path) -> None:
    """They are not missing; they have to be converted."""
    directory = published(place / "p")
    (directory / "model.safetensors").rename(directory / name)
    refuses("classify", "p", says=[name.replace(".", r"\."), "convert|safetensors"], stdin=b"good\n")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_told(name: str, published: Published, place: Path) -> None:
    """What a clone without Git LFS leaves in place of a large file."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    (published(place / "p") / name).write_text(pointer)
    refuses("classify", "p", says=[name.replace(".", r"\."), "LFS"], stdin=b"good\n")


def test_utf_8_with_a_mark_is_read(classifier: Path) -> None:
    for name, text in (("t.csv", TABLE), ("t.tsv", TABLE.replace(",", "\t"))):
        Path(name).write_text("\ufeff" + text, "utf-8")
        assert len(succeeds("classify", classifier, name).answers) == 20
