"""Models sent to a model hub and fetched from it, by the hub's own client, from a hub that this test serves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from conftest import films, random_bert

from bothways.classifier import TextClassifier
from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.run import finetune
from bothways.finetuning.task_file import FinetuningTask, TaskTable
from bothways.formats.hub import locate
from bothways.formats.publishing import push
from bothways.formats.writing import save_model
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.tokenizer import Tokenizer

LABEL = OutputConfig(name="label", kind="single", labels=("bad", "good"))


@dataclass
class Repository:
    """A repository of the hub: commits, and branches that point to them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})

    def commit(self, branch: str, files: dict[str, bytes | None]) -> str:
        content = {**self.commits[self.branches[branch]], **files}
        content = {name: file for name, file in content.items() if file is not None}
        number = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[number], self.branches[branch] = content, number
        return number


class Hub(ThreadingHTTPServer):
    """As much of huggingface.co as sending and fetching a model takes. Who knows the token may do everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.token, self.may_write = "hf_right", True
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        """The paths of all GET requests."""


class Answers(BaseHTTPRequestHandler):
    """The routes."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)(?:/(revision|tree)/(.+))?", path):
            self.describe(found[1], found[2], found[3] or "main")
        elif found := re.fullmatch(r"/(\w+/[\w-]+)/resolve/([^/]+)/(.+)", path):
            repository, number = self.find(found[1], found[2])
            if repository is not None:
                self.answer(repository.commits[number].get(found[3]), headers={"X-Repo-Commit": number})
        else:
            self.answer(None)

    do_HEAD = do_GET

    def describe(self, name: str, what: str | None, revision: str) -> None:
        """What is in a repository."""
        repository, number = self.find(name, revision)
        if repository is None:
            return
        files = repository.commits[number]
        if what == "tree":
            kinds = [{"type": "file", "path": path, "size": len(c), "oid": git_id(c)} for path, c in files.items()]
            self.answer(kinds)
        else:
            siblings = [{"rfilename": path} for path in files]
            self.answer({"id": name, "sha": number, "private": repository.private, "siblings": siblings})

    def find(self, name: str, revision: str) -> tuple[Repository | None, str]:
        """A repository that the client may see, and the number of a commit; answers if there is none."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.knows_token()):
            self.answer(None, status=404 if self.knows_token() else 401, headers={"X-Error-Code": "RepoNotFound"})
        elif repository.gated:
            self.answer(None, status=403, headers={"X-Error-Code": "GatedRepo"})
        elif (number := repository.branches.get(revision, revision)) not in repository.commits:
            self.answer(None, headers={"X-Error-Code": "RevisionNotFound"})
        else:
            return repository, number
        return None, ""

    def do_PUT(self) -> None:
        self.server.blobs[self.path.rsplit("/", 1)[1]] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif not self.knows_token():
            self.answer({"error": "Invalid credentials"}, status=401)
        elif not self.server.may_write:
            self.answer({"error": "You may not"}, status=403)
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/branch/(.+)", path):
            branches = self.server.repositories[found[1]].branches
            self.answer({}, status=409 if found[2] in branches else 200)
            branches.setdefault(found[2], branches["main"])
        elif re.fullmatch(r"/api/models/\w+/[\w-]+/preupload/.+", path):
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith("safetensors") else "regular",
                 "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]  # fmt: skip
            self.answer({"files": modes})
        elif re.fullmatch(r"/\w+/[\w-]+\.git/info/lfs/objects/batch", path):
            actions = [
                {**o, "actions": {"upload": {"href": f"{self.server.address}/blobs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": actions})
        elif found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/commit/(.+)", path):
            self.commit(found[1], found[2], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer(None)

    def create(self, asked: dict[str, str | bool | None]) -> None:
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        there = name in self.server.repositories
        hidden = asked.get("visibility") == "private" or asked.get("private") is True
        self.server.repositories.setdefault(name, Repository(private=hidden))
        self.answer({"url": f"{self.server.address}/{name}"}, status=409 if there else 200)

    def commit(self, name: str, branch: str, lines: list[dict[str, dict[str, str]]]) -> None:
        files: dict[str, bytes | None] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                files[value["path"]] = None
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
                assert hashlib.sha256(self.server.blobs[value["oid"]]).hexdigest() == value["oid"]
        number = self.server.repositories[name].commit(branch, files)
        address = f"{self.server.address}/{name}/commit/{number}"
        self.answer({"success": True, "commitOid": number, "commitUrl": address})

    def knows_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, content: object, *, status: int | None = None, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status or (404 if content is None else 200))
        for key, value in {**(headers or {}), "ETag": f'"{git_id(data)}"', "Content-Length": f"{len(data)}"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of its own for each test, empty, and a client that knows no other."""
    from huggingface_hub import constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix("https://huggingface.co")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", server.token)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def model(tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Path:
    """A classifier, with what lies beside one."""
    path = tmp_path / "classifier"
    beside = {"report.html": "<p>a text of somebody", "metrics.json": '{"checks": ["a text"]}', "examples.jsonl": "{}"}
    save_model(path, random_bert(encoder_config, LABEL), tokenizer, extra_files=beside)
    return path


