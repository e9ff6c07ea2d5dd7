#!/usr/bin/env python3
"""attention() in SQLite beside sqlite-vec's full scan and beside fetching the rows into NumPy, in turn, over the same rows.

usage: bench/sql/sqlite.py [--rows 100000] [--dim 384] [--rounds 5] [--extension build/release/sqlite/qkv.so]

Needs numpy and sqlite-vec (pip install numpy sqlite-vec). One connection, one thread, everything in SQLite's cache. Every row holds a
key and a value of --dim float32; attention() reads both, the scan and NumPy's scores read the key, NumPy's answer the value too.
"""
import argparse
import ctypes
import sqlite3
import statistics
import time
from pathlib import Path

import numpy as np
import sqlite_vec

parser = argparse.ArgumentParser(description="attention() in SQLite beside sqlite-vec and NumPy")
parser.add_argument("--rows", type=int, default=100_000)
parser.add_argument("--dim", type=int, default=384)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--extension", default=Path(__file__).resolve().parents[2] / "build/release/sqlite/qkv.so")
options = parser.parse_args()

# Loaded through the library, as some builds of Python cannot load extensions.
library = ctypes.CDLL("libsqlite3.so.0")
library.sqlite3_auto_extension(ctypes.CDLL(str(options.extension)).sqlite3_qkv_init)
library.sqlite3_auto_extension(ctypes.CDLL(sqlite_vec.loadable_path() + ".so").sqlite3_vec_init)

db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, k, v)")
draw = np.random.default_rng(1)
for start in range(0, options.rows, 1000):
    keys, values = draw.normal(size=(2, min(1000, options.rows - start), options.dim)).astype("<f4")
    db.executemany("INSERT INTO t(k, v) VALUES(?, ?)", ((k.tobytes(), v.tobytes()) for k, v in zip(keys, values)))
query = draw.normal(size=options.dim).astype("<f4")


def qkv():
    return np.frombuffer(db.execute("SELECT attention(?, k, v) FROM t", (query.tobytes(),)).fetchone()[0], "<f4")


def qkv_top():
    return db.execute("SELECT attention_top(?, k, id, 10) FROM t", (query.tobytes(),)).fetchone()


def scan():
    return db.execute("SELECT id FROM t ORDER BY vec_distance_cosine(k, ?) LIMIT 10", (query.tobytes(),)).fetchall()


def numpy():
    rows = db.execute("SELECT k, v FROM t").fetchall()
    keys = np.frombuffer(b"".join(row[0] for row in rows), "<f4").reshape(-1, options.dim)
    values = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(-1, options.dim)
    scores = keys @ query / np.sqrt(np.float32(options.dim))
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum()


WAYS = {"attention(q, k, v)": qkv, "attention_top(q, k, id, 10)": qkv_top, "sqlite-vec full scan, LIMIT 10": scan,
        "fetched into NumPy": numpy}
assert np.abs(qkv() - numpy()).max() < 1e-4
times = {name: [] for name in WAYS}
for _ in range(options.rounds):
    for name, way in WAYS.items():
        start = time.perf_counter()
        way()
        times[name].append(time.perf_counter() - start)
ours = statistics.median(times["attention(q, k, v)"])
print(f"{options.rows} rows of {options.dim} + {options.dim} float32, medians of {options.rounds} rounds; SQLite {sqlite3.sqlite_version}, "
      f"sqlite-vec {db.execute('SELECT vec_version()').fetchone()[0]}")
print("| way | ms | attention is |\n|---|---|---|")
for name, taken in times.items():
    print(f"| {name} | {1e3 * statistics.median(taken):.1f} | {statistics.median(taken) / ours:.2f}× |")
