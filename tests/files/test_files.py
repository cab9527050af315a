"""Directories appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest
from conftest import random_bert
from filelock import FileLock
from safetensors import SafetensorError

import bothways.formats.writing as formats_writing
from bothways.baselines.vectors import PublishedVectors
from bothways.cli import main
from bothways.corpus.build import build_from_files
from bothways.errors import InputError
from bothways.files.names import public_name, without_secrets
from bothways.files.reading import explain_read_errors, open_input
from bothways.files.writing import exclusive_directory, new_directory, refuse_existing, write_atomically, writing
from bothways.formats.hub import locate
from bothways.formats.writing import save_model
from bothways.hardware import keep_freed_memory
from bothways.model.config import EncoderConfig
from bothways.progress import Progress
from bothways.terminal import say
from bothways.tokenizer import Tokenizer


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        with new_directory(tmp_path / "a") as scratch:
            (scratch / "file").write_text("half")
            raise RuntimeError
    with pytest.raises(RuntimeError):
        with writing(tmp_path / "b.json") as stream:
            stream.write("half")
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_safe(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    with pytest.raises(InputError, match="is no directory that bothways has written"):
        refuse_existing(tmp_path / "a", overwrite=True)
    (tmp_path / "a" / "old").rename(tmp_path / "a" / "config.json")
    with pytest.raises(InputError, match="exists already; name another directory or add --overwrite"):
        with new_directory(tmp_path / "a"):
            pass
    with pytest.raises(RuntimeError):
        with new_directory(tmp_path / "a", overwrite=True) as scratch:
            (scratch / "new").write_text("new")
            raise RuntimeError
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["config.json"]
    with new_directory(tmp_path / "a", overwrite=True) as scratch:
        (scratch / "new").write_text("new")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_is_in_use_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "text.txt").write_text("text")
    refuse_existing(tmp_path / "a" / "b", overwrite=True, reads=[tmp_path / "a" / "text.txt", None, "s3://a/b"])
    for out in ("a", "a/b/.."):
        with pytest.raises(InputError, match=r"holds .*text\.txt, which is in use; name another directory"):
            refuse_existing(tmp_path / out, overwrite=True, reads=[tmp_path / "a" / "text.txt"])
    monkeypatch.chdir(tmp_path / "a")
    for here in (".", "..", tmp_path):
        with pytest.raises(InputError, match="which is in use"):
            refuse_existing(here, overwrite=True)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        SafetensorError("I/O error: File too large (os error 27)"),
    ],
)
def test_a_full_disk(
    tmp_path: Path,
    encoder_config: EncoderConfig,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(formats_writing, "save_file", full)
    with pytest.raises(InputError, match=r"model: no space left on the device; free some or write elsewhere"):
        save_model(tmp_path / "model", random_bert(encoder_config), tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is no directory; write elsewhere"):
        with new_directory(tmp_path / "file" / "model"):
            pass
    with pytest.raises(InputError, match="the place to write to is gone or no directory"):
        write_atomically(tmp_path / "nowhere" / "a.json", "{}")


def test_a_place_that_goes(
    tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that writes tensors has an error of its own, and the system's only as a number in it."""

    def gone(tensors: object, path: Path, metadata: object) -> None:
        path.parent.rename(tmp_path / "elsewhere")
        save_file(tensors, path, metadata)

    save_file = formats_writing.save_file
    monkeypatch.setattr(formats_writing, "save_file", gone)
    with pytest.raises(InputError, match="model: the place to write to is gone or no directory"):
        save_model(tmp_path / "model", random_bert(encoder_config), tokenizer)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second one is refused and changes nothing; a killed one's lock is gone with it; what fails leaves nothing."""
    work = (
        "import sys, time; from pathlib import Path; from bothways.files.writing import exclusive_directory\n"
        "with exclusive_directory(Path('run'), anew=True):\n"
        "    Path('run/made').mkdir(); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", work], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match="run: another process is at work on this; wait for it"):
            with exclusive_directory(tmp_path / "run", anew=True):
                pass
        assert (tmp_path / "run" / "made").is_dir()
        other.kill()
    with exclusive_directory(tmp_path / "run", anew=False):
        assert (tmp_path / "run" / "made").is_dir()
    with pytest.raises(RuntimeError):
        with exclusive_directory(tmp_path / "run", anew=True):
            assert not (tmp_path / "run" / "made").exists()
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_the_lock_is_taken_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock's file is there before the lock is held; a signal may come in between."""
    acquire = FileLock.acquire

    def interrupted(lock: FileLock, **how: bool) -> None:
        monkeypatch.setattr(FileLock, "acquire", acquire)
        Path(lock.lock_file).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(FileLock, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt), exclusive_directory(tmp_path / "run", anew=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_memory_setting_can_be_asked_for_twice() -> None:
    assert keep_freed_memory.__wrapped__() == keep_freed_memory()


def test_links_are_followed_and_pipes_written_to(tmp_path: Path) -> None:
    (tmp_path / "goal.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "goal.json")
    write_atomically(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "goal.json").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    with pytest.raises(InputError, match="this is a directory; name a file"):
        write_atomically(tmp_path, "x")


def test_a_place_that_cannot_be_written_is_said_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is no directory; write elsewhere"):
        refuse_existing(tmp_path / "file" / "model", overwrite=False)
    refuse_existing(tmp_path / "new" / "deep" / "model", overwrite=False)


def test_progress_does_not_flood_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 10, unit="bytes") as progress:
        for _ in range(100):
            progress.update(10, loss=0.5)
    assert capsys.readouterr().err == "work  10 B/10 B  loss 0.5  0:00 left\n"
    with Progress("work", 0, unit="bytes") as progress:
        progress.update(2_500_000)
    assert capsys.readouterr().err == "work  2.5 MB\n"
    with Progress("work", 10, begun=4, unit="bytes") as progress:
        progress.update(4, loss=0.5)  # gone on with, and nothing new yet: no time left can be told
    assert capsys.readouterr().err == "work  4 B/10 B  loss 0.5\n"


@pytest.mark.parametrize(
    ("source", "without", "public"),
    [
        ("/home/bob/a b.csv", "/home/bob/a b.csv", "a b.csv"),
        ("a@b?.csv", "a@b?.csv", "a@b?.csv"),
        ("https://bob:p@ss@host:80/x@y/t.csv?sign=k/1#a", "https://host:80/x@y/t.csv", "t.csv"),
        ("s3://bucket/folder/", "s3://bucket/folder/", "folder"),
        ("zip://a.csv::https://k@host/b.zip?sign=k", "zip://a.csv::https://host/b.zip", "a.csv"),
        ("simplecache::https://host/a.csv?sign=k", "simplecache::https://host/a.csv", "a.csv"),
        ("file:///folder/a@b#1?.csv", "file:///folder/a@b#1?.csv", "a@b#1?.csv"),
    ],
)
def test_what_a_source_is_called_where_others_read_it(source: str, without: str, public: str) -> None:
    assert (without_secrets(source), public_name(source)) == (without, public)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("https://bob:p@ss@host/t.csv?sign=k/1#a, line 3: no", "https://host/t.csv, line 3: no"),
        ("https://bob:p/s@host:80/y.csv: no", "https://host:80/y.csv: no"),
        ("no (403, url='https://host/t?k=a.b').", "no (403, url='https://host/t')."),
        ("zip://a.csv::https://k@host/b.zip?sign=k::x: no", "zip://a.csv::https://host/b.zip: no"),
        ("s3://bucket/t.csv exists; is it a@b? Or #2?", "s3://bucket/t.csv exists; is it a@b? Or #2?"),
        ("file:///a/b?c#1.csv: no", "file:///a/b?c#1.csv: no"),
        ("http://host:80/x@y/t.csv: no", "http://host:80/x@y/t.csv: no"),
        ("不能读取 https://host/a.csv?d=1，请检查", "不能读取 https://host/a.csv，请检查"),
    ],
)
def test_no_message_shows_what_gives_access(told: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(pickle.loads(pickle.dumps(InputError(told)))) == shown
    say(told)
    assert capsys.readouterr().err == shown + "\n"


@pytest.mark.parametrize("part", ["://a:b", "x://?.", ".,", "::", "a:", "://["])
def test_a_long_message_takes_no_time(part: str) -> None:
    """A cell of a table may be quoted in one."""
    begun = time.process_time()
    InputError("x://?" + part * 50_000)
    InputError(part * 50_000)
    assert time.process_time() - begun < 2


SECRET = "SECRET"
SIGNED = f"memory://secrets/%s?X-Amz-Signature={SECRET}"


@pytest.fixture
def signed_table() -> str:
    """The address of a table of two rows without a label."""
    with fsspec.open(SIGNED % "t.csv", "w") as stream:
        stream.write("text,label\n很好,\n很好,\n")
    return SIGNED % "t.csv"


def test_what_was_found_in_a_table_does_not_show_its_key(
    signed_table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", signed_table, "--encoder", "en-mini", "--next", "1", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["bothways", *words])
    main()
    told = "".join(capsys.readouterr()) + (tmp_path / "found.json").read_text("utf-8")
    assert "memory://secrets/t.csv: no row has a label" in told
    assert SECRET not in told
    assert json.loads((tmp_path / "found.json").read_text("utf-8"))["checks"]


def test_neither_a_corpus_nor_word_vectors_show_the_key_of_their_source(tmp_path: Path) -> None:
    with fsspec.open(SIGNED % "docs.txt", "w") as stream:
        stream.write("a film\n\na book\n")
    with fsspec.open(SIGNED % "vectors.txt", "w") as stream:
        stream.write("film 1 2\nbook 2 1\n")
    tokenizer = Tokenizer.load(locate("en-mini"))
    build_from_files([SIGNED % "docs.txt"], tokenizer, tmp_path / "corpus", processes=1, quiet=True)
    PublishedVectors(SIGNED % "vectors.txt").fit().write(tmp_path)
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not [content for content in written if SECRET.encode() in content]


def test_what_the_network_refuses_is_one_sentence() -> None:
    """As a signature that ends while a file is read."""
    ClientError = pytest.importorskip("aiohttp").ClientError
    with pytest.raises(
        InputError, match=r"^https://host/a.csv: this cannot be read \(403, url=https://host/a.csv\)\.$"
    ):
        with explain_read_errors("https://host/a.csv?sign=k"):
            raise ClientError("403, url=https://host/a.csv?sign=k")


class Status(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_error(int(self.path.strip("/").partition(".")[0]))

    do_HEAD = do_GET

    def log_message(self, *told: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("name", "says"), [("404.csv", "there is no such file"), ("403.csv", "403"), ("500.csv", "500")]
)
def test_what_a_server_refuses_is_told_as_it_is(name: str, says: str) -> None:
    pytest.importorskip("aiohttp")
    with HTTPServer(("127.0.0.1", 0), Status) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{name}"
        try:
            with pytest.raises(InputError, match=f"^{address}: .*{says}"), open_input(address):
                pass
        finally:
            server.shutdown()
    with pytest.raises(InputError, match="connect"), open_input(address):  # nobody is there any more
        pass
