"""WordPiece (arXiv 1609.08144, section 4.1), on the `tokenizers` library: learn a vocabulary, load one, encode.

Text is cleaned and, in uncased vocabularies, lowercased without accents; cut at spaces and punctuation, every Chinese
character standing alone; then each word is cut into the longest pieces that the vocabulary has, `##` marking those that
continue a word.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import WordPieceTrainer

from bothways.errors import InputError
from bothways.long_texts import HEAD, Selection, laid_out, read_once, windows_of
from bothways.vocabulary import (
    CLS,
    LONGEST_WORD,
    MASK,
    SEP,
    SPECIAL_TOKENS,
    UNK,
    add_special_tokens,
    assemble,
    read_tokenizer,
    settings_of,
)

Text = str | Sequence[str]
"""A text, or the words of one, cut by whoever labelled them."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One text, or one pair of texts, as the encoder reads it, special tokens included; its windows end to end."""

    token_ids: np.ndarray
    """(tokens,) int32: entries of the vocabulary."""
    segment_ids: np.ndarray
    """(tokens,) int8: 0 for the first text, 1 for the second."""
    dropped: int = 0
    """How many tokens did not fit into the length asked for."""
    offsets: np.ndarray | None = None
    """(tokens, 2) int32: where each token starts and ends, in characters of its own text; (0, 0) for special tokens."""
    words: np.ndarray | None = None
    """(tokens,) int32: the word of its own text that each token is a piece of; -1 for special tokens."""
    windows: tuple[int, ...] | None = None
    """How many tokens each window has that the encoder reads by itself; None: there is one."""
    repeated: int = 0
    """How many tokens are there again: those that windows share, special tokens, the shorter text of a pair."""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def read(self) -> int:
        """How many tokens of the text are read, each counted once; with `dropped`, all that it has."""
        return len(self.token_ids) - self.repeated

    def word_of(self, tokens: np.ndarray) -> np.ndarray:
        """(n,) tokens → (n,) int32: the word of its own text that each is a piece of."""
        assert self.words is not None, "encode with_offsets to know the words"
        return self.words[tokens]

    @property
    def first_pieces(self) -> np.ndarray:
        """(words,) int64: the tokens of the first text that begin a word; a word in pieces speaks by its first."""
        assert self.words is not None, "encode with_offsets to know the words"
        begins = (self.words >= 0) & (self.segment_ids == 0)
        begins[1:] &= self.words[1:] != self.words[:-1]
        return np.flatnonzero(begins)


