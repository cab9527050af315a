"""Token ids equal to `BertTokenizerFast`, on real and on hostile text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertTokenizerFast

from bothways.tokenizer import Tokenizer

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "The QUICK brown fox… isn't it?",
    "这部电影真的很好看。English混排123",
    "Café naïve Ångström ﬁne ﷺ",
    "😀 👩‍👩‍👧 🇨🇳 emoji",
    "tab\tnew\nline\r\n\x00\x07 control \u200b zero-width \ufeff bom",
    "[CLS] literal [MASK] tokens [SEP]",
    "aaaaaaaaaa" * 30,
    "㐀𠀀𪜀 rare",
    "ＦＵＬＬ　ｗｉｄｔｈ",
    "한국어 עברית العربية हिन्दी ไทย",
]


def generated(count: int) -> list[str]:
    """Strings from every corner of Unicode, pieces of words, marks and spaces in any order."""
    chance = random.Random(0)
    corners = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0, 0x20)]
    corners += [(0x2000, 0x2070), (0x3000, 0x3040), (0x20000, 0x20100), (0x370, 0x1000), (0xAC00, 0xD7A4)]
    words = ["the", "un", "##ing", "film", "[MASK]", "电影", "'s", "...", "  ", "Ünder", "2024", "don't"]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(chance.randrange(1, 20)):
            if chance.random() < 0.4:
                parts.append(chance.choice(words))
            else:
                low, high = chance.choice(corners)
                parts.append("".join(chr(chance.randrange(low, high)) for _ in range(chance.randrange(1, 6))))
            parts.append(chance.choice(["", " ", " "]))
        texts.append("".join(parts))
    return texts


@pytest.fixture(scope="module")
def both(minilm: Path) -> tuple[Tokenizer, BertTokenizerFast]:
    return Tokenizer.load(minilm), BertTokenizerFast.from_pretrained(minilm)


def test_ten_thousand_generated_strings(both: tuple[Tokenizer, BertTokenizerFast]) -> None:
    ours, theirs = both
    texts = TEXTS + generated(10_000)
    expected = theirs(texts)["input_ids"]
    for text, encoding, ids in zip(texts, ours.encode_batch(texts), expected, strict=True):
        assert encoding.token_ids.tolist() == ids, repr(text)
        assert encoding.dropped == 0


@pytest.mark.parametrize("max_length", [8, 9, 32])
def test_pairs_are_cut_alike(both: tuple[Tokenizer, BertTokenizerFast], max_length: int) -> None:
    ours, theirs = both
    texts = generated(500)
    firsts, seconds = texts[:250], texts[250:]
    expected = theirs(firsts, seconds, truncation=True, max_length=max_length)
    whole = theirs(firsts, seconds)["input_ids"]
    for i, encoding in enumerate(ours.encode_batch(firsts, seconds, max_length=max_length)):
        assert encoding.token_ids.tolist() == expected["input_ids"][i]
        assert encoding.segment_ids.tolist() == expected["token_type_ids"][i]
        assert encoding.dropped == len(whole[i]) - len(expected["input_ids"][i])


def test_offsets_and_words(both: tuple[Tokenizer, BertTokenizerFast]) -> None:
    ours, theirs = both
    for text in TEXTS:
        encoding = ours.encode(text, with_offsets=True)
        expected = theirs(text, return_offsets_mapping=True)
        assert [tuple(pair) for pair in encoding.offsets.tolist()] == expected["offset_mapping"]
        assert [None if w < 0 else w for w in encoding.words] == expected.word_ids()


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocab_txt_alone(minilm: Path, tmp_path: Path, lowercase: bool) -> None:
    (tmp_path / "vocab.txt").write_bytes((minilm / "vocab.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(lowercase).lower()}}}')
    theirs = BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=lowercase)
    ours = Tokenizer.load(tmp_path)
    assert ours.lowercase == lowercase
    for text in TEXTS:
        assert ours.encode(text).token_ids.tolist() == theirs(text)["input_ids"], text


def test_a_trained_tokenizer_is_the_same_everywhere(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """After training, after loading here, and after loading in `transformers`."""
    tokenizer.save(tmp_path)
    again, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    for text in TEXTS:
        ids = tokenizer.encode(text).token_ids.tolist()
        assert ids == again.encode(text).token_ids.tolist() == theirs(text)["input_ids"]
    pair = tokenizer.encode("屏幕很好", "the film")
    assert pair.token_ids.tolist() == theirs("屏幕很好", "the film")["input_ids"]
    assert theirs.mask_token_id == tokenizer.mask_id
    assert tokenizer.tokens(tokenizer.encode("很好 [MASK]").token_ids) == ["[CLS]", "很", "好", "[MASK]", "[SEP]"]
