"""The model card, from measured numbers."""

from .corpus import WHERE


def reading_lines(scores) -> str:
    rows = ["| sentences | English | Chinese |", "|---|---|---|"]
    names = {"seen": "new sentences, seen nouns and lines", "nouns": "nouns never generated in training",
             "frames": "relations, predicates and frames never used in training", "both": "neither seen"}
    for part, text in names.items():
        en, zh = (scores["reading"].get(f"{part}-{language}") for language in ("en", "zh"))
        if en is not None:
            rows.append(f"| generated: {text} | {en} % | {zh} % |")
    sets = {"everyday": "plain everyday sentences", "hard": "hard (Winograd-like) sentences, where only sense decides"}
    for name_of_set, text in sets.items():
        hand = scores["hand"][name_of_set]
        if not hand:
            continue

        def both(key, hand=hand):
            return " | ".join(f"{hand[x][key]} %" if x in hand else "–" for x in ("en", "zh"))

        counts = " + ".join(str(hand[x]["count"]) for x in ("en", "zh") if x in hand)
        rows.append(f"| **{text}, written by hand, blind ({counts})** | {both('right')} |")
        rows.append(f"| – always the first of the two nouns | {both('first_noun')} |")
        rows.append(f"| – always the nearest | {both('nearest_noun')} |")
        for name in sorted({n for x in hand.values() for n in x["by"]}):
            cells = ["{} of {}".format(*hand[x]["by"][name]) if name in hand.get(x, {}).get("by", {}) else "–" for x in ("en", "zh")]
            rows.append(f"| – {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def translation_lines(scores) -> str:
    rows = ["| direction | BLEU | chrF | BLEU, all references of a source | lines |", "|---|---|---|---|---|"]
    for key, name in (("en-zh", "English → Chinese"), ("zh-en", "Chinese → English")):
        s = scores["translation"][key]
        rows.append(f"| {name} | {s['bleu']} | {s['chrf']} | {s['bleu_all_references']} | {s['lines']} |")
    return "\n".join(rows)


def aligned_line(scores) -> str:
    hand = "; ".join(f"{way}: {s['right']} % of {s['words']} words in {s['pairs']} pairs aligned by hand"
                     for way, s in scores["hand"]["alignment"].items())
    return f"{hand + '; ' if hand else ''}{100 * scores['alignment']:.1f} % against the aligner's own links on held-out pairs."


def head_lines(found) -> str:
    rows = ["| block | layer | head | role | score | chance | guided |", "|---|---|---|---|---|---|---|"]
    for h in found["heads"]:
        rows.append(f"| {h['block']} | {h['layer']} | {h['head']} | {h['role']} | {h['score']:.2f} | {h['chance']:.2f} "
                    f"| {'yes' if h['guided'] else ''} |")
    return "\n".join(rows)


def sentence_lines(scores) -> str:
    rows = []
    for r in scores["sentences"]["reads"]:
        read = ", ".join(f"{word} {weight:.2f}" for word, weight in r["read"])
        rows.append(f"- {r['text']} – **{r['query']}** ({r['head']} head) reads {read}")
    t = scores["sentences"]["translates"]
    cat = ", ".join(f"{word} {weight:.2f}" for word, weight in t["cat"][:3]) or "no 猫 in the translation"
    rows.append(f"- {t['source']} → {t['target']}; the step that produces 猫 reads {cat} (alignment head)")
    return "\n".join(rows)


def card(run, scores, found) -> str:
    arguments = run["arguments"]
    places = "; ".join(f"{name}: {p['block']} layer {p['layer']}, head {p['head']}" for name, p in scores["guided"].items())
    signature = scores["translation"]["en-zh"]["signature"]
    other = scores["translation"]["zh-en"]["signature"]
    return f"""---
license: cc-by-2.0
language: [en, zh]
pipeline_tag: translation
---
# translate-en-zh: English ↔ Chinese, small enough to look into

A Marian encoder-decoder of {run['parameters'] / 1e6:.2f} M parameters ({run['bytes'] / 1e6:.1f} MB in float16) that translates both ways and whose
attention is worth reading: three heads were trained with guidance (below), every head's role is measured in `roles.json`.
This card is written by `training/translate/export.py` from measured numbers.

## Use
The first source token names the target language: `>>zh<< The dog is asleep.` or `>>en<< 狗睡着了。`
`MarianMTModel.from_pretrained(dir)` and `MarianTokenizer.from_pretrained(dir)` load it. The encoder's attention is read on the
sentence with the other language's token in front and `</s>` at the end.

## Data
- {run['train']} sentence pairs for training, {run['dev']} for picking settings, {run['valid']} for the scores below; split by connected groups, so
  that no sentence of the latter two occurs in training on either side. Source: the Tatoeba Project (https://tatoeba.org) as
  compiled and proofread by https://www.manythings.org/anki, licence CC-BY 2.0 FR. The corpus is not part of this repository:
  {WHERE}.
- {arguments['generated']} generated sentence pairs an epoch for translation and {3 * int(arguments['generated'])} more for reading pronouns, drawn anew each epoch
  (`training/translate/generate.py`, word lists in `training/translate/lexicon/`, written for this project).

Licence of the weights: CC-BY 2.0 FR, with attribution to tatoeba.org and manythings.org/anki.

## Recipe
One SentencePiece unigram model of 8192 ids with byte fallback, trained on word-segmented Chinese (pieces stay inside words; no
segmentation is needed to use it). {arguments['encoder_layers']} encoder and {arguments['decoder_layers']} decoder layers, d_model 256, FFN 1024, 8 heads, swish, post-norm.
AdamW, peak rate {arguments['rate']}, {arguments['warm']} warm-up steps, then linear to zero; dropout {arguments['dropout']}; label smoothing {arguments['smoothing']};
sub-word sampling (alpha {arguments['sample']}); batches of {arguments['tokens']} tokens a side; averaged weights (EMA); bfloat16 products. {run['step']} steps,
{run['epochs']} epochs, {run['minutes']} minutes on two shared CPU cores. Seed {arguments['seed']}.
{run['note']}

## Guided heads
{places}. Layers and heads count from 0. All other heads are free.
- coreference (encoder): the pieces of a pronoun are taught to read the pieces of its antecedent, on generated sentences and on
  corpus sentences with one possible name.
- syntax (encoder): in plain generated sentences an object reads its verb most, the verb above it less, the subject least; an
  adjective reads its noun.
- alignment (decoder's cross-attention): the step that produces a piece (its input is the piece before) reads the source pieces
  that IBM model 2, trained both ways on the training pairs, links to it.

## Scores
Translation of the {run['valid']} held-out pairs, beam 4, float16 weights run by transformers in float32.
{translation_lines(scores)}

sacrebleu signatures: `{signature}`, `{other}`.

Pronouns read right (the word with the largest summed weight, pronoun and special tokens left out):
{reading_lines(scores)}

Alignment head (linked target words whose producing steps read a linked source word most): {aligned_line(scores)}

{sentence_lines(scores)}

## What the heads do
Share of labelled queries whose most-read word or piece is the right one, beside chance (`roles.json` has every role's score).
{head_lines(found)}

## Limits
- It knows the language of short everyday sentences: names, weather, meals, school. Long or technical text comes out wrong.
- Which of two people a pronoun means is often a matter of the world; the coreference head was taught common causes only.
- A guided head shows what it was taught to show. It is a reader of pronouns, not a window on why the translation came out so.
- Gender: Chinese 他/她 and English he/she are translated by what the corpus has most.
"""
