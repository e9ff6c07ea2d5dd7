"""qkv search over many titles: titles indexed a second beside sentence-transformers, and the first answer of a new process.

usage: bench/python/search.py [--model FOLDER] [--titles 100000] [--distinct N] [--peer-titles 2000] [--threads 2]
                                                    with the Python of .venv, after `make build`

Titles are 3 to 10 words drawn from the documentation, both languages, from a fixed seed; with --distinct they repeat, which shortens
the indexing and leaves the first answer as it is. The peer may use all threads or one, whichever is faster. qkv and the peer take turns on the same
titles; the first answer is the whole command, from exec to exit, with the index there (median of 15). Prints one JSON object.
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QKV = Path(os.environ.get("QKV_BUILD", ROOT / "build/release")) / "bin/qkv"


def make_titles(count):
    generator = random.Random(1)
    text = "".join(path.read_text() for path in sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")))
    words = re.findall(r"[A-Za-z]+|[\u4e00-\u9fff]{2}", text)
    return [" ".join(generator.choice(words) for _ in range(generator.randrange(3, 11))) for _ in range(count)]


def search(arguments, file, index, *more):
    start = time.perf_counter()
    done = subprocess.run([QKV, "search", "a book about quantum physics", file, "--index", index, "--model", arguments.model,
                           "--threads", str(arguments.threads), *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "models/search-en-zh"))
    parser.add_argument("--titles", type=int, default=100_000)
    parser.add_argument("--distinct", type=int)
    parser.add_argument("--peer-titles", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    distinct = make_titles(arguments.distinct or arguments.titles)
    titles = [distinct[i % len(distinct)] for i in range(arguments.titles)]
    result = {"model": Path(arguments.model).name, "titles": len(titles), "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        file, index, few = Path(folder) / "titles.txt", Path(folder) / "all.index", Path(folder) / "few.txt"
        file.write_text("\n".join(titles) + "\n")
        few.write_text("\n".join(titles[:arguments.peer_titles]) + "\n")

        import torch
        from sentence_transformers import SentenceTransformer
        peer = SentenceTransformer(arguments.model, device="cpu")
        mine, theirs = [], []
        for turn in range(3):
            for threads in {1, arguments.threads}:
                torch.set_num_threads(threads)
                start = time.perf_counter()
                peer.encode(titles[:arguments.peer_titles], batch_size=64)
                theirs.append(arguments.peer_titles / (time.perf_counter() - start))
            mine.append(arguments.peer_titles / search(arguments, few, Path(folder) / f"few{turn}.index"))
        result["sentence_transformers_titles_per_second"] = round(max(theirs))
        result["qkv_titles_per_second"] = round(max(mine))  # with the start of the process

        result["indexing_seconds"] = round(search(arguments, file, index), 1)
        result["index_mib"] = round(index.stat().st_size / 2**20, 1)
        answers = [search(arguments, file, index) for _ in range(16)][1:]
        result["first_answer_ms"] = round(1e3 * statistics.median(answers), 1)
        result["first_answer_ms_best"] = round(1e3 * min(answers), 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
