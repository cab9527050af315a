"""Serving classifiers over HTTP, in the shapes that clients already speak.

    request ─ gate (key, size, time) ─▶ route ─ service (tokenize) ─▶ batcher ─ engine ─▶ answer

The routes of Text Embeddings Inference, vLLM's /classify, OpenAI's embeddings and the Open Inference Protocol v2 are
files in `routes/`; what they share, from texts to what the model says of them, is `service`.
"""
