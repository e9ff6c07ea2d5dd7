"""The C++ tokenizer against transformers' MarianTokenizer: the same ids and the same text for anything people type."""

import json
import random
import unicodedata

import pytest
import sentencepiece
from marian import Probe
from transformers import MarianTokenizer

TRAINING = ["The cat sits on the mat because it was tired.", "我爱吃苹果。", "那个红色的苹果看起来很好吃，我想吃掉它。", "He's 30 years old!",
            "Where is the library? It is next to the school.", "这本书是关于量子物理的。", "猫 坐在 垫子 上", "Tom said: “Good-bye, Mary.”"] * 20

TEXTS = ["The cat sits on the mat", "那个红色的苹果看起来很好吃，我想吃掉它", "  two  spaces \t tab ", "ＡＢＣ１２３", "naïve café", "😀 emoji 👩‍👩‍👧", "鿕", "x", " ",
         "don’t “quote”", "mixed 中文 and English。", "\u3000全角\u3000空格", ">>zh<< inside", "a" * 200, "ﬁ ligature", "e\u0301", "١٢٣ Привет"]


@pytest.fixture(scope="module", params=["identity", "nmt_nfkc"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text").write_text("\n".join(TRAINING), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "spm"), vocab_size=420, model_type="unigram", byte_fallback=request.param == "identity",
        normalization_rule_name=request.param, eos_id=0, unk_id=1, bos_id=-1, pad_id=-1, minloglevel=2, hard_vocab_limit=False)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    vocab = {processor.id_to_piece(n): n for n in range(processor.get_piece_size())}
    for token in (">>zh<<", ">>en<<", "<pad>"):
        vocab[token] = len(vocab)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes((folder / "spm.model").read_bytes())
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "zh", "separate_vocabs": False}))
    return folder


def texts():
    generator = random.Random(1)
    alphabet = "abcdefgh ABC 猫坐垫子苹果红色。，！?  \t'é😀１ﬁ"
    return TEXTS + ["".join(generator.choice(alphabet) for _ in range(generator.randrange(1, 40))) for _ in range(200)]


def test_ids_and_places(folder):
    tokenizer = MarianTokenizer.from_pretrained(folder)
    probe = Probe(folder)
    for text in texts():
        pieces = probe(text=text, to="zh")["pieces"]
        assert [piece["id"] for piece in pieces] == tokenizer.encode(">>zh<<" + text), text
        data = text.encode()
        reached = 0
        for piece in pieces[1:-1]:
            assert 0 <= piece["begin"] <= piece["end"] <= len(data)
            data[piece["begin"] : piece["end"]].decode()  # whole characters
            assert piece["end"] >= reached
            reached = piece["end"]
            shown = piece["text"].replace("▁", "")
            if shown and not shown.startswith("<0x") and unicodedata.normalize("NFKC", text) == text:
                assert data[piece["begin"] : piece["end"]].decode().replace(" ", "").replace("\t", "") == shown, (text, piece)
    probe.close()


def test_decoding(folder):
    tokenizer = MarianTokenizer.from_pretrained(folder)
    probe = Probe(folder)
    generator = random.Random(2)
    size = len(tokenizer.get_vocab())
    for text in texts():
        ids = tokenizer.encode("x" + text)[1:]  # a language token is no text here; transformers shows it
        answer = probe(decode=ids)
        assert answer["text"] == tokenizer.decode(ids, skip_special_tokens=True)
        assert [piece["id"] for piece in answer["pieces"]] == ids
    for _ in range(200):
        ids = [generator.randrange(size - 3) for _ in range(generator.randrange(1, 12))]
        answer = probe(decode=ids)
        assert answer["text"] == tokenizer.decode(ids, skip_special_tokens=True)
        data = answer["text"].encode()
        for piece in answer["pieces"]:
            assert 0 <= piece["begin"] <= piece["end"] <= len(data)
    probe.close()
