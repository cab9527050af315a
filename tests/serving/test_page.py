"""The page at /: its files, what it asks of the server, and once in a browser."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from conftest import random_bert
from evaluation.test_report import findings, single

from bothways.evaluation.stored import EVALUATION, evaluation_json
from bothways.formats import hub
from bothways.formats.writing import save_model
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.serving.routes.page import contents
from bothways.tasks import TASKS
from bothways.tokenizer import Tokenizer
from serving.conftest import MOOD, Live, served

PAGE = Path(str(files("bothways.serving") / "page"))
OWN = sorted(file for file in PAGE.iterdir() if file.is_file())
NAMESPACES = {"http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def exported(name: str) -> dict:
    """What a module exports that is JSON but for the words around it."""
    text = (PAGE / name).read_text("utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def test_the_page_may_run_its_own_files_only(client: httpx.Client) -> None:
    response = client.get("/")
    policy = response.headers.get_list("content-security-policy")
    assert len(policy) == 1
    assert policy[0].startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect"
    )
    assert "unsafe" not in policy[0]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script>|style=|\son\w+=", response.text)


def test_every_file_that_is_named_is_served_as_what_it_is(client: httpx.Client) -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json"}
    for name in contents():
        response = client.get(f"/page/{name}")
        kind = kinds.get(name.rpartition(".")[2], "text/plain")
        assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, kind)
    named = re.findall(r'"/page/([^"]+)"', client.get("/").text)
    for file in OWN:
        named += re.findall(r'from "\./([^"]+)"', file.read_text("utf-8")) if file.suffix == ".js" else []
    assert len(named) > 20
    assert set(named) <= set(contents())


@pytest.mark.parametrize("path", ["/page/none.js", "/page/../app.py", "/page/%2e%2e/app.py", "/page/vendor", "/page/"])
def test_what_is_no_file_of_the_page_is_not_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_no_file_names_an_address_elsewhere() -> None:
    for name, content in contents().items():
        if not name.startswith("vendor/LICENSE"):
            assert set(re.findall(r"https?://[^\"' )]*", content.decode())) <= NAMESPACES, name


def test_no_file_of_ours_sets_html() -> None:
    for file in OWN:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", file.read_text("utf-8"))


def test_what_is_vendored_is_what_was_looked_at() -> None:
    vendored = json.loads((PAGE / "vendor/vendored.json").read_text())["files"]
    assert set(vendored) == {file.name for file in (PAGE / "vendor").glob("*.js")}
    for name, told in vendored.items():
        assert hashlib.sha256((PAGE / "vendor" / name).read_bytes()).hexdigest() == told["sha256"]
        assert (PAGE / "vendor" / told["license_file"]).is_file()


def test_both_languages_have_the_same_words() -> None:
    words = exported("words.js")
    assert words["en"].keys() == words["zh"].keys()
    for key, english in words["en"].items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", words["zh"][key])), key
    asked = "".join(file.read_text("utf-8") for file in OWN if file.suffix == ".js")
    for key in re.findall(r"\bt\(\"([\w.]+)\"", asked):
        assert key in words["en"]


def test_models_tells_what_the_page_draws(client: httpx.Client) -> None:
    told = client.get("/models").json()
    assert [model["name"] for model in told["models"]] == ["mood", "several"]
    assert [output["kind"] for output in told["models"][1]["outputs"]] == ["single", "multi", "regression"]
    assert told["models"][0]["outputs"][0]["labels"] == ["bad", "good", "<b>odd</b>"]
    assert told["models"][0]["reads"] == ["text"]
    assert not told["models"][0]["masked"]


def test_an_explanation_is_what_the_model_loses_without_each_word(client: httpx.Client) -> None:
    told = client.post("/explain", json={"inputs": "a good film", "output": "mood", "label": "good"}).json()
    assert [word["text"] for word in told["words"]] == ["a", "good", "film"]
    (explained,) = told["explained"]
    whole = client.post("/answers", json={"inputs": "a good film"}).json()["answers"][0]["outputs"]["mood"]
    without = client.post("/answers", json={"inputs": "a film"}).json()["answers"][0]["outputs"]["mood"]
    assert explained["score"] == pytest.approx(whole["scores"]["good"], abs=2e-4)
    assert explained["scores_without"][1] == pytest.approx(without["scores"]["good"], abs=2e-4)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/explain", {"inputs": "a film", "output": "none"}, 422),
        ("/explain", {"inputs": "a film", "label": "none"}, 422),
        ("/explain", {"inputs": [["a film"], ["a film"]]}, 422),
        ("/explain", {"inputs": ["a film", "another"]}, 422),
        ("/explain", {"inputs": ""}, 400),
        ("/explain", {"inputs": "a film", "model": "none"}, 404),
        ("/inside", {"inputs": [["a film"], ["a film"]]}, 422),
        ("/masked", {"inputs": "a [MASK]"}, 424),
    ],
)
def test_what_cannot_be_explained_gets_a_sentence(client: httpx.Client, path: str, body: dict, status: int) -> None:
    response = client.post(path, json=body)
    assert (response.status_code, set(response.json())) == (status, {"error", "error_type"})


def test_inside_tells_the_parts_of_each_embedding_and_all_attention(client: httpx.Client) -> None:
    told = client.post("/inside", json={"inputs": "a good film"}).json()
    model = client.get("/models").json()["models"][0]
    assert set(told["norms"]) == {"token", "segment", "position", "sum"}
    assert len(told["attention"]) == model["layers"]
    for head in told["attention"][0]:
        assert [sum(row) for row in head] == pytest.approx([1] * len(told["tokens"]), abs=1e-2)


def test_an_encoder_guesses_words(mood: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    place = mood.parent / "guesser"
    masked_lm = OutputConfig(name="masked_lm", kind="masked_lm", reads="masked")
    save_model(place, random_bert(encoder_config, masked_lm), tokenizer)
    with served(place) as live, httpx.Client(base_url=live.address, timeout=60) as client:
        assert client.get("/models").json()["models"][0]["masked"]
        told = client.post("/masked", json={"inputs": "a [MASK] film", "top": 3}).json()
        assert [len(guess["tokens"]) for guess in told["guesses"]] == [3]
        assert client.post("/masked", json={"inputs": "a film"}).status_code == 422


def test_card_and_report_are_shown_without_power(
    mood: Path, tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    place = tmp_path / "told"
    save_model(place, random_bert(encoder_config, OutputConfig(name="x", kind="single", labels=("a", "b"))), tokenizer)
    (place / "README.md").write_text("# <script>alert(1)</script>")
    (place / "report.html").write_text("<!doctype html><script>alert(1)</script>")
    with served(place, mood) as live, httpx.Client(base_url=live.address, timeout=60) as client:
        card, report = client.get("/models/told/card"), client.get("/models/told/report")
        assert card.headers["content-type"].startswith("text/plain")
        (policy,) = report.headers.get_list("content-security-policy")
        assert policy.startswith("sandbox allow-scripts; default-src 'none';")
        assert "allow-same-origin" not in policy
        assert client.get("/models/mood/report").status_code == 404
        assert client.get("/models/none/card").status_code == 404


def test_a_hub_is_asked_where_a_model_is_once_when_it_is_read(mood: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(hub_id: str, revision: str | None = None) -> Path:
        asked.append(hub_id)
        return mood

    monkeypatch.setattr(hub, "fetch", fetch)
    with served("it=me/mood") as live, httpx.Client(base_url=live.address, timeout=60) as client:
        assert asked == ["me/mood"]
        for path in ("/models", "/models/it/card", "/models/it/report", "/models/it/evaluation"):
            client.get(path)
        assert client.post("/inside", json={"inputs": "a film"}).status_code == 200
        assert client.get("/info").json()["model_id"] == "me/mood"
    assert asked == ["me/mood"]


def test_the_page_asks_for_the_key_itself(mood: Path) -> None:
    with served(mood, key="secret") as live, httpx.Client(base_url=live.address, timeout=60) as client:
        assert client.get("/").status_code == 200
        assert client.get("/page/app.js").status_code == 200
        assert client.post("/page/app.js").status_code == 401
        assert client.post("/", json={"inputs": "a film"}).status_code == 401
        for path in ("/models", "/models/mood/card", "/models/mood/report", "/models/mood/evaluation"):
            assert client.get(path).status_code == 401


def rendered(address: str, tmp_path: Path, width: int = 1280, **state: str) -> str:
    """The page as a browser has drawn it, which may reach nothing but the server and has nothing to complain of."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    command += ["--virtual-time-budget=8000", f"--window-size={width},900", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command += ["--dump-dom", f"{address}/#{urlencode(state)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr
    return done.stdout


