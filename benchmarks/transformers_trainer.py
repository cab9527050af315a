"""Fine-tune with `transformers`' Trainer as its text-classification example does: the side we are measured against.

fp32, 32 texts a step, learning rate 2e-5 falling linearly to zero, texts cut at 128 tokens. The example pads every
text to the full 128 (`--pad max_length`, its default); `--pad longest` pads to the longest text of a batch instead,
which changes no number but rounding and is the first thing a careful user of it switches on.

Prints one JSON object: the seconds of `train()` alone, the steps taken and the accuracy on the dev table.
"""

import argparse
import json
import time

import pandas
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


def tokenized(table: pandas.DataFrame, labels: list[str], tokenizer, pad: str) -> list[dict]:
    padding = "max_length" if pad == "max_length" else False
    encoded = tokenizer(list(table["text"]), truncation=True, max_length=128, padding=padding)
    return [
        {**{key: encoded[key][i] for key in encoded}, "label": labels.index(label)}
        for i, label in enumerate(table["label"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True, help="a BERT directory")
    parser.add_argument("--train", required=True, help="CSV with the columns text and label")
    parser.add_argument("--dev", required=True, help="CSV with the columns text and label")
    parser.add_argument("--pad", choices=["max_length", "longest"], default="max_length")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early, for timing; -1: one whole epoch")
    parser.add_argument("--scratch", required=True, help="a folder the Trainer may write into")
    arguments = parser.parse_args()

    train = pandas.read_csv(arguments.train, keep_default_na=False)
    dev = pandas.read_csv(arguments.dev, keep_default_na=False)
    labels = sorted(set(train["label"]))
    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.encoder, num_labels=len(labels))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=arguments.scratch,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=32,
            learning_rate=2e-5,
            num_train_epochs=1,
            max_steps=arguments.max_steps,
            seed=arguments.seed,
            save_strategy="no",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
            logging_steps=100,
        ),
        train_dataset=tokenized(train, labels, tokenizer, arguments.pad),
        eval_dataset=tokenized(dev, labels, tokenizer, arguments.pad),
        data_collator=default_data_collator if arguments.pad == "max_length" else DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    result = {
        "seed": arguments.seed,
        "pad": arguments.pad,
        "seconds": round(seconds, 2),
        "steps": trainer.state.global_step,
        "steps_of_an_epoch": -(-len(train) // 32),
    }
    if arguments.max_steps < 0:
        result["accuracy"] = trainer.evaluate()["eval_accuracy"]
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
