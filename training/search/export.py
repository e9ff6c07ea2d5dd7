"""Write the trained encoder as a Hugging Face BERT folder, measure it there, and write its card.

    python -m training.search.export --work DIR --out models/search-en-zh

The scores are those of the written folder: float16 weights, loaded by transformers, run in float32.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from . import card, evaluate, start, teacher, train, vocabulary
from .heldout import read_tsv

TEMPERATURE = 0.05  # of the shares `qkv search` shows; the card's example says how they read
KEPT_PAIRS = 200  # held-out pairs that travel with the recipe, so that a test can measure the shipped model
HERE = Path(__file__).parent / "heldout" / "retrieval.tsv"


def write(bert, tokens: list[str], out: Path) -> None:
    """The folder sentence-transformers writes: transformer, mean pooling, normalisation. The pooler, which no score uses, is
    the identity, so that AutoModel finds every weight it looks for."""
    from transformers import BertModel

    full = BertModel(bert.config)
    missing, unexpected = full.load_state_dict(bert.state_dict(), strict=False)
    if unexpected or [name for name in missing if not name.startswith("pooler.")]:
        raise SystemExit(f"parameters do not match BertModel's: missing {missing}, unexpected {unexpected}")
    with torch.no_grad():
        torch.nn.init.eye_(full.pooler.dense.weight)
        full.pooler.dense.bias.zero_()
    out.mkdir(parents=True, exist_ok=True)
    full.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    vocabulary.write(tokens, out)
    hidden = bert.config.hidden_size
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files = {"modules.json": [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
                              for n, (path, kind) in enumerate(modules)],
             "1_Pooling/config.json": {"word_embedding_dimension": hidden, "pooling_mode_cls_token": False,
                                       "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
                                       "pooling_mode_mean_sqrt_len_tokens": False},
             "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
             "config_sentence_transformers.json": {"similarity_fn_name": "cosine"}}
    for name, value in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(json.dumps(value, indent=1) + "\n")


def by_part(en: np.ndarray, zh: np.ndarray, sizes: dict[str, int]) -> dict:
    """Retrieval among all rows, for all queries and for each part's."""
    scores, first = {"all": evaluate.retrieval(en, zh)}, 0
    for name, count in sizes.items():
        scores[name] = evaluate.retrieval(en, zh, np.arange(first, first + count))
        first += count
    return scores


def measure(out: Path, run_data, known: teacher.Vectors, table: np.ndarray, ids) -> dict:
    english, chinese = ([pair[side] for part in run_data.test.values() for pair in part] for side in (0, 1))
    sizes = {name: len(part) for name, part in run_data.test.items()}
    tokenizer, model = teacher.load(out)

    def embed(texts):
        return teacher.embed(tokenizer, model, texts)

    student = embed(english), embed(chinese)
    right = known(english)
    grams = evaluate.ngrams([*english, *chinese])
    bag = [evaluate.unit(np.stack([table[t].mean(0) for t in ids(part)])) for part in (english, chinese)]
    pairs = evaluate.english_pairs(right)
    true = evaluate.similarities(right, pairs)
    near = slice(0, len(english))

    def agreement(vectors):
        found = evaluate.similarities(vectors, pairs)
        return {"all": round(evaluate.spearman(found, true), 3), "near": round(evaluate.spearman(found[near], true[near]), 3)}

    noise = evaluate.unit(np.random.default_rng(1).normal(size=(2 * len(english), 64)))
    return {"pairs": sizes,
            "retrieval": {"student": by_part(*student, sizes), "closed form": by_part(*bag, sizes),
                          "character n-grams": by_part(grams[:len(english)], grams[len(english):], sizes),
                          "chance": by_part(noise[:len(english)], noise[len(english):], sizes)},
            "spearman": {"student": agreement(student[0]), "closed form": agreement(bag[0]),
                         "character n-grams": agreement(grams[:len(english)]), "chance": agreement(noise[:len(english)])},
            "temperature": TEMPERATURE, "example": evaluate.example(embed, TEMPERATURE)}


def kept_pairs(out: Path, run_data) -> dict:
    """Writes KEPT_PAIRS held-out pairs (as many of each kind as can be) beside the book list; -> the written model's scores there."""
    rng = np.random.default_rng(1)
    share = KEPT_PAIRS // len(run_data.test)
    rows = [(part[n], name) for name, part in run_data.test.items() for n in sorted(rng.permutation(len(part))[:share])]
    HERE.write_text("english\tchinese\tkind\n" + "".join(f"{en}\t{zh}\t{kind}\n" for (en, zh), kind in rows), encoding="utf-8")
    return kept_scores(out)


def kept_scores(out: Path) -> dict:
    tokenizer, model = teacher.load(out)
    rows = read_tsv(HERE)
    return evaluate.retrieval(*(teacher.embed(tokenizer, model, [row[side] for row in rows]) for side in (0, 1)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--note", default="", help="a sentence for the card's recipe: what in this run was not as the settings say")
    a = p.parse_args()
    warnings.filterwarnings("ignore")
    begun = time.time()
    settings = json.loads((a.work / "settings.json").read_text())
    kept = torch.load(a.work / "checkpoint.pt", map_location="cpu", weights_only=False)
    run_data = train.data.read(settings["corpus"], settings.get("dictionary"), (settings["titles"], settings["questions"]), settings["seed"])
    folder = a.work / "vocabulary"
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    shape = start.config(len(tokens), settings["hidden"], settings["layers"], settings["ffn"])
    bert = start.model(shape, None, settings["seed"])
    bert.load_state_dict(kept["average"], strict=False)
    write(bert, tokens, a.out)
    found = np.load(a.work / "start.npz")
    known = teacher.Vectors(a.work / "teacher")
    scores = {"schema": 1, **measure(a.out, run_data, known, found["table"], vocabulary.Ids(folder)), "kept": kept_pairs(a.out, run_data)}
    texts = known(run_data.texts()[:20000])
    step, epoch, _, seconds, history = kept["at"]
    scores["run"] = {"note": a.note, "texts": len(known.rows), "step": step, "epochs": epoch, "minutes": round(seconds / 60, 1), "history": history,
                     "train": {kind: len(part) for kind, part in run_data.train.items()},
                     "parameters": sum(q.numel() for q in bert.parameters()),
                     "bytes": sum(f.stat().st_size for f in a.out.rglob("*") if f.is_file() and f.name not in ("README.md", "scores.json")),
                     "projection_keeps": round(float((np.linalg.norm(texts @ found["turn"], axis=1) ** 2).mean()), 4),
                     "settings": {k: v for k, v in settings.items() if k not in ("corpus", "work", "dictionary", "teacher")}}
    (a.out / "scores.json").write_text(json.dumps(scores, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (a.out / "README.md").write_text(card.card(scores), encoding="utf-8")
    print(card.card(scores))
    print(f"{time.time() - begun:.0f} s")


if __name__ == "__main__":
    main()