class Tokenizer:
    """Texts to token ids and back. Safe to share between threads: encoding changes nothing."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        missing = [token for token in SPECIAL_TOKENS if backend.token_to_id(token) is None]
        if missing:
            raise InputError(f"The vocabulary lacks {', '.join(missing)}; this is not a BERT WordPiece vocabulary.")
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        vocabulary = backend.get_vocab()
        self._vocab_size = max(vocabulary.values()) + 1  # published files may have an entry twice
        self.cls_id, self.sep_id, self.mask_id, self.unk_id = (vocabulary[token] for token in (CLS, SEP, MASK, UNK))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, lowercase: bool = True) -> Tokenizer:
        """Learn a vocabulary of at most `vocab_size` entries from `texts`, read once.

        At most as many characters as half of its entries are kept, the commonest (Chinese needs thousands of them; a
        letter takes two entries, as it is and with ##); pieces of words fill the rest.
        """
        if vocab_size > 10_000_000:
            raise InputError(f"A vocabulary of {vocab_size} entries is too large; ask for some ten thousand.")
        if vocab_size < 64:
            raise InputError(
                f"A vocabulary of {vocab_size} entries is too small; ask for 64 at least, better thousands."
            )
        backend = assemble(WordPiece(unk_token=UNK), lowercase=lowercase)
        trainer = WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            limit_alphabet=(vocab_size - len(SPECIAL_TOKENS)) // 2,
            show_progress=False,
        )
        # Words too long to be cut afterwards, as base64 is, would only take time: it grows with their square.
        too_long = Split(Regex(f"^.{{{LONGEST_WORD + 1},}}$"), behavior="removed")
        backend.pre_tokenizer = PreTokenizers([backend.pre_tokenizer, too_long])
        backend.train_from_iterator(texts, trainer)
        vocabulary = backend.get_vocab()
        if len(vocabulary) == len(SPECIAL_TOKENS):
            raise InputError("There is no text in the input, so no vocabulary was learned.")
        return cls.from_vocabulary(vocabulary, lowercase=lowercase)

    @classmethod
    def from_vocabulary(cls, vocabulary: dict[str, int], *, lowercase: bool = True) -> Tokenizer:
        """A tokenizer for a published vocabulary, token → id."""
        for token in SPECIAL_TOKENS:
            if token not in vocabulary:
                raise InputError(f"The vocabulary lacks {token}; this is not a BERT WordPiece vocabulary.")
        model = WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=LONGEST_WORD)
        backend = assemble(model, lowercase=lowercase)
        add_special_tokens(backend)
        return cls(backend)

    def extended(self, entries: Iterable[str]) -> Tokenizer:
        """One that knows more entries, behind those that it knows already."""
        described = json.loads(self.to_json())
        vocabulary = described["model"]["vocab"]
        for number, entry in enumerate(entries, start=self.vocab_size):
            vocabulary[entry] = number
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(described)))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
        """Load a directory with `tokenizer.json` or `vocab.txt`, or one of these files.

        The files beside it are read as well (see `vocabulary`). Raises InputError, naming the file, if one is missing,
        cannot be read, or asks for what is not supported.
        """
        path = Path(path)
        if path.is_dir():
            found = [path / name for name in ("tokenizer.json", "vocab.txt") if (path / name).is_file()]
            if not found:
                raise InputError(f"{path}: there is neither tokenizer.json nor vocab.txt here.")
            path = found[0]
        elif not path.is_file():
            raise InputError(f"{path}: there is no such tokenizer; name a directory with a tokenizer.json.")
        return cls(read_tokenizer(path))

    def save(self, directory: str | os.PathLike, max_length: int = 512) -> None:
        """Write `tokenizer.json`, and `tokenizer_config.json` for `transformers`, into an existing directory."""
        directory = Path(directory)
        (directory / "tokenizer.json").write_text(self._backend.to_str(pretty=True), "utf-8")
        settings = {**settings_of(self._backend), "model_max_length": max_length}
        (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")

    def to_json(self) -> str:
        """All of it, as in `tokenizer.json`."""
        return self._backend.to_str()

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary, special tokens included."""
        return self._vocab_size

    @property
    def lowercase(self) -> bool:
        """Whether letters lose case and accents."""
        normalizer = self._backend.normalizer
        return bool(getattr(normalizer, "lowercase", False))

    @property
    def splits_at_spaces(self) -> bool:
        """Whether the parts of a text between spaces are each cut as if alone."""
        added = self._backend.get_added_tokens_decoder().values()
        return (
            isinstance(self._backend.normalizer, BertNormalizer)
            and isinstance(self._backend.pre_tokenizer, BertPreTokenizer)
            and not any(" " in token.content for token in added)
        )

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides a token's id: equal fingerprints, equal encodings."""
        described = json.loads(self._backend.to_str())
        settings_to_match = {key: described[key] for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
        return hashlib.sha256(json.dumps(settings_to_match, sort_keys=True).encode()).hexdigest()[:16]

    def continues_word(self) -> np.ndarray:
        """(vocabulary,) bool: whether an entry continues a word, as those with ## do."""
        return np.array([token.startswith("##") for token in self.tokens(range(self.vocab_size))])

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Token ids → the vocabulary's own spelling, such as `##ing`."""
        return [self._backend.id_to_token(int(i)) or UNK for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids → readable text, without special tokens."""
        return self._backend.decode([int(i) for i in ids])

    def encode(
        self,
        text: Text,
        pair: Text | None = None,
        *,
        max_length: int | None = None,
        selection: Selection = HEAD,
        with_offsets: bool = False,
    ) -> Encoding:
        """One text, or a pair: `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`.

        At most `max_length` tokens, or several windows of so many, as `selection` has it; the longer text of a pair
        gives way, and if it is read in windows, the other is there in each. What is not read is counted in `dropped`.
        `with_offsets` adds character offsets and word boundaries.
        """
        pairs = None if pair is None else [pair]
        (encoding,) = self.encode_batch(
            [text], pairs, max_length=max_length, selection=selection, with_offsets=with_offsets
        )
        return encoding

    def encode_batch(
        self,
        texts: Sequence[Text],
        pairs: Sequence[Text] | None = None,
        *,
        max_length: int | None = None,
        selection: Selection = HEAD,
        with_offsets: bool = False,
    ) -> list[Encoding]:
        """Many texts, or pairs, on all cores (the library releases the interpreter lock); see `encode`."""
        pieces = self.tokenize(texts, with_offsets)
        if pairs is None:
            return [self._assemble([piece], max_length, selection, with_offsets) for piece in pieces]
        if len(pairs) != len(texts):
            raise InputError(f"{len(texts)} texts cannot be paired with {len(pairs)}; give as many of each.")
        seconds = self.tokenize(pairs, with_offsets)
        return [
            self._assemble([piece, second], max_length, selection, with_offsets)
            for piece, second in zip(pieces, seconds, strict=True)
        ]

    def tokenize(self, texts: Sequence[Text], with_offsets: bool = False) -> list[tokenizers.Encoding]:
        """Each text alone, without special tokens and of any length, as the library has it."""
        texts = list(texts)
        pretokenized = bool(texts) and not isinstance(texts[0], str)
        if pretokenized:
            texts = [list(words) for words in texts]
        encode = self._backend.encode_batch if with_offsets else self._backend.encode_batch_fast
        try:
            return encode(texts, is_pretokenized=pretokenized, add_special_tokens=False)
        except TypeError:  # how the library answers half a surrogate pair
            whole = [well_formed(text) if isinstance(text, str) else list(map(well_formed, text)) for text in texts]
            return encode(whole, is_pretokenized=pretokenized, add_special_tokens=False)

    def _assemble(
        self, pieces: Sequence[tokenizers.Encoding], max_length: int | None, selection: Selection, with_offsets: bool
    ) -> Encoding:
        lengths = [len(piece) for piece in pieces]
        windows = windows_of(lengths, None if max_length is None else max_length - 1 - len(lengths), selection)
        ids = laid_out([piece.ids for piece in pieces], windows, self.cls_id, self.sep_id)
        counts = np.array([[sum(stop - start for start, stop in spans) + 1 for spans in window] for window in windows])
        counts[:, 0] += 1  # [CLS]
        segments = np.tile(np.arange(len(pieces), dtype=np.int8), len(windows))
        read = sum(read_once(of_text) for of_text in zip(*windows, strict=True))
        offsets = words = None
        if with_offsets:
            offsets = np.array(laid_out([piece.offsets for piece in pieces], windows, (0, 0), (0, 0)), np.int32)
            known = [[-1 if word is None else word for word in piece.word_ids] for piece in pieces]
            words = np.array(laid_out(known, windows, -1, -1), np.int32)
        return Encoding(
            np.array(ids, np.int32),
            np.repeat(segments, counts.ravel()),
            sum(lengths) - read,
            offsets,
            words,
            tuple(counts.sum(1).tolist()) if len(windows) > 1 else None,
            len(ids) - read - 1 - len(pieces),
        )


def well_formed(text: str) -> str:
    """A text in which halves of surrogate pairs, which no encoding can write, are replaced by �."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
