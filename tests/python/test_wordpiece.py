"""The C++ WordPiece against transformers' BertTokenizer: the same ids for whatever people, and others, type."""

import json
import random
import shutil

import pytest
from encoders import MINILM, WORDS, Probe, load_error
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer

TEXTS = ["The cat sat on the mat.", "我想找关于量子物理的书", "Where is the nearest library?!", "naïve café Ångström", "ＡＢＣ１２３", "e\u0301 a\u0300\u0323",
         "İstanbul ıssız ẞ ΌΔΟΣ", "😀 emoji 👩‍👩‍👧 🇩🇪", "tab\tnew\nline\r\f\v\x00\x1f\x7f\x85", "a\u200bb\u00adc\ufeffd", "مرحبا بالعالم", "שלום עולם", "हिन्दी में", "한국어 텍스트",
         "[MASK] and [SEP]", "[CLS][CLS]", "[ MASK ]", "[mask]", " [MASK]\t[MASK]", "unfathomable" * 20, "x" * 100, "x" * 101, "x" * 5000, "量" * 300, "", "   ",
         "don’t “quote” — dash…", "C++/C#: a_b^c~d`e|f", "\u3000全角\u3000空格", "ﬁ ligature ½ ²", "\ud7fb\ue000\uf8ff\ufffd", "𠀀𪛖𫠝𫤠 㐀䶵", "ΑΒΓ αβγ Привет", "\U0001f9d1\u200d\U0001f680", "Iﬂ"]
ALPHABETS = ["abc XYZ.,!?-'\"()[]_ 019", "量子物理的书，。！？猫 the", "àéîõüçñÅØßæœ aeiou\u0301\u0308\u0327\u0323", "مرحبا שלום\u200e\u200f\u202e", "\x00\x01\t\n\r\x0b\x1f\x7f\x85\u00a0\u2028 ab",
             "😀👍🏽👩‍🚀🇨🇳a ", "กขคงสวัสดี ไทย हिन्दी ক", "한국어가각 ㄱㅏ ひらがなカタカナー漢字"]


