"""What pre-training earns: masked words and next sentences, masked words alone, none; a long run and a short one.

One encoder for each row, from the same corpus with the same settings; each is evaluated on held-out documents and, by
fine-tuning with the package's defaults, on a labelled table. Without `--corpus` and `--train` the reviews of the demo
stand in.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
from sklearn.metrics import accuracy_score

from bothways import TextClassifier
from bothways.corpus.build import build_corpus
from bothways.corpus.documents import split_sentences
from bothways.corpus.shards import Corpus
from bothways.demo import chinese_reviews, split
from bothways.formats.writing import save_model
from bothways.model.config import preset
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.initialization import new_encoder
from bothways.pretraining.run import pretrain
from bothways.tokenizer import Tokenizer


def texts_of(table: pandas.DataFrame) -> list[str] | list[tuple[str, str]]:
    """The texts of a table; pairs of them if it has a column `text_pair`."""
    if "text_pair" in table:
        return list(zip(table["text"], table["text_pair"], strict=True))
    return list(table["text"])


def labelled(arguments: argparse.Namespace) -> tuple[list[list], list[list]]:
    """(training texts, their labels), (test texts, their labels)."""
    if arguments.train:
        tables = (pandas.read_csv(path, keep_default_na=False, dtype=str) for path in (arguments.train, arguments.test))
        found = [[texts_of(table), list(table[arguments.label])] for table in tables]
    else:
        train, test, _ = split(chinese_reviews())
        found = [[list(column) for column in zip(*rows, strict=True)] for rows in (train, test)]
    return found[0], found[1]


def corpus_of_reviews(folder: Path) -> Corpus:
    """The text of the reviews that nobody is tested on; those of one sentence have no next one and are left out."""
    train, _, rest = split(chinese_reviews())
    documents = [[text] for text, _ in train + rest if len(split_sentences(text)) > 1]
    tokenizer = Tokenizer.train((document[0] for document in documents), 8_000)
    return build_corpus(documents, tokenizer, folder / "corpus")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="directory written by `bothways corpus build`")
    parser.add_argument("--train", help="labelled table, .csv; of pairs if it has a column text_pair")
    parser.add_argument("--test", help="labelled table, .csv")
    parser.add_argument("--label", default="label")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 4_000], help="updates, the shorter run first")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--word2vec", action="store_true", help="start all but the untrained with word vectors")
    parser.add_argument("--seeds", type=int, default=3, help="of fine-tuning")
    arguments = parser.parse_args()
    (texts, labels), (test, truth) = labelled(arguments)
    print("| pre-training | updates | held-out words guessed | next sentences | accuracy, mean | each seed |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.open(arguments.corpus) if arguments.corpus else corpus_of_reviews(Path(folder))
        base = PretrainingConfig(batch_tokens=arguments.batch_tokens, evaluate_every=0, word2vec=arguments.word2vec)
        runs = [("none", 0, False)]
        for steps in arguments.steps:
            runs += [("masked words alone", steps, False), ("masked words and next sentences", steps, True)]
        for index, (name, steps, next_sentence) in enumerate(runs):
            encoder = Path(folder) / str(index)
            held_out = {}
            if steps:
                config = replace(base, steps=steps, next_sentence=next_sentence)
                held_out = pretrain(corpus.directory, encoder, size=arguments.preset, config=config)[-1].held_out
            else:
                save_model(
                    encoder, new_encoder(preset(arguments.preset, corpus.tokenizer.vocab_size)), corpus.tokenizer
                )
            found = []
            for seed in range(arguments.seeds):
                classifier = TextClassifier(encoder, seed=seed).fit(texts, labels)
                found.append(accuracy_score(truth, classifier.predict(test)))
            guessed = [f"{held_out[output][-1][2]:.1%}" if output in held_out else "" for output in ("mlm", "nsp")]
            each = ", ".join(f"{accuracy:.2%}" for accuracy in found)
            print(f"| {name} | {steps:,} | {' | '.join(guessed)} | {np.mean(found):.2%} | {each} |", flush=True)


if __name__ == "__main__":
    main()
