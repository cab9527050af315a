"""The files of a published BERT tokenizer, read as `transformers` (version 5) reads them.

tokenizer.json, vocab.txt   the entries; tokenizer.json comes first where both are there
tokenizer_config.json       how texts are cleaned, which tokens are never split; it overrules tokenizer.json
special_tokens_map.json, added_tokens.json   the same tokens in older directories, read only if tokenizer_config.json
                            has no `added_tokens_decoder`

Directories that Google published have vocab.txt alone, beside a bert_config.json (see `lowercases`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from bothways.errors import InputError
from bothways.files.json_object import read_json_object
from bothways.files.signs import require_own_content

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)
LONGEST_WORD = 100
"""Characters; a longer word is an unknown one."""

SETTINGS = "tokenizer_config.json"
GOOGLE_SETTINGS = "bert_config.json"
"""What Google's directories have in place of config.json; it says nothing of the tokenizer."""
BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer")
"""Tokenizers that take the entries alone from tokenizer.json and build the rest from the settings."""
CLEANING: dict[str, tuple[str, tuple[object, ...]]] = {
    "do_lower_case": ("lowercase", (True, False)),
    "strip_accents": ("strip_accents", (None, True, False)),
    "tokenize_chinese_chars": ("handle_chinese_chars", (True, False)),
}
"""Key of the settings → the normalizer's name for it, and its values, the default first."""
NAMED_TOKENS: dict[str, str | None] = {
    "bos_token": None,
    "eos_token": None,
    "unk_token": UNK,
    "sep_token": SEP,
    "pad_token": PAD,
    "cls_token": CLS,
    "mask_token": MASK,
}
"""Key of the settings → the one token that it may name; None: any."""
ONLY: dict[str, object] = {"truncation_side": "right", "split_special_tokens": False}
"""Settings that change token ids and that are read with this value only."""
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def assemble(model: WordPiece, **cleaning: bool | None) -> tokenizers.Tokenizer:
    """BERT's pipeline around a WordPiece vocabulary; `cleaning` is what `BertNormalizer` takes."""
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = BertNormalizer(**cleaning)  # type: ignore[arg-type]  # None is a choice
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    return backend


def add_special_tokens(backend: tokenizers.Tokenizer) -> None:
    """Keep BERT's special tokens whole, and put them where `transformers` looks for them."""
    added = {token.content for token in backend.get_added_tokens_decoder().values()}  # which may have other flags
    backend.add_special_tokens([token for token in SPECIAL_TOKENS if token not in added])
    backend.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (CLS, SEP)],
    )


