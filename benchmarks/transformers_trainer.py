"""Fine-tune with `transformers`' Trainer as its text-classification example does: the side we are measured against.

fp32, 32 texts a step, learning rate 2e-5 falling linearly to zero, texts cut at 128 tokens. The example pads every
text to the full 128 (`--pad max_length`, its default); `--pad longest` pads to the longest text of a batch instead,
which changes no number but rounding and is the first thing a careful user of it switches on. A column `text_pair` is
read if there is one, and a label column `score` makes it a regression, as in the example.

Prints one JSON object: the seconds of `train()` alone, of the clock and of the processor, the steps taken and, on the
dev table, the accuracy and Matthews correlation, or Pearson's.
"""

import argparse
import json
import time

import numpy as np
import pandas
import torch
from sklearn.metrics import accuracy_score, matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


def tokenized(table: pandas.DataFrame, targets: list, tokenizer, pad: str) -> list[dict]:
    padding = "max_length" if pad == "max_length" else False
    pairs = list(table["text_pair"]) if "text_pair" in table else None
    encoded = tokenizer(list(table["text"]), pairs, truncation=True, max_length=128, padding=padding)
    return [{**{key: encoded[key][i] for key in encoded}, "label": target} for i, target in enumerate(targets)]


def metrics(predicted: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Of logits (rows, classes) and ids of classes, or of values (rows, 1) and values."""
    if predicted.shape[-1] == 1:
        return {"pearson": float(np.corrcoef(predicted[:, 0], expected)[0, 1])}
    said = predicted.argmax(-1)
    return {
        "accuracy": float(accuracy_score(expected, said)),
        "matthews_correlation": float(matthews_corrcoef(expected, said)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True, help="a BERT directory")
    parser.add_argument("--train", required=True, help="CSV with the columns text and label")
    parser.add_argument("--dev", required=True, help="CSV with the columns text and label")
    parser.add_argument("--label", default="label", help="the label's column, if it is another")
    parser.add_argument("--pad", choices=["max_length", "longest"], default="max_length")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early, for timing; -1: all epochs")
    parser.add_argument("--scratch", required=True, help="a folder the Trainer may write into")
    arguments = parser.parse_args()

    regression = arguments.label == "score"
    kinds = None if regression else {arguments.label: str}
    train, dev = (
        pandas.read_csv(path, keep_default_na=False, dtype=kinds) for path in (arguments.train, arguments.dev)
    )
    labels = sorted(set(train[arguments.label]))
    train_targets, dev_targets = (
        [float(label) if regression else labels.index(label) for label in table[arguments.label]]
        for table in (train, dev)
    )
    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.encoder, num_labels=1 if regression else len(labels)
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=arguments.scratch,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=32,
            learning_rate=2e-5,
            num_train_epochs=arguments.epochs,
            max_steps=arguments.max_steps,
            seed=arguments.seed,
            save_strategy="no",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
            logging_steps=100,
        ),
        train_dataset=tokenized(train, train_targets, tokenizer, arguments.pad),
        eval_dataset=tokenized(dev, dev_targets, tokenizer, arguments.pad),
        data_collator=default_data_collator if arguments.pad == "max_length" else DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda found: metrics(found.predictions, found.label_ids),
    )
    started, processor = time.perf_counter(), time.process_time()
    trainer.train()
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    result = {
        "seed": arguments.seed,
        "pad": arguments.pad,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "steps": trainer.state.global_step,
        "steps_of_an_epoch": -(-len(train) // 32),
    }
    if arguments.max_steps < 0:
        result |= {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()} | result
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
