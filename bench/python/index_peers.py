"""One query against every row, as others do it: NumPy's softmax average and faiss's flat scan, over the file of `memory_index --minilm`.

usage: python3 bench/python/index_peers.py vectors.f32 [--rows 1000000] [--threads 2] [--scale 50]     with numpy, faiss-cpu

NumPy answers what qkv answers, Σ softmax(scale·q·k)·k in float32. faiss answers another question, the 10 rows with the largest products
(IndexFlatIP), which is the least that any scan must do. Medians of 9 queries that were left out of the rows, one at a time.
"""

import argparse
import os
import statistics
import time

DIM, QUERIES = 384, 9


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("vectors")
    p.add_argument("--rows", type=int, default=1_000_000)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--scale", type=float, default=50)
    a = p.parse_args()
    os.environ.update(OPENBLAS_NUM_THREADS=str(a.threads), OMP_NUM_THREADS=str(a.threads))
    import faiss
    import numpy as np

    every = np.fromfile(a.vectors, np.float32, (a.rows + QUERIES) * DIM).reshape(-1, DIM)
    keys, queries = every[:-QUERIES], every[-QUERIES:]
    faiss.omp_set_num_threads(a.threads)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(keys)

    def attend(query):
        scores = a.scale * (keys @ query)
        weights = np.exp(scores - scores.max())
        return weights @ keys / weights.sum()

    for name, answer in (("numpy " + np.__version__, attend), ("faiss " + faiss.__version__, lambda q: flat.search(q[None], 10))):
        answer(queries[0])
        times = []
        for query in queries:
            start = time.perf_counter()
            answer(query)
            times.append(time.perf_counter() - start)
        print(f"{name}: {1000 * statistics.median(times):.1f} ms for {len(keys)} rows, {a.threads} threads")


if __name__ == "__main__":
    main()