def refused(*said: str, when: object) -> None:
    with pytest.raises(InputError) as error:
        when()  # type: ignore[operator]
    for part in said:
        assert part in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_what_is_sent_is_what_is_fetched_and_no_more(hub: Hub, model: Path) -> None:
    address = push(model, "me/classifier")
    repository = hub.repositories["me/classifier"]
    assert address.endswith(f"/me/classifier/commit/{repository.branches['main']}")
    assert set(repository.commits[repository.branches["main"]]) == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md",
    }  # fmt: skip
    assert not repository.private
    fetched = locate("me/classifier")
    for file in fetched.iterdir():
        assert file.read_bytes() == (model / file.name).read_bytes()


def test_a_classifier_by_its_revision(hub: Hub, model: Path, tmp_path: Path) -> None:
    texts = ["the film is good", "很好"]
    first = TextClassifier.load(model)
    first.push_to_hub("me/classifier", private=True)
    repository = hub.repositories["me/classifier"]
    assert repository.private
    old = repository.branches["main"]
    other = TextClassifier.load(model)
    with torch.no_grad():
        other.bert_.outputs[0].projection.weight.neg_()
    other.push_to_hub("me/classifier", commit_message="Say the opposite")
    other.push_to_hub("me/classifier", revision="trial/opposite")
    assert set(repository.branches) == {"main", "trial/opposite"}

    again = TextClassifier.load("me/classifier", revision=old)
    assert (again.predict_proba(texts) == first.predict_proba(texts)).all()
    assert again.encoder == f"me/classifier@{old}"
    newest = TextClassifier.load("me/classifier").predict_proba(texts)
    assert (newest == TextClassifier.load("me/classifier@trial/opposite").predict_proba(texts)).all()
    assert (newest != again.predict_proba(texts)).all()


def test_weights_of_tensorflow_are_fetched_only_where_there_are_no_others(hub: Hub, model: Path) -> None:
    push(model, "me/both")
    checkpoint = {"bert_model.ckpt.index": b"i", "bert_model.ckpt.data-00000-of-00001": b"d", "bert_model.bin": b"b"}
    hub.repositories["me/both"].commit("main", checkpoint)
    assert not list(locate("me/both").glob("*.data-*"))
    hub.repositories["me/old"] = Repository()
    hub.repositories["me/old"].commit("main", {**checkpoint, "bert_config.json": b"{}", "vocab.txt": b""})
    names = {"bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001", "bert_config.json", "vocab.txt"}
    assert {file.name for file in locate("me/old").iterdir()} == names


