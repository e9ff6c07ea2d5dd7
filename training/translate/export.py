"""Write the trained model as a Hugging Face Marian directory, measure it there, and write its card.

    python -m training.translate.export --work DIR --out models/translate-en-zh

The scores are those of the written directory: float16 weights, loaded by transformers.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import torch

from . import card, corpus, evaluate, labelled_sets, prepare, roles
from .batches import Pair
from .model import Marian, Shape
from .guidance import HEADS, placed
from .reading import coreference_scores


def load(work: Path, tokenizer) -> tuple[Marian, dict]:
    """The averaged weights, rounded to float16 as they will be shipped."""
    kept = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=False)
    model = Marian(Shape(**kept["shape"]))
    model.load_state_dict({name: value.detach().half().float() for name, value in kept["average"].items()}, strict=False)
    return model.eval(), kept


def write(model: Marian, tokenizer, out: Path) -> None:
    from transformers import GenerationConfig, MarianConfig, MarianMTModel

    out.mkdir(parents=True, exist_ok=True)
    config = model.shape.marian_config()
    full = MarianMTModel(MarianConfig(**{k: v for k, v in config.items()
                                         if k not in ("num_beams", "max_length", "bad_words_ids", "architectures")}))
    missing, unexpected = full.load_state_dict(model.state_dict(), strict=False)
    lost = [name for name in missing if not any(x in name for x in ("embed_positions", "embed_tokens", "final_logits_bias", "lm_head"))]
    if lost or unexpected:
        raise SystemExit(f"parameters do not match Marian's: missing {lost}, unexpected {unexpected}")
    full.generation_config = GenerationConfig(
        num_beams=4, max_length=config["max_length"], bad_words_ids=config["bad_words_ids"], eos_token_id=0, forced_eos_token_id=0,
        bos_token_id=0, pad_token_id=config["pad_token_id"], decoder_start_token_id=config["pad_token_id"])
    full.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save(out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--labelled", type=Path, default=labelled_sets.HERE, help="hand-labelled sets (see labelled/README.md)")
    p.add_argument("--note", default="", help="a sentence for the card's recipe: what in this run was not as the settings say")
    p.add_argument("--quick", action="store_true", help="write the files, measure nothing")
    a = p.parse_args()
    warnings.filterwarnings("ignore")
    settings = json.loads((a.work / "settings.json").read_text())
    tokenizer, data = prepare.prepare(settings["corpus"], a.work, settings["seed"])
    model, kept = load(a.work, tokenizer)
    write(model, tokenizer, a.out)
    if a.quick:
        return
    start = time.time()
    scores = {"translation": evaluate.translation(a.out, data.valid), "reading": coreference_scores(model, tokenizer, data.probes)}
    print(json.dumps(scores, ensure_ascii=False), f"{time.time() - start:.0f} s", flush=True)
    dev = [(corpus.tidy_en(en), corpus.tidy_zh(zh)) for en, zh in data.dev]
    train = [(p.en, p.zh) for p in data.train]
    aligned = [Pair(en, zh, found) for (en, zh), found in zip(dev, prepare.linked([*dev, *train], settings["seed"]))]
    found = roles.measure(model, tokenizer, aligned, a.labelled)
    roles.write(a.out / "roles.json", found)
    scores["hand"] = {"everyday": labelled_sets.coreference(model, tokenizer, a.labelled, "everyday"),
                      "hard": labelled_sets.coreference(model, tokenizer, a.labelled, "coreference"),
                      "alignment": labelled_sets.alignment(model, tokenizer, a.labelled)}
    scores["alignment"] = next(h for h in found["heads"] if h["guided"] and h["role"] == "alignment")["score"]
    scores["sentences"] = evaluate.mission(a.out, model, tokenizer)
    scores["guided"] = {name: dict(zip(("block", "layer", "head"), placed(name, model.shape))) for name in HEADS}
    run = {"note": a.note, "step": kept["at"][0], "epochs": kept["at"][1], "minutes": round(kept["at"][3] / 60, 1), "arguments": kept["arguments"],
           "train": len(data.train), "dev": len(data.dev), "valid": len(data.valid), "history": kept["at"][4],
           "parameters": sum(q.numel() for q in model.parameters()),
           "bytes": (a.out / "model.safetensors").stat().st_size}
    (a.out / "scores.json").write_text(json.dumps({"schema": 1, **scores}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (a.out / "README.md").write_text(card.card(run, scores, found), encoding="utf-8")
    print(json.dumps(scores, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
