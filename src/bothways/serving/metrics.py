"""What Prometheus is told, under the names that Text Embeddings Inference has given them."""

from __future__ import annotations

import os
import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TOKENS = tuple(float(1 << power) for power in range(3, 18))
TEXTS = tuple(float(1 << power) for power in range(0, 13))
SEVERAL_PROCESSES = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable by which the library knows that workers count together."""


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("te_request_count", "Requests.", ["method"], registry=registry)
        self.successes = Counter("te_request_success", "Requests that were answered.", ["method"], registry=registry)
        self.failures = Counter("te_request_failure", "Requests that were not answered.", ["err"], registry=registry)
        self.truncated = Counter("te_request_truncated", "Texts that were not read whole.", registry=registry)
        self.queue_size = Gauge("te_queue_size", "Texts that wait.", registry=registry, multiprocess_mode="livesum")
        self.duration, self.tokenization, self.queue, self.inference = (
            Histogram(f"te_request_{part}duration", f"Seconds of {what}.", registry=registry, buckets=SECONDS)
            for part, what in (
                ("", "a request"),
                ("tokenization_", "its tokenization"),
                ("queue_", "its waiting"),
                ("inference_", "its computing, others of its batches included"),
            )
        )
        self.input_length = Histogram("te_request_input_length", "Tokens of a text.", registry=registry, buckets=TOKENS)
        self.batch_size = Histogram("te_batch_next_size", "Texts of a batch.", registry=registry, buckets=TEXTS)
        self.batch_tokens = Histogram("te_batch_next_tokens", "Tokens of a batch.", registry=registry, buckets=TOKENS)

    def queued(self, texts: int) -> None:
        """See `batcher.Watcher`."""
        self.queue_size.set(texts)

    def batch(self, texts: int, tokens: int) -> None:
        """See `batcher.Watcher`."""
        self.batch_size.observe(texts)
        self.batch_tokens.observe(tokens)

    def text(self) -> str:
        """All of them in Prometheus' format; of all workers, if there are several."""
        registry = self.registry
        if os.environ.get(SEVERAL_PROCESSES):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        # The library adds _total to the names of counters, Text Embeddings Inference does not.
        return re.sub(r"^((?:# (?:HELP|TYPE) )?te_\w+)_total\b", r"\1", generate_latest(registry).decode(), flags=re.M)