HOSTILE = "<img src=x onerror=alert(1)>"


def evaluated(place: Path) -> Path:
    """A model's directory with an evaluation in it: of a few classes that have a matrix, of many, and of a number."""
    many = single([f"class {i}" for i in range(150)], 400)
    many = replace(many, task=TASKS["single"](replace(many.task.output, name="many")))
    stars = OutputConfig(name="stars", kind="regression")
    one = np.linspace(0, 5, 400)
    number = replace(
        many, task=TASKS["regression"](stars), expected=one.tolist(), probabilities=one[::-1].reshape(400, 1)
    )
    found = findings(single(["bad", "good", HOSTILE], 400), many, number, texts=[f"a {HOSTILE} film"] * 400)
    (place / EVALUATION).write_text(evaluation_json(found), "utf-8")
    return place


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> Iterator[Live]:
    """A server of a classifier that has an evaluation."""
    place = tmp_path_factory.mktemp("seen") / "seen"
    save_model(place, random_bert(encoder_config, MOOD), tokenizer)
    with served(evaluated(place)) as running:
        yield running


def test_the_evaluation_is_served_as_it_was_written(seen: Live, client: httpx.Client) -> None:
    with httpx.Client(base_url=seen.address) as asked:
        response = asked.get("/models/seen/evaluation")
        assert response.headers["content-type"] == "application/json"
        assert [output["name"] for output in response.json()["outputs"]] == ["label", "many", "stars"]
        assert asked.get("/models").json()["models"][0]["evaluation"]
    assert not client.get("/models").json()["models"][0]["evaluation"]
    for name in ("mood", "none"):
        assert client.get(f"/models/{name}/evaluation").status_code == 404