def read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json or vocab.txt, with what the files beside it say, as the library's tokenizer.

    Raises InputError, naming the file, if one cannot be read, or asks for what is not supported.
    """
    settings = read_settings(path.parent)
    try:
        if path.suffix == ".txt":
            backend, entries = None, WordPiece.read_file(str(path))
        else:
            backend, entries = tokenizers.Tokenizer.from_file(str(path)), {}
    except Exception as error:  # the library raises plain Exception for whatever it cannot read
        require_own_content(path)
        raise InputError(f"{path}: this cannot be read as a tokenizer ({error}).") from None
    if backend is not None and not isinstance(backend.model, WordPiece):
        raise InputError(f"{path}: this is a {type(backend.model).__name__} tokenizer; BERT needs WordPiece.")
    number_of = entries.get if backend is None else backend.token_to_id
    if missing := [token for token in SPECIAL_TOKENS if number_of(token) is None]:
        raise InputError(f"{path}: the vocabulary lacks {', '.join(missing)}; this is not a BERT WordPiece vocabulary.")
    built_from_settings = settings["tokenizer_class"] in BERT_CLASSES
    if backend is None and not built_from_settings:
        raise InputError(
            f"{path.with_name(SETTINGS)}: tokenizer_class is {settings['tokenizer_class']!r}, which cannot be read "
            f"from vocab.txt; only {BERT_CLASSES[0]} can."
        )
    tokens = list(added_tokens(path.parent, settings, backend))
    if backend is None or (built_from_settings and not made_of(backend, settings, tokens)):
        entries = entries if backend is None else backend.get_vocab(with_added_tokens=False)
        model = WordPiece(entries, unk_token=UNK, max_input_chars_per_word=LONGEST_WORD)
        cleaning = {name: settings.get(key, values[0]) for key, (name, values) in CLEANING.items()}
        backend = assemble(model, **cleaning)
    present = {repr(token) for token in backend.get_added_tokens_decoder().values()}
    backend.add_tokens([token for token in tokens if repr(token) not in present])
    if built_from_settings:
        add_special_tokens(backend)
    return backend


def made_of(backend: tokenizers.Tokenizer, settings: dict[str, Any], tokens: list[AddedToken]) -> bool:
    """Whether a tokenizer.json is what the settings would make of its entries, as most are; building anew is slow."""
    own, usual = settings_of(backend), [AddedToken(token, special=True) for token in SPECIAL_TOKENS]
    same = all(own.get(key, values[0]) is settings.get(key, values[0]) for key, (_, values) in CLEANING.items())
    kept = set(map(repr, tokens + usual))
    added = backend.get_added_tokens_decoder().values()
    return own["tokenizer_class"] in BERT_CLASSES and same and all(repr(token) in kept for token in added)


def settings_of(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """What tokenizer_config.json has to say so that `read_tokenizer` and `transformers` make this tokenizer again."""
    normalizer, model = backend.normalizer, backend.model
    if (
        isinstance(normalizer, BertNormalizer)
        and normalizer.clean_text
        and isinstance(backend.pre_tokenizer, BertPreTokenizer)
        and (model.unk_token, model.max_input_chars_per_word) == (UNK, LONGEST_WORD)
    ):
        cleaning = {key: getattr(normalizer, name) for key, (name, _) in CLEANING.items()}
        kept = {key: cleaning[key] for key, (_, values) in CLEANING.items() if cleaning[key] != values[0]}
        return {"tokenizer_class": BERT_CLASSES[0], "do_lower_case": normalizer.lowercase, **kept}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: token for key, token in NAMED_TOKENS.items() if token is not None},
    }


def read_settings(directory: Path) -> dict[str, Any]:
    """The content of tokenizer_config.json, checked, with the class of tokenizer that `transformers` would take.

    Raises InputError, naming file and key, for a value that makes no sense or is not supported.
    """
    path = directory / SETTINGS
    settings = read_json_object(path) if path.is_file() else {}
    for key, (_, values) in CLEANING.items():
        if not any(settings.get(key, values[0]) is value for value in values):
            raise InputError(f"{path}: {key} is {settings[key]!r}; it must be true or false.")
    for key, value in ONLY.items():
        if settings.get(key, value) not in (value, None):
            raise InputError(f"{path}: {key} is {settings[key]!r}; only {value!r} is supported.")
    longest = settings.get("model_max_length")
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, (int, float)) or not longest >= 3):
        raise InputError(f"{path}: model_max_length is {longest!r}; it must be a number of tokens, 3 or more.")
    config = directory / "config.json"
    content = read_json_object(config) if config.is_file() else {}
    name = settings.get("tokenizer_class") or content.get("tokenizer_class")
    if has_only_entries(directory):
        settings = {"do_lower_case": lowercases(directory / "vocab.txt")}
        name = BERT_CLASSES[0]
    if name is None and (settings or content):
        name = BERT_CLASSES[0]
    return {**settings, "tokenizer_class": str(name).removesuffix("Fast")}


def is_google(directory: Path) -> bool:
    """Whether the settings of a model are in Google's file, and in no other."""
    return (directory / GOOGLE_SETTINGS).is_file() and not (directory / "config.json").is_file()


def has_only_entries(directory: Path) -> bool:
    """Whether a directory of Google's says no more of its tokenizer than vocab.txt does, as those published do."""
    told = any((directory / name).is_file() for name in (SETTINGS, "tokenizer.json"))
    return is_google(directory) and (directory / "vocab.txt").is_file() and not told


