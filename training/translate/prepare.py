"""Everything a run needs before its first step: split, tokenizer, word links, generated sentences."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path

from . import align, corpus, corpus_labels, generate, labelled_sets, lexicon, tokenizer
from .batches import Encoder, Pair


@dataclass
class Data:
    train: list[Pair]
    dev: list[tuple[str, str]]
    valid: list[tuple[str, str]]
    probes: dict = field(default_factory=dict)  # generated sentences with labels, by name of the part


def tokenizer_lines(pairs):
    """The training sentences, and the lexicon's nouns often enough to become pieces."""
    english, chinese = [en for en, _ in pairs], [zh for _, zh in pairs]
    for noun in lexicon.nouns():
        times = 2 if noun.name else 8
        english += [f"the {noun.en}"] * times + [f"the {noun.plural}"] * (times // 2 if noun.plural else 0)
        chinese += [noun.zh] * times
    return english, chinese


def linked(pairs, seed: int):
    """The aligner's links of the pairs. Generated sentences and the lexicon's nouns help it with words the corpus has rarely."""
    helpers = [(p.en, p.zh) for p in generate.pairs(seed + 98, 4000)] + [(n.en, n.zh) for n in lexicon.nouns()] * 2
    return align.links([*pairs, *helpers])[:len(pairs)]


def prepare(path: str, work: Path, seed: int):
    rows = corpus.read_pairs(path)
    train, dev, valid = corpus.split(rows)
    train = corpus.tidy(train)
    if not (work / "sp.model").exists():
        tokenizer.train(*tokenizer_lines(train), work / "sp", seed)
    kept = work / "links.pickle"
    if not kept.exists():
        kept.write_bytes(pickle.dumps(linked(train, seed)))
    found = pickle.loads(kept.read_bytes())
    never = labelled_sets.sentences()
    pairs = [Pair(en, zh, links) for (en, zh), links in zip(train, found)
             if corpus.bare(en) not in never and corpus.bare(zh) not in never]
    data = Data(pairs, dev, valid)
    for pair in pairs:
        corpus_labels.label(pair)
    data.probes = generate.probes()
    return tokenizer.Tokenizer(work / "sp.model"), data


def epoch(data: Data, encoder: Encoder, a, number: int):
    """-> examples to translate, examples whose encoder is only read."""
    examples = [encoder.example(pair, source, to) for pair in data.train for source, to in (("en", "zh"), ("zh", "en"))]
    never = labelled_sets.sentences()
    made = [pair for pair in generate.pairs(a.seed * 1000 + number, 4 * a.generated)
            if corpus.bare(pair.en) not in never and corpus.bare(pair.zh) not in never]
    examples += [encoder.example(pair, source, to) for pair in made[:a.generated] for source, to in (("en", "zh"), ("zh", "en"))]
    readings = [encoder.example(pair, source, None) for pair in made[a.generated:] for source in ("en", "zh")]
    return examples, readings
