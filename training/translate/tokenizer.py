"""One SentencePiece unigram model for both languages, its ids, and where each piece stands in the text.

Chinese is handed to the trainer with a delimiter between words, so that no piece crosses one; raw text is encoded afterwards.
Ids as Marian numbers them: </s> 0, <unk> 1, the pieces, the two target-language tokens, <pad> last.
"""

import json
import logging
import re
import unicodedata
from collections import Counter
from pathlib import Path

import sentencepiece as spm

DELIMITER = "\u0001"
LANGUAGES = ("zh", "en")
LONGEST = 16  # characters in a piece
SIZE = 8192  # with >>zh<<, >>en<< and <pad>


def chinese_words(text: str) -> list[str]:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return jieba.lcut(text)


def normalization_rules() -> str:
    """Identity but for full-width Latin letters and digits, curly apostrophes and odd spaces. Chinese punctuation stays."""
    rules = {0x2018: "'", 0x2019: "'", 0x3000: " ", 0xA0: " "}
    for code in [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]:
        rules[code] = unicodedata.normalize("NFKC", chr(code))
    return "".join(f"{code:X}\t{' '.join(f'{ord(c):X}' for c in to)}\n" for code, to in sorted(rules.items()))


def seeds(words: Counter) -> Counter:
    """Every part of every word, with its count.

    The trainer's own seeds come from a suffix array and leave out a part that never meets two different successors, so a word
    always followed by a word boundary (because, 苹果) could never become a piece.
    """
    found: Counter = Counter()
    for word, count in words.items():
        for a in range(len(word)):
            for b in range(a + 1, min(len(word), a + LONGEST) + 1):
                found[word[a:b]] += count
    return Counter({part: count for part, count in found.items() if count > 1 or len(part) == 1})


def train(english: list[str], chinese: list[str], prefix: Path, seed: int = 1, size: int = SIZE) -> None:
    segmented = [chinese_words(text) for text in chinese]
    lines = [*english, *(DELIMITER + DELIMITER.join(words) for words in segmented)]
    words = Counter(word for text in segmented for word in text if word.strip())
    for text in english:
        marked = "".join("\u2581" + word for word in text.split())
        words.update(re.findall(r"\u2581?[A-Za-z]+|\d|\u2581?[^\sA-Za-z\d\u2581]+", marked))
    rules, seed_file = prefix.with_suffix(".rules.tsv"), prefix.with_suffix(".seeds.tsv")
    rules.write_text(normalization_rules())
    seed_file.write_text("".join(f"{p}\t{n * len(p)}\n" for p, n in seeds(words).items() if "\t" not in p), encoding="utf-8")
    spm.set_random_generator_seed(seed)
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(prefix), vocab_size=size - 3, model_type="unigram",
        pretokenization_delimiter=DELIMITER, byte_fallback=True, character_coverage=0.999, split_digits=True,
        normalization_rule_tsv=str(rules), eos_id=0, unk_id=1, bos_id=-1, pad_id=-1, input_sentence_size=0,
        num_threads=2, minloglevel=2, max_sentencepiece_length=LONGEST, seed_sentencepieces_file=str(seed_file), hard_vocab_limit=True)


class Tokenizer:
    def __init__(self, model: Path):
        self.sp = spm.SentencePieceProcessor(model_file=str(model))
        count = self.sp.get_piece_size()
        self.vocab = {self.sp.id_to_piece(n): n for n in range(count)}
        for token in (*(f">>{language}<<" for language in LANGUAGES), "<pad>"):
            self.vocab[token] = len(self.vocab)
        self.to = {language: self.vocab[f">>{language}<<"] for language in LANGUAGES}
        self.eos, self.unk, self.pad = 0, 1, len(self.vocab) - 1
        self.width = []  # characters of text a piece covers; a byte piece counts -1
        for n in range(count):
            piece = self.sp.id_to_piece(n)
            self.width.append(-1 if self.sp.is_byte(n) else len(piece))

    def __len__(self) -> int:
        return len(self.vocab)

    def encode(self, text: str, sample: float = 0.0) -> list[int]:
        if sample:
            return self.sp.encode(text, enable_sampling=True, alpha=sample, nbest_size=-1)
        return self.sp.encode(text)

    def spans(self, ids: list[int], text: str) -> list[tuple[int, int]]:
        """[first, last) characters of `text` under each piece; the text must be tidy (no outer or double spaces)."""
        shown, at, spans, raw = " " + text, 0, [], b""
        for n in ids:
            width = self.width[n]
            if width < 0:
                raw += bytes([int(self.sp.id_to_piece(n)[3:5], 16)])
                whole = at < len(shown) and len(raw) >= len(shown[at].encode())
                spans.append((at, at + 1))
                if whole:
                    at, raw = at + 1, b""
            else:
                spans.append((at, at + width))
                at += width
        return [(max(a - 1, 0), max(b - 1, 0)) for a, b in spans]  # the leading space is no character of the text

    def decode(self, ids: list[int]) -> str:
        special = {self.eos, self.pad, *self.to.values()}
        return self.sp.decode([n for n in ids if n not in special])

    def save(self, directory: Path) -> None:
        """The files MarianTokenizer reads."""
        for name in ("source.spm", "target.spm"):
            (directory / name).write_bytes(self.sp.serialized_model_proto())
        (directory / "vocab.json").write_text(json.dumps(self.vocab, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        config = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "zh", "unk_token": "<unk>",
                  "eos_token": "</s>", "pad_token": "<pad>", "model_max_length": 512, "separate_vocabs": False,
                  "clean_up_tokenization_spaces": False}
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