def lowercases(path: Path) -> bool:
    """Whether texts lose case and accents before a vocab.txt cuts them.

    Nothing in Google's directories says so, and their names only as long as they are not renamed. But a vocabulary that
    keeps case has the letters A to Z, and one that does not has none of them: no text that it was learned from had any.
    """
    letters = {*"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    with path.open(encoding="utf-8", errors="replace") as lines:
        return not any(line.strip() in letters for line in lines)


def cleaning_of_google(directory: Path) -> str:
    """What was concluded from vocab.txt, to be said; nothing for directories that have it in writing."""
    if not has_only_entries(directory):
        return ""
    if lowercases(directory / "vocab.txt"):
        return "vocab.txt has no capital letters, so texts lose case and accents"
    return "vocab.txt has capital letters, so texts keep case and accents"


def added_tokens(
    directory: Path, settings: dict[str, Any], backend: tokenizers.Tokenizer | None
) -> Iterator[AddedToken]:
    """The tokens that are never split, in the order in which they are added: those that have a number by number, then
    those with a name, then the rest."""
    path = directory / SETTINGS
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    numbered: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in settings:
        for number, entry in items_of(settings["added_tokens_decoder"], "added_tokens_decoder", path):
            if not number.isdecimal() or not isinstance(entry, dict):
                raise InputError(f"{path}: added_tokens_decoder has {number!r}: {entry!r}; it must be a number: token.")
            numbered[int(number)] = as_token(entry, "added_tokens_decoder", path)
        named = settings
    else:
        older = directory / "special_tokens_map.json"
        named = settings | (read_json_object(older) if older.is_file() else {})
        special = {content_of(named[key]) for key in NAMED_TOKENS if named.get(key)} | set(map(content_of, extra))
        older = directory / "added_tokens.json"
        for content, number in (read_json_object(older) if older.is_file() else {}).items():
            if isinstance(number, bool) or not isinstance(number, int):
                raise InputError(f"{older}: {content!r} has the number {number!r}; it must be a whole number.")
            is_special = content in special
            numbered[number] = AddedToken(content, normalized=not is_special, special=is_special)
        if backend is not None:
            numbered |= backend.get_added_tokens_decoder()
        extra = extra or named.get("extra_special_tokens") or named.get("additional_special_tokens") or []
    yield from (token for _, token in sorted(numbered.items(), key=lambda item: item[0]))
    by_content = {token.content: token for token in numbered.values()}
    for key in [*NAMED_TOKENS, *(key for key in named if key.endswith("_token") and key not in NAMED_TOKENS)]:
        value = named.get(key)
        if value is None or isinstance(value, bool):  # such as add_bos_token
            continue
        token = as_token(value, key, path)
        if (wanted := NAMED_TOKENS.get(key)) and token.content != wanted:
            raise InputError(f"{path}: {key} is {token.content!r}; only {wanted} is supported.")
        if token.content not in by_content:
            token.special = True
            by_content[token.content] = token
            yield token
    for entry in extra.values() if isinstance(extra, dict) else extra:
        token = as_token(entry, "extra_special_tokens", path)
        if token.content not in by_content:
            by_content[token.content] = token
            yield token


def items_of(value: object, key: str, path: Path) -> Iterator[tuple[str, Any]]:
    """The items of an object in a file."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: {key} is {value!r}; it must be an object.")
    yield from value.items()


def content_of(token: object) -> str:
    """What a token is written as, given as a text or as an object."""
    return str(token["content"] if isinstance(token, dict) and "content" in token else token)


def as_token(entry: object, key: str, path: Path) -> AddedToken:
    """A text, or an object with `content` and flags, as an added token."""
    if isinstance(entry, str):
        return AddedToken(entry, special=True, normalized=False)
    if isinstance(entry, dict) and isinstance(entry.get("content"), str):
        flags = {"special": key != "added_tokens_decoder", **{flag: entry[flag] for flag in FLAGS if flag in entry}}
        if all(isinstance(flag, bool) for flag in flags.values()):
            return AddedToken(entry["content"], **flags)
    raise InputError(f"{path}: {key} has {entry!r}; a token is a text, or an object with its content and flags.")