def test_what_lies_in_folders_is_neither_sent_nor_fetched(hub: Hub, model: Path) -> None:
    below = ["plots/a.svg", "model-1/x-of-y.safetensors", "sub/b.ckpt.index", "runs/1/m.ckpt-5.data-00000-of-00001"]
    for name in [*below, "1_Pooling/config.json", "picture[1].svg"]:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("{}")
    push(model, "me/classifier")
    repository = hub.repositories["me/classifier"]
    sent = set(repository.commits[repository.branches["main"]])
    assert {"1_Pooling/config.json", "picture[1].svg"} <= sent
    assert not sent & set(below)
    repository.commit("main", dict.fromkeys([*below, "x.ckpt/a.index"], b"x"))
    fetched = locate("me/classifier")
    names = {file.relative_to(fetched).as_posix() for file in fetched.rglob("*") if file.is_file()}
    assert names == sent - {"picture[1].svg"}


def test_weights_of_before_do_not_stay(
    hub: Hub, model: Path, tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    stars = OutputConfig(name="stars", kind="regression")
    save_model(tmp_path / "two", random_bert(encoder_config, LABEL, stars), tokenizer)
    push(tmp_path / "two", "me/classifier")
    repository = hub.repositories["me/classifier"]
    kept = {"notes.txt": b"", "logo.svg": b"", "sub/vocab.txt": b"", "sub/a.ckpt.index": b""}
    repository.commit("main", {**kept, "model.safetensors.index.json": b"{}", "vocab.txt": b"", "a.ckpt.index": b""})
    push(model, "me/classifier")
    files = set(repository.commits[repository.branches["main"]])
    own = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert files == own | set(kept)
    (model / "README.md").unlink()  # a card that was written there stays
    push(model, "me/classifier")
    assert set(repository.commits[repository.branches["main"]]) == files
    push(tmp_path / "two", "me/classifier")
    assert TextClassifier.load(model).encoder
    assert (locate("me/classifier") / "outputs.safetensors").is_file()


def test_nothing_tells_how_training_rows_are_reached(hub: Hub, tmp_path: Path, encoder_directory: Path) -> None:
    (tmp_path / "rows").mkdir()
    texts, labels = films(60)
    lines = ["text,label", *(f"{text},{label}" for text, label in zip(texts, labels, strict=True))]
    for name in ("a.csv", "b.csv"):
        (tmp_path / "rows" / name).write_text("\n".join([*lines, *lines[1:3]]), "utf-8")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "rows"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://bob:SECRET@127.0.0.1:{server.server_address[1]}/a.csv?key=SIGNED.csv"
        task = FinetuningTask(tables=(TaskTable(train=address), TaskTable(train=tmp_path / "rows" / "b.csv")))
        out, config = tmp_path / "out", FinetuningConfig(epochs=1, precision="fp32")
        finetune(task, out, encoder=encoder_directory, config=config, keep_rows=True)
        server.shutdown()
    push(out, "me/classifier")
    repository = hub.repositories["me/classifier"]
    sent = repository.commits[repository.branches["main"]]
    assert b"6 rows held out of a.csv and 6 rows held out of b.csv" in sent["README.md"]
    assert "a.csv, line" in (out / "evaluation.json").read_text("utf-8")
    for content in [*sent.values(), *(file.read_bytes() for file in out.iterdir())]:
        assert not any(word in content for word in (b"bob", b"SECRET", b"SIGNED"))
    for content in [*sent.values(), (out / "evaluation.json").read_bytes()]:
        assert str(tmp_path).encode() not in content
    assert str(tmp_path / "rows") not in (out / "report.html").read_text("utf-8")


def test_a_checkpoint_and_the_files_beside_it_are_of_one_commit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    hub.repositories["me/old"] = repository = Repository()
    data = "bert_model.ckpt.data-00000-of-00001"
    repository.commit("main", {"bert_model.ckpt.index": b"old", data: b"old", "bert_config.json": b"{}"})
    download = huggingface_hub.snapshot_download

    def meanwhile(*given: object, **named: object) -> str:
        found = download(*given, **named)
        repository.commit("main", {"bert_model.ckpt.index": b"new", data: b"new"})
        return found

    monkeypatch.setattr(huggingface_hub, "snapshot_download", meanwhile)
    directory = locate("me/old")
    assert (directory / "bert_model.ckpt.index").read_bytes() == (directory / data).read_bytes() == b"old"


@pytest.mark.parametrize("token", ["hf_é", "hf_SECRET\x01abc", "hf_one two"])
def test_a_token_that_no_client_can_send(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    for ask in (lambda: locate("me/x"), lambda: push(model, "me/x")):
        with pytest.raises(InputError, match="me/x: the token for the hub has a space or a character") as error:
            ask()
        assert token not in str(error.value)


def test_what_the_hub_does_not_have(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(model, "me/classifier", private=True)
    refused("me/classifier: the hub has no revision 'v9' of it", when=lambda: locate("me/classifier@v9"))
    refused("me/none: there is no such directory", "there is none, or only", when=lambda: locate("me/none"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("me/classifier: ", "there is none, or only for others to see", when=lambda: locate("me/classifier"))
    hub.repositories["me/gated"] = Repository(gated=True)
    refused("me/gated: ", "its owners have to grant access", when=lambda: locate("me/gated"))
    refused("there is no revision behind the @", when=lambda: locate("me/classifier@"))
    monkeypatch.chdir(model.parent)
    refused("classifier is a directory here, which has no revisions", when=lambda: locate("classifier@x"))
    refused("en-mini is a directory here", when=lambda: locate("en-mini@main"))
    refused(f"{model} is a directory here, which has no revisions", when=lambda: locate(f"{model}@v1"))
    twice = "me/x@a: this names the revision 'a' already; leave out @a or 'b'"
    refused(twice, when=lambda: TextClassifier.load("me/x@a", revision="b"))


def test_what_the_hub_does_not_take(hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(model, "me/public")
    refused("me/public is public, so nothing was sent", when=lambda: push(model, "me/public", private=True))
    refused("'a b' is no name for the hub", when=lambda: push(model, "a b"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("me/new: ", "it does not know this token", when=lambda: push(model, "me/new"))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.may_write = False
    refused("me/new: ", "this token does not allow it", when=lambda: push(model, "me/new"))
    hub.may_write = True
    monkeypatch.delenv("HF_TOKEN")
    refused("me/new: there is no token for the hub", when=lambda: push(model, "me/new"))
    (model / "model.safetensors").unlink()
    refused("model.safetensors is missing", when=lambda: push(model, "me/new"))
    assert set(hub.repositories) == {"me/public"}


def test_without_a_network(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    push(model, "me/classifier")
    there = locate("me/classifier")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate("me/classifier") == there
    refused("HF_HUB_OFFLINE is set", when=lambda: locate("me/classifier@other"))
    refused("HF_HUB_OFFLINE is set", when=lambda: push(model, "me/classifier"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert locate("me/classifier") == there
    refused("me/other: ", "check the name and the network", when=lambda: locate("me/other"))
    refused("me/other: the hub did not take the model", when=lambda: push(model, "me/other"))


def test_the_commands(hub: Hub, model: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": hub.token,
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bothways.cli", *words]
        return subprocess.run(command, env=environment, input="the film is good\n", capture_output=True, text=True)

    sent = run("push", str(model), "me/classifier", "--revision", "v1", "--private")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.startswith(f"{hub.address}/me/classifier/commit/")
    hub.asked.clear()
    answered = run("classify", "me/classifier@v1")
    assert answered.returncode == 0, answered.stderr
    assert hub.asked.count("/api/models/me/classifier/revision/v1") == 1
    assert json.loads(answered.stdout)["outputs"]["label"]["label"] in LABEL.labels