def cells_without_labels(written: str) -> str:
    told = json.loads(written)
    told["outputs"][0]["labels"], told["outputs"][0]["totals"] = [], []
    return json.dumps(told)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda written: written[:1000],
        lambda written: "[]",
        lambda written: written.replace('"score":', '"score":9'),
        lambda written: "[" * 100_000,
        lambda written: " " * 5_000_000,
        cells_without_labels,
    ],
)
def test_an_evaluation_that_cannot_be_read_gets_a_sentence(
    tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer, spoilt: Callable[[str], str]
) -> None:
    save_model(tmp_path / "it", random_bert(encoder_config, MOOD), tokenizer)
    written = (evaluated(tmp_path / "it") / EVALUATION).read_text("utf-8")
    (tmp_path / "it" / EVALUATION).write_text(spoilt(written))
    with served(tmp_path / "it") as live, httpx.Client(base_url=live.address) as client:
        response = client.get("/models/it/evaluation")
        assert (response.status_code, response.json()["error_type"]) == (424, "Backend")


@pytest.fixture(scope="module")
def three(
    mood: Path,
    several: Path,
    tmp_path_factory: pytest.TempPathFactory,
    encoder_config: EncoderConfig,
    tokenizer: Tokenizer,
) -> Iterator[Live]:
    """A server of two classifiers, of which one has an evaluation, and an encoder that guesses words."""
    first = tmp_path_factory.mktemp("three") / "mood"
    shutil.copytree(mood, first)
    place = first.parent / "guesser"
    save_model(
        place, random_bert(encoder_config, OutputConfig(name="mlm", kind="masked_lm", reads="masked")), tokenizer
    )
    with served(evaluated(first), several, place) as running:
        yield running


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("zh", 390)])
@pytest.mark.parametrize(
    ("view", "drawn"),
    [
        ("text", 'class="score"'),
        ("lines", 'class="lines"'),
        ("evaluation", 'class="matrix few"'),
        ("game", 'class="sentence"'),
        ("flow", 'class="flow"'),
    ],
)
def test_every_view_is_drawn_without_a_word_on_the_console(
    three: Live, tmp_path: Path, view: str, drawn: str, language: str, width: int
) -> None:
    """In both languages, on a desk and on a phone."""
    page = rendered(three.address, tmp_path, width, v=view, t="a good film", l=language)
    words = exported("words.js")[language]
    assert drawn in page
    assert all(words[f"view.{name}"] in page for name in ("text", "lines", "evaluation", "game", "flow"))
    assert 'role="alert"' not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
