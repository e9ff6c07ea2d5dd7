from training.translate import generate
from training.translate.corpus import bare


def test_same_seed_same_sentences():
    assert generate.pairs(3, 200) == generate.pairs(3, 200)
    assert generate.pairs(3, 50) != generate.pairs(4, 50)


def test_spans_lie_on_pronouns_and_nouns_before_them():
    pronouns = {"en": {"he", "him", "his", "she", "her", "it", "its", "they", "them", "their"},
                "zh": {p + end for p in ("他", "她", "它", "他们", "她们", "它们") for end in ("", "的")}}
    for pair in generate.pairs(5, 1500):
        for language in ("en", "zh"):
            text = pair.text(language)
            for (a, b), keys in pair.coreference[language]:
                assert text[a:b].lower() in pronouns[language], (text, text[a:b])
                assert keys and all(c < d <= a for (c, d), _ in keys), text


def test_links_and_syntax_lie_inside_the_text():
    for pair in generate.pairs(6, 500):
        for (a, b), (c, d) in pair.links:
            assert 0 <= a < b <= len(pair.en) and 0 <= c < d <= len(pair.zh)
        for language in ("en", "zh"):
            for (a, b), keys in pair.syntax[language]:
                assert pair.text(language)[a:b].strip() and all(pair.text(language)[c:d].strip() for (c, d), _ in keys)


def test_the_deciding_word_changes_the_answer():
    made, flips = generate.pairs(7, 3000), 0
    for one, two in zip(made, made[1:]):
        if one.coreference["en"] and two.coreference["en"]:
            (q, k), (r, m) = one.coreference["en"][0], two.coreference["en"][0]
            flips += one.en[:q[0]] == two.en[:r[0]] and one.en[slice(*q)] == two.en[slice(*r)] and k != m
    assert flips > 100


def test_held_out_lines_and_nouns_stay_out():
    lines = [*generate.relations(), *generate.predicates(), *generate.frames()]
    out = [x for x in lines if x.held_out]
    assert 0.05 < len(out) / len(lines) < 0.2
    maker = generate.Maker(1, False, False)
    assert not any(x.held_out for x in [*maker.relations, *maker.predicates, *maker.frames])
    assert not any(generate.noun_held_out(n) for found in maker.nouns.values() for n in found)


def test_the_sentences_people_will_try_are_not_trained_on():
    made = {bare(text) for p in generate.pairs(8, 3000) for text in (p.en, p.zh)}
    assert not made & generate.ASKED


def test_antecedents_stand_first_and_later():
    first = later = 0
    for pair in generate.pairs(9, 2000):
        for query, keys in pair.coreference["zh"]:
            others = [a for a, _ in ((z, e) for e, z in pair.links) if a[0] < query[0]]
            if len(others) > 1:
                first += keys[0][0] == min(others)
                later += keys[0][0] != min(others)
    assert 0.25 < first / (first + later) < 0.75
