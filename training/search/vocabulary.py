"""The WordPiece vocabulary: BERT's special tokens, Chinese characters by frequency, English pieces learnt from the English side.

Text is folded as BERT's uncased tokenizer does: lower case, accents dropped, every Chinese character a word of its own.
"""

import json
from collections import Counter
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from .dictionary import HAN

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CONFIG = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": True, "tokenize_chinese_chars": True,
          "model_max_length": 128, "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
          "mask_token": "[MASK]"}


def train(english: list[str], chinese: list[str], size: int, characters: int) -> list[str]:
    """-> `size` tokens, of which at most `characters` are Chinese."""
    han = Counter(c for text in chinese for c in text if HAN.match(c))
    marks = Counter(c for text in chinese for c in text if not HAN.match(c) and not c.isalnum() and not c.isspace())
    tokens = [*SPECIAL, *(c for c, n in sorted(marks.items(), key=lambda x: (-x[1], x[0])) if n >= 20),
              *(c for c, _ in sorted(han.items(), key=lambda x: (-x[1], x[0]))[:characters])]
    pieces = BertWordPieceTokenizer(lowercase=True, strip_accents=True)
    pieces.train_from_iterator(english, vocab_size=size, min_frequency=2, limit_alphabet=80, special_tokens=SPECIAL, show_progress=False)
    known = set(tokens)
    learnt = sorted(pieces.get_vocab().items(), key=lambda x: x[1])  # in the order learnt: the most useful first
    return tokens + [t for t, _ in learnt if t not in known][:size - len(tokens)]


def write(tokens: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")


class Ids:
    """Text -> token ids with [CLS] and [SEP]. The fast tokenizer of the very vocabulary that ships."""

    def __init__(self, folder: Path, longest: int = 48):
        self.encoder = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True, strip_accents=True)
        self.encoder.enable_truncation(longest)

    def __len__(self):
        return self.encoder.get_vocab_size()

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.encoder.encode_batch(texts)]