def test_a_browser_draws_the_state_that_is_in_the_link(live: Live, tmp_path: Path) -> None:
    drawn = rendered(live.address, tmp_path, t="a good <i>film</i>", m="several", **{"with": "mood"}, l="zh")
    assert re.search(r'<html lang="zh-Hans">', drawn)
    assert "&lt;b&gt;odd&lt;/b&gt;" in drawn
    assert "<b>odd" not in drawn
    assert drawn.count("<h2>") == 2
    assert len(re.findall(r'class="score">[\d.&lt;]+ %', drawn)) == 3 + 2 + 3
    assert re.search(r'class="word[^"]*"[^>]*>good</button>', drawn)
    assert 'role="alert"' not in drawn


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("zh", 390)])
def test_a_cell_in_the_link_shows_its_texts_and_no_label_becomes_html(
    seen: Live, tmp_path: Path, language: str, width: int
) -> None:
    drawn = rendered(seen.address, tmp_path, width, v="evaluation", l=language, x="0", y="2")
    assert len(re.findall(r'<td class="(?:right|wrong)', drawn)) == 9
    assert len(re.findall(r'aria-pressed="true"[^>]*aria-label="[^"]*bad', drawn)) == 1
    assert re.search(r'<span class="said"[^>]*>&lt;img src=x', drawn)
    assert "a &lt;img src=x onerror=alert(1)&gt; film</button><small>" in drawn
    assert "<img" not in drawn
    assert 'role="alert"' not in drawn


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
def test_of_many_classes_some_are_drawn_and_a_number_has_no_matrix(seen: Live, tmp_path: Path) -> None:
    many = rendered(seen.address, tmp_path, v="evaluation", l="en", o="many")
    assert 0 < len(re.findall(r'<td class="(?:right|wrong)', many)) <= 100
    assert many.count("<option") == 3 + 151
    assert 'class="pairs"' in many
    many_labels = httpx.get(f"{seen.address}/models/seen/evaluation").json()["outputs"][1]["labels"]
    focused = rendered(seen.address, tmp_path, v="evaluation", l="en", o="many", c=str(many_labels.index("class 7")))
    assert '<th scope="row" title="class 7">' in focused
    number = rendered(seen.address, tmp_path, v="evaluation", l="en", o="stars")
    assert "Off by" in number
    assert "off by 5" in number
    assert 'class="matrix' not in number


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
def test_labels_that_begin_alike_have_cells_of_their_own_and_a_sample_is_told_as_one(
    tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    save_model(tmp_path / "it", random_bert(encoder_config, MOOD), tokenizer)
    output = single(["a" * 200 + end for end in "123"], 400)
    found = findings(output)
    found = replace(found, metrics={**found.metrics, "examples": 20_000})
    (tmp_path / "it" / EVALUATION).write_text(evaluation_json(found), "utf-8")
    with served(tmp_path / "it") as live:
        told = httpx.get(f"{live.address}/models/it/evaluation").json()["outputs"][0]
        drawn = rendered(live.address, tmp_path, v="evaluation", l="en", x="2", y="1")
        beyond = rendered(live.address, tmp_path, v="evaluation", l="en", x="3", y="a")
    assert len(set(told["labels"])) == 1
    pressed = re.findall(r'<td class="(?:right|wrong)[^>]*><button[^>]*aria-pressed="(true|false)"', drawn)
    assert [i for i, each in enumerate(pressed) if each == "true"] == [2 * 3 + 1]
    count = next(cell["count"] for cell in told["cells"] if (cell["expected"], cell["predicted"]) == (2, 1))
    assert f'<p class="note">{count} of {told["totals"][2]} texts of' in drawn
    assert "of 400 of its 20,000 rows" in drawn
    assert 'aria-pressed="true" aria-label' not in beyond
    assert 'role="alert"' not in drawn + beyond


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser, chromium")
def test_a_model_without_an_evaluation_says_where_one_comes_from(live: Live, tmp_path: Path) -> None:
    drawn = rendered(live.address, tmp_path, v="evaluation", l="en")
    assert exported("words.js")["en"]["evaluation.none"] in drawn
    assert 'role="alert"' not in drawn
