"""The training pairs and the held-out sets: sentences (Tatoeba), terms (CC-CEDICT), composed titles and questions."""

from collections import Counter
from dataclasses import dataclass

from training.translate import corpus

from . import dictionary, heldout, titles

DEV, TEST = 300, 1000  # pairs; TEST holds every real book, the rest half sentences, half terms


@dataclass
class Data:
    train: dict[str, list[tuple[str, str]]]  # by kind: sentences, terms, titles, questions; (English, Chinese)
    dev: list[tuple[str, str]]
    test: dict[str, list[tuple[str, str]]]  # by kind: books, sentences, terms
    asker: titles.Asker  # of questions and the titles that answer them

    def texts(self) -> list[str]:
        """Every English text the teacher is asked about, each once."""
        parts = [*self.train.values(), self.dev, *self.test.values()]
        return list(dict.fromkeys(en for part in parts for en, _ in part))


def topics_of(terms, sentences) -> dict[tuple[str, str], float]:
    """The terms that books are about, but the example's, each with its weight: subjects people write books about 8 times as often; terms with a character rare
    in everyday sentences a fifth."""
    seen = Counter(c for _, zh in sentences for c in zh)
    return {(en, zh): (8.0 if dictionary.is_field(zh) else 1.0) * (1.0 if min(seen[c] for c in zh) >= 5 else 0.2) for en, zh in terms
            if dictionary.is_topic(en, zh) and zh not in heldout.EXAMPLE_TOPICS and en.lower() not in heldout.EXAMPLE_TOPICS}


def names_none_held(books):
    """Whether a pair names neither a topic of the example nor a real book."""
    kept_out = heldout.EXAMPLE_TOPICS | {zh for _, zh in books}
    return lambda en, zh: not any(text in zh or text in en.lower() for text in kept_out)


def composed(terms, sentences, books, compose: tuple[int, int], seed: int) -> dict[str, list[tuple[str, str]]]:
    """Titles and questions about the terms, none of them about a topic of the example or a real book."""
    weighted, free = topics_of(terms, sentences), names_none_held(books)
    topics, weights = list(weighted), list(weighted.values())
    subjects = [topic for topic in topics if dictionary.is_subject(topic[1])]
    alike = [1.0] * len(subjects)
    found = {}
    for n, (name, forms, more, count) in enumerate((("titles", titles.TITLES, titles.COMPOUNDS, compose[0]),
                                                    ("questions", titles.QUESTIONS, [], compose[1]))):
        drawn = titles.compose(forms, topics, weights, count, seed + n)
        if subjects:
            drawn += titles.compose(forms + more, subjects, alike, count // 2, seed + 2)
        found[name] = [(en, zh) for en, zh in dict.fromkeys(drawn) if free(en, zh)]
    return found


def asker(terms, sentences, books, held: set[str]) -> titles.Asker:
    """Who asks for ever more of them, about topics that nothing held out names."""
    free = names_none_held(books)
    kept = {topic: weight for topic, weight in topics_of(terms, sentences).items() if free(*topic) and not set(map(corpus.bare, topic)) & held}
    return titles.Asker(list(kept), list(kept.values()), held)


def read(corpus_path: str, dictionary_path: str | None, compose: tuple[int, int], seed: int) -> Data:
    """compose: how many titles and questions are drawn from all topics; half as many more from sciences, arts and crafts."""
    never, books = heldout.never(), heldout.books()
    sentences, dev_sentences, test_sentences = map(corpus.tidy, corpus.split(corpus.read_pairs(corpus_path)))
    share = (TEST - len(books)) // 2
    terms, dev_terms, test_terms = heldout.split_terms(dictionary.read(dictionary.path(dictionary_path)), DEV // 2, TEST // 2)
    held = never | {corpus.bare(text) for part in (dev_sentences, test_sentences, dev_terms, test_terms) for p in part for text in p}
    train = {"sentences": sentences, "terms": terms, **composed(terms, sentences, books, compose, seed)}
    train = {kind: [p for p in part if not {corpus.bare(p[0]), corpus.bare(p[1])} & held] for kind, part in train.items()}

    def fresh(part, count):
        """One pair of each group of variants, none of them a real title's."""
        seen, kept = set(never), []
        for en, zh in part:
            key = {corpus.bare(en), corpus.bare(zh)}
            if not key & seen:
                kept.append((en, zh))
                seen |= key
        return kept[:count]

    return Data(train, fresh(dev_sentences, DEV // 2) + dev_terms,
                {"books": books, "sentences": fresh(test_sentences, share), "terms": fresh(test_terms, TEST - len(books) - share)},
                asker(terms, sentences, books, held))

