from training.translate import corpus

PAIRS = [(f"Sentence {n // 2}.", f"句子{n // 3}。") for n in range(300)] + [(f"Alone {n}!", f"单独{n}！") for n in range(400)]


def test_no_sentence_is_shared_between_parts():
    parts = corpus.split(PAIRS, dev=50, valid=100)
    assert sum(map(len, parts)) == len(PAIRS)
    for side in (0, 1):
        sentences = [{corpus.bare(pair[side]) for pair in part} for part in parts]
        assert not sentences[0] & sentences[1] and not sentences[0] & sentences[2] and not sentences[1] & sentences[2]
    assert min(map(len, parts)) > 0


def test_split_is_the_same_every_time():
    assert corpus.split(PAIRS, dev=50, valid=100) == corpus.split(PAIRS, dev=50, valid=100)


def test_groups_join_over_both_sides():
    chain = [("a", "1"), ("b", "1"), ("b", "2"), ("c", "3")]
    assert sorted(map(sorted, corpus.groups(chain))) == [[0, 1, 2], [3]]


def test_chinese_punctuation_is_full_width():
    assert corpus.tidy_zh("因为堵车, 我开会 迟到了.") == "因为堵车，我开会迟到了。"
    assert corpus.tidy_zh("我要搭10:30的火车。") == "我要搭10:30的火车。"


def test_missing_corpus_says_where_to_get_it(tmp_path):
    try:
        corpus.read_pairs(str(tmp_path / "none.tsv"))
    except SystemExit as e:
        assert "manythings.org/anki" in str(e)
    else:
        raise AssertionError
