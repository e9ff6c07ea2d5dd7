"""Scores of an exported directory: translation by transformers, reading by the viewer's rule."""

from pathlib import Path

import torch

from .corpus import tidy_en, tidy_zh
from .reading import answer, head_weights, word_weights, words_of


def translate(directory: Path, texts: list[str], to: str, beams: int = 4, batch: int = 50) -> list[str]:
    from transformers import MarianMTModel, MarianTokenizer

    tokenizer = MarianTokenizer.from_pretrained(directory)
    model = MarianMTModel.from_pretrained(directory, dtype=torch.float32).eval()
    order, result = sorted(range(len(texts)), key=lambda n: len(texts[n])), [""] * len(texts)
    for a in range(0, len(order), batch):
        part = order[a:a + batch]
        inputs = tokenizer([f">>{to}<< {texts[n]}" for n in part], return_tensors="pt", padding=True)
        with torch.no_grad():
            out = model.generate(**inputs, num_beams=beams, max_length=100)
        for n, text in zip(part, tokenizer.batch_decode(out, skip_special_tokens=True)):
            result[n] = text.strip()
    return result


def translation(directory: Path, pairs, beams: int = 4) -> dict:
    """BLEU and chrF, one reference a line as the corpus has it; and BLEU against all references a source has."""
    import sacrebleu

    result = {}
    for source, to, cut in (("en", "zh", "zh"), ("zh", "en", "13a")):
        sources = [tidy_en(en) if source == "en" else tidy_zh(zh) for en, zh in pairs]
        goals = [zh if to == "zh" else en for en, zh in pairs]
        unique = list(dict.fromkeys(sources))
        made = dict(zip(unique, translate(directory, unique, to, beams)))
        out = [made[s] for s in sources]
        bleu = sacrebleu.BLEU(tokenize=cut)
        score = bleu.corpus_score(out, [goals])
        refs = {s: [g for t, g in zip(sources, goals) if t == s] for s in unique}
        most = max(map(len, refs.values()))
        many = [[(refs[s] + [None] * most)[n] for s in unique] for n in range(most)]
        result[f"{source}-{to}"] = {
            "bleu": round(score.score, 2), "chrf": round(sacrebleu.corpus_chrf(out, [goals]).score, 2), "lines": len(out),
            "bleu_all_references": round(sacrebleu.BLEU(tokenize=cut).corpus_score([made[s] for s in unique], many).score, 2),
            "sources": len(unique), "signature": str(bleu.get_signature()), "beams": beams}
    return result


def asked(model, tokenizer, text: str, language: str, query: str, head: str) -> dict:
    """The words a query word reads with a guided head, largest first."""
    (spans, weights), = head_weights(model, tokenizer, [text], language, head)
    words = words_of(text, language)
    at = text.index(query)
    sums = word_weights(spans, weights, (at, at + len(query)), words)
    ranked = sorted(((round(w, 3), text[a:b]) for w, (a, b) in zip(sums, words)), reverse=True)
    a, b = words[answer(spans, weights, (at, at + len(query)), words)]
    return {"text": text, "query": query, "head": head, "answer": text[a:b], "read": [[word, w] for w, word in ranked[:5]]}


def mission(directory: Path, model, tokenizer) -> dict:
    """The sentences that mission.md names."""
    source = "The cat sits on the mat"
    made = translate(directory, [source], "zh")[0]
    return {
        "reads": [asked(model, tokenizer, "那个红色的苹果看起来很好吃，我想吃掉它", "zh", "它", "coreference"),
                  asked(model, tokenizer, "The cat sat on the mat because it was tired", "en", "it", "coreference"),
                  asked(model, tokenizer, "我爱吃苹果", "zh", "苹果", "syntax")],
        "translates": {"source": source, "target": made, "cat": aligned(model, tokenizer, source, made)}}


def aligned(model, tokenizer, source: str, target: str, word: str = "猫", key: str = "cat") -> list:
    """What the steps that produce `word` read with the alignment head."""
    from .batches import under
    from .guidance import placed
    from .roles import attention

    one, two = tokenizer.encode(source), tokenizer.encode(target)
    seen = attention(model, tokenizer, [tokenizer.to["zh"], *one, tokenizer.eos], [*two, tokenizer.eos])
    block, layer, head = placed("alignment", model.shape)
    at = target.find(word)
    rows = under(tokenizer.spans(two, target), (at, at + len(word))) if at >= 0 else []
    if not rows:
        return []
    row = seen[block][layer, head][rows].mean(0)
    spans = tokenizer.spans(one, source)
    sums = [(round(float(sum(row[n + 1] for n in under(spans, w))), 3), source[w[0]:w[1]]) for w in words_of(source, "en")]
    return [[w, s] for s, w in sorted(sums, reverse=True)]
