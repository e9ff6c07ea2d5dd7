from training.translate import align

WORDS = {"cat": "猫", "dog": "狗", "mat": "垫子", "box": "盒子", "red": "红", "big": "大"}


def test_finds_the_dictionary_behind_a_toy_corpus():
    pairs = [(f"the {a} {b} sees the {c} {d}", f"{WORDS[a]}{WORDS[b]}看{WORDS[c]}{WORDS[d]}")
             for a in ("red", "big") for b in ("cat", "dog") for c in ("red", "big") for d in ("mat", "box")]
    right = wrong = 0
    for (en, zh), found in zip(pairs, align.links(pairs)):
        for (a, b), (c, d) in found:
            if en[a:b] in WORDS:
                right += WORDS[en[a:b]] in zh[c:d]
                wrong += WORDS[en[a:b]] not in zh[c:d]
    assert right > 4 * wrong and right > len(pairs)


def test_spans_are_words():
    text = "Tom's cat isn't here, is it?"
    assert [text[a:b] for a, b in align.english_spans(text)] == ["Tom's", "cat", "isn't", "here", ",", "is", "it", "?"]
    assert "".join("我爱吃苹果"[a:b] for a, b in align.chinese_spans("我爱吃苹果")) == "我爱吃苹果"
    assert align.stem("cities") == align.stem("city") and align.stem("walked") == align.stem("walking")
