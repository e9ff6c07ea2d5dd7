"""The model card, from measured numbers."""

from training.translate.corpus import WHERE as CORPUS

from .dictionary import WHERE as DICTIONARY
from .teacher import WHERE as TEACHER

PARTS = {"all": "all", "books": "real book titles", "sentences": "sentences", "terms": "dictionary terms"}


def retrieval_lines(scores) -> str:
    names = scores["retrieval"]
    rows = ["| queries | " + " | ".join(f"{name}, top-1 | top-5" for name in names) + " |", "|---|" + "---|" * (2 * len(names))]
    total = sum(scores["pairs"].values())
    for part, text in PARTS.items():
        for way, words in (("zh-en", "Chinese → English"), ("en-zh", "English → Chinese")):
            cells = " | ".join(f"{found[part][way]['top1']} % | {found[part][way]['top5']} %" for found in names.values())
            rows.append(f"| {text} ({scores['pairs'].get(part, total)}), {words} | {cells} |")
    return "\n".join(rows)


def spearman_lines(scores) -> str:
    rows = ["| | all pairs | near pairs only |", "|---|---|---|"]
    for name, found in scores["spearman"].items():
        rows.append(f"| {name} | {found['all']:.3f} | {found['near']:.3f} |")
    return "\n".join(rows)


def example_lines(scores) -> str:
    rows = []
    for r in scores["example"]:
        rows.append(f"- {r['query']}: " + ", ".join(f"{title} {percent:.1f} % (cos {cosine:.2f})" for title, percent, cosine
                                                     in zip(r["titles"], r["percent"], r["cosine"])))
    wrong = [f"{r['query']} over {r['titles'][0]} …" for r in scores["example"] if sorted(r["percent"], reverse=True) != r["percent"]]
    if wrong:
        rows.append("\nThe order wanted is the one written. **Not reached**, the first two being exchanged: " + "; ".join(wrong) + ".")
    return "\n".join(rows)


def card(scores) -> str:
    run, total = scores["run"], sum(scores["pairs"].values())
    s, t = run["settings"], run["train"]
    return f"""---
license: cc-by-sa-4.0
language: [en, zh]
pipeline_tag: sentence-similarity
---
# search-en-zh: one space for English and Chinese titles

A BERT of {run['parameters'] / 1e6:.2f} M parameters ({run['bytes'] / 1e6:.2f} MB with its vocabulary, float16): {s['layers']} layers, hidden size {s['hidden']}, {s['hidden'] // 32} heads,
feed-forward {s['ffn']}, {s['vocabulary']} WordPieces. It turns a title or a question, English or simplified Chinese, into one vector; the
cosine of two vectors says how near their meanings are, within a language and across. Made to search book titles.
This card is written by `training/search/export.py` from measured numbers.

## Use
vector = mean of the last hidden state over a text's tokens ([CLS] and [SEP] included), divided by its length; as `modules.json` and
`1_Pooling/config.json` say. `AutoModel.from_pretrained(dir)` and `AutoTokenizer.from_pretrained(dir)` load it, sentence-transformers
too. The pooler is the identity and unused. Shares of a list of titles are softmax(cos / {scores['temperature']}).

## Example
None of these texts, the question's wording or their topics' composed titles were trained on. Shares at temperature {scores['temperature']}:
{example_lines(scores)}

## Data
- {t['sentences']} sentence pairs of the Tatoeba Project (https://tatoeba.org) as compiled and proofread by https://www.manythings.org/anki,
  CC-BY 2.0 FR: {CORPUS}.
- {t['terms']} pairs of a term and one of its glosses from CC-CEDICT, © its contributors, published by MDBG, CC BY-SA 4.0
  (https://creativecommons.org/licenses/by-sa/4.0/), cleaned and cut to short glosses: {DICTIONARY}.
- {t['titles']} titles and {t['questions']} questions composed from dictionary terms by the forms of `training/search/titles.py`; a third of
  them about sciences, arts and crafts.
- Teacher: {TEACHER}; its vectors of the English sides.

Licence of the weights: CC BY-SA 4.0, with attribution to CC-CEDICT/MDBG, tatoeba.org and manythings.org/anki.

## Recipe
The teacher's 384 dimensions are cut to {s['hidden'] - 1} (the largest singular directions keep {100 * run['projection_keeps']:.1f} % of a vector's squared length, on
average). The start is exact: the token table whose mean is nearest, by least squares, to the teacher's vector, over both
languages; a constant in dimension 0 lets an untrained stack of layers pass it through. Then AdamW, peak rate {s['rate']}, {s['warm']} warm-up
steps, linear to zero; batches of {s['batch']} pairs; loss = cosine distance of both sides to the teacher's vector of the English side +
{s['weight']} · cross-entropy of the in-batch similarity distributions (InfoNCE with the teacher's targets, temperature 0.05) + {s['answers']} · the same
between composed questions and titles, of which each names a topic of its own, against the teacher's similarities of the bare topics; averaged weights (EMA); bfloat16 products. {run['step']} steps, {run['epochs']} whole epochs, {run['minutes']} minutes of steps on two CPU cores shared with other
work; before them the teacher's vectors ({run['texts']} texts at about 1 ms of CPU time each) and the closed form (a minute or two). Seed {s['seed']}.
{run['note']}

## Scores
Retrieval among {total} held-out pairs, none of them seen in training on either side: {scores['pairs']['books']} titles of real books as they are
known in both languages (often no translation of each other), {scores['pairs']['sentences']} sentences, {scores['pairs']['terms']} dictionary terms of four or more characters.
"Closed form" is the start of training, a bag of tokens; character n-grams (1–3, tf-idf) share only digits and Latin names.
{retrieval_lines(scores)}

Rank correlation (Spearman) of cosines with the teacher's (1 by definition) over {2 * total} English pairs of the held-out texts, half of them a text and
one of its ten nearest, half random:
{spearman_lines(scores)}

## Limits
- Titles, terms and short sentences; long text comes out as its most frequent topic. Input beyond 128 tokens is cut.
- Simplified characters; a traditional one that simplified text lacks is [UNK].
- A title whose translation is not literal is found only if its words say what the book is about.
- A term of opaque characters that the dictionary part of training did not hold is guessed from its characters.
"""