def texts(count, seed):
    generator = random.Random(seed)
    yield from TEXTS
    for i in range(count):
        length = generator.randrange(1, 40)
        if i % 4 == 0:  # anything in Unicode
            yield "".join(chr(c) for c in (generator.randrange(0x20, 0x3000 if i % 8 else 0x20000) for _ in range(length)) if not 0xd800 <= c < 0xe000)
        elif i % 4 == 1:
            yield "".join(generator.choice("".join(ALPHABETS)) for _ in range(length))
        else:
            yield "".join(generator.choice(ALPHABETS[i // 4 % len(ALPHABETS)]) for _ in range(length))


@pytest.fixture(scope="module")
def minilm():
    probe = Probe(MINILM)
    yield probe
    probe.close()


def check(probe, tokenizer, text, most=None):
    answer = probe(ids=text, **({"most": most} if most else {}))
    expected = tokenizer(text, truncation=True, max_length=most or 100000)["input_ids"]
    assert answer["ids"] == expected, repr(text)
    data, reached = text.encode(), 0
    for begin, end in answer["places"]:
        assert 0 <= begin <= end <= len(data) and begin >= reached or begin == end
        data[begin:end].decode()  # whole characters
        reached = begin


def test_ids_of_a_real_vocabulary(minilm):
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    for text in texts(6000, seed=1):
        check(minilm, tokenizer, text)


def test_truncation(minilm):
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    for text in texts(300, seed=2):
        for most in (2, 3, 7, 128):
            check(minilm, tokenizer, text, most)


@pytest.mark.parametrize("settings", [
    {"do_lower_case": False}, {"do_lower_case": False, "strip_accents": True}, {"do_lower_case": True, "strip_accents": False},
    {"tokenize_chinese_chars": False}, {"do_lower_case": False, "tokenize_chinese_chars": False}])
@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_every_setting(tmp_path, settings, file):
    words = WORDS + list("ABCXYZ") + ["##" + c for c in "ABCXYZé\u0301量子"] + ["量子", "i\u0307", "##\u0307"]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, **settings)
    tokenizer.save_pretrained(tmp_path)
    if file == "vocab.txt":
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.txt").write_bytes("\n".join(words).encode())
    probe = Probe(tmp_path)
    for text in texts(1500, seed=3):
        check(probe, tokenizer, text)
    probe.close()


def test_vocab_txt_alone_and_with_windows_line_ends(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(WORDS).encode() + b"\r\n")
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    probe = Probe(tmp_path)
    for text in texts(500, seed=4):
        check(probe, tokenizer, text)
    probe.close()


def test_added_tokens(tmp_path):
    from tokenizers import AddedToken
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    tokenizer.add_tokens([AddedToken("quark", normalized=True), AddedToken("量子", normalized=False), AddedToken("<x>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.save_pretrained(tmp_path)
    probe = Probe(tmp_path)
    for text in ["a quark", "QUARK quark", "量子物理", "a  <x>  b", "<x><x> ", "Quárk", "antiquarks", "量 子 <X>"]:
        check(probe, tokenizer, text)
    probe.close()


def test_every_character():
    """The text rules, character by character, against the library that transformers stands on. Case differs only where ICU's Unicode is older."""
    probe = Probe(MINILM)
    everything = [c for c in range(1, 0x110000) if not 0xd800 <= c < 0xe000]
    rules = {"clean": {"clean_text": True}, "chinese": {"handle_chinese_chars": True}, "strip_accents": {"strip_accents": True}, "lower_case": {"lowercase": True}}
    nothing = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    for rule, switch in rules.items():
        theirs = normalizers.BertNormalizer(**{**nothing, **switch})
        different = []
        for start in range(0, len(everything), 4096):
            text = "a".join(map(chr, everything[start:start + 4096])) + "a"
            mine = "".join(map(chr, probe(normalise=text, **{name: name == rule for name in rules})["text"]))
            if mine != theirs.normalize_str(text):
                for c in everything[start:start + 4096]:
                    one = "".join(map(chr, probe(normalise=chr(c), **{name: name == rule for name in rules})["text"]))
                    if one != theirs.normalize_str(chr(c)):
                        different.append(c)
        if rule == "lower_case":
            assert len(different) < 80 and all(c > 0x1c80 for c in different), list(map(hex, different))
        else:
            assert not different, (rule, list(map(hex, different)))
    split = pre_tokenizers.BertPreTokenizer()
    answer = probe(punctuation=everything)
    for c, punctuation, space in zip(everything, answer["is"], answer["space"]):
        words = [word for word, _ in split.pre_tokenize_str(f"a{chr(c)}b")]
        assert words == (["a", "b"] if space else ["a", chr(c), "b"] if punctuation else [f"a{chr(c)}b"]), hex(c)
    probe.close()


def write(folder, **change):
    shutil.copytree(MINILM, folder, ignore=lambda _, names: [name for name in names if name == "model.safetensors"])
    content = json.loads((folder / "tokenizer.json").read_text())
    for key, value in change.items():
        content[key] = value
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize("change, said", [
    ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "model.type: expected WordPiece, got \"BPE\""),
    ({"normalizer": {"type": "NFC"}}, "normalizer.type: expected BertNormalizer, got \"NFC\""),
    ({"pre_tokenizer": {"type": "Metaspace"}}, "pre_tokenizer.type: expected BertPreTokenizer"),
    ({"post_processor": {"type": "RobertaProcessing"}}, "post_processor.type"),
    ({"model": {"type": "WordPiece", "vocab": {"a": -1}}}, "model.vocab: 'a': expected an id, got -1"),
    ({"model": {"type": "WordPiece", "vocab": ["a"]}}, "model.vocab: expected an object"),
    ({"model": {"type": "WordPiece", "vocab": {"a": 1}}, "added_tokens": []}, "'[UNK]' is missing"),
    ({"added_tokens": [{"id": 5, "content": "x", "single_word": True}]}, "single_word is not supported"),
    ({"added_tokens": [{"id": "5", "content": "x"}]}, "added_tokens: expected an object with an id"),
    ({"added_tokens": [{"id": 5}]}, "added_tokens: expected an object with content"),
    ({"normalizer": {"type": "BertNormalizer", "lowercase": "yes"}}, "tokenizer.json"),
])
def test_files_that_are_something_else(tmp_path, change, said):
    write(tmp_path / "broken", **change)
    message = load_error(tmp_path / "broken")
    assert "tokenizer.json: " in message and said in message, message


def test_broken_vocabularies(tmp_path):
    for content, said in [(b"", "is empty"), (b"[UNK]\n\xff\n", "line 2: is not valid UTF-8"), (b"a\nb\n", "'[UNK]' is missing")]:
        (tmp_path / "vocab.txt").write_bytes(content)
        assert said in load_error(tmp_path)
    assert "vocab.txt: cannot be read" in load_error(tmp_path / "nothing")
