"""A million keys for `memory_index --minilm`: MiniLM's vectors of sentences, dictionary terms, book titles and readers' questions.

usage: python3 bench/python/minilm_keys.py --corpus tatoeba-eng-cmn.tsv --work DIR --out vectors.f32 [--count 1000000]
                                                with a Python that has training/requirements.txt

Texts are English and all different: those the bilingual encoder is trained on (training/search: sentences of Tatoeba, terms of CC-CEDICT,
titles and questions composed of them), then more titles and questions from further seeds, three to one, until there are enough. Vectors lie in
DIR/teacher, as the training keeps them; run again, it goes on where it was stopped, and takes the training's for done. Products are
bfloat16 where the processor is faster at them, and vectors are rounded to float16. OUT is float32 [count, 384], in an order drawn from the seed.
"""

import argparse
import random
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from training.running import fastest_dtype  # noqa: E402
from training.search import data, heldout, teacher  # noqa: E402

TRAINED = (48_000, 24_000)  # titles and questions of training/search/train.py
ROUND = (90_000, 30_000)  # the same of each further round


def texts(corpus: str, dictionary: str | None, count: int, seed: int) -> list[str]:
    """`count` English texts, each once; the same for the same files and seed."""
    known = data.read(corpus, dictionary, TRAINED, seed)
    found = dict.fromkeys(known.texts())
    while len(found) < count:
        seed += 3  # data.composed draws from three
        before = len(found)
        drawn = data.composed(known.train["terms"], known.train["sentences"], heldout.books(), ROUND, seed)
        found.update((en, None) for pairs in drawn.values() for en, _ in pairs)
        if len(found) - before < ROUND[0] // 100:
            raise SystemExit(f"these files give {len(found)} different texts, {count} were asked for")
        print(f"composed {len(found)} of {count} texts", file=sys.stderr, flush=True)
    return list(found)[:count]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--corpus", required=True, help="Tatoeba pairs: English, Chinese, attribution, tab-separated")
    p.add_argument("--dictionary", help=f"CC-CEDICT; else from {data.dictionary.WHERE}")
    p.add_argument("--teacher", help=f"folder of MiniLM; else {teacher.WHERE}")
    p.add_argument("--work", required=True, type=Path, help="vectors are kept here")
    p.add_argument("--out", required=True, type=Path, help="file of float32 vectors")
    p.add_argument("--count", type=int, default=1_000_000)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    wanted = texts(a.corpus, a.dictionary, a.count, a.seed)
    vectors = teacher.Vectors(a.work / "teacher")
    vectors.compute(wanted, teacher.path(a.teacher), fastest_dtype(torch.device("cpu")) != torch.float32)
    random.Random(a.seed).shuffle(wanted)
    half = a.out.with_suffix(".part")
    with half.open("wb") as file:
        for start in range(0, len(wanted), teacher.CHUNK):
            file.write(vectors(wanted[start:start + teacher.CHUNK]).tobytes())
    half.replace(a.out)
    print(f"{a.out}: {len(wanted)} vectors", file=sys.stderr)


if __name__ == "__main__":
    main()
