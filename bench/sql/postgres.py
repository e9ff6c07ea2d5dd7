#!/usr/bin/env python3
"""attention() in PostgreSQL beside the same sum written in plain SQL, as vectors can be stored, and with a second process.

usage: bench/sql/postgres.py [--rows 100000] [--dim 384] [--rounds 7] [--plain-rows 100000] [--storage all|plain]

Needs numpy. Starts a server of its own with the built extension, as tests/sql does: PostgreSQL's defaults (128 MB of shared buffers, so that
rows come from the system's cache) but for jit = off, which would compile some expressions in each process for longer than it gains.
Each row holds a key and a value of --dim float32. Times are PostgreSQL's own (EXPLAIN ANALYZE, "Execution Time"), each in a session that
has read the table before, one process and two in turns. --plain-rows 0 leaves plain SQL out.
"""
import argparse
import re
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/sql"))
from postgres_server import Server  # noqa: E402

parser = argparse.ArgumentParser(description="attention() in PostgreSQL beside plain SQL")
parser.add_argument("--rows", type=int, default=100_000)
parser.add_argument("--dim", type=int, default=384)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--plain-rows", type=int, default=100_000)
parser.add_argument("--storage", choices=["all", "plain"], default="all")
options = parser.parse_args()

# The same sum: scores by unnest(k, q), then e^(s − max)·v number by number.
PLAIN = """
WITH scored AS (SELECT v, (SELECT sum(a * b) FROM unnest(k, {q}) AS u(a, b)) / sqrt({dim}) AS s FROM {table} LIMIT {rows}),
     weighted AS (SELECT v, exp(s - (SELECT max(s) FROM scored)) AS w FROM scored)
SELECT array_agg(x ORDER BY d) FROM (SELECT d, sum(w * x) / sum(w) AS x FROM weighted, unnest(v) WITH ORDINALITY AS u(x, d) GROUP BY d) t"""


def load(server):
    """Fills `staging` by COPY's binary format, in parts."""
    server.rows("CREATE UNLOGGED TABLE staging(id int, k bytea, v bytea)")
    draw, size = np.random.default_rng(1), 4 * options.dim
    record = np.dtype([("columns", ">i2"), ("size0", ">i4"), ("id", ">i4"), ("size1", ">i4"), ("k", f"V{size}"), ("size2", ">i4"), ("v", f"V{size}")])
    for start in range(0, options.rows, 50_000):
        part = np.empty(min(50_000, options.rows - start), record)
        part["columns"], part["size0"], part["size1"], part["size2"] = 3, 4, size, size
        part["id"] = np.arange(start, start + len(part))
        for column in "kv":
            part[column] = draw.normal(size=(len(part), options.dim)).astype("<f4").view(f"V{size}")[:, 0]
        file = server.folder / "rows"
        file.write_bytes(b"PGCOPY\n\xff\r\n\0" + bytes(8) + part.tobytes() + b"\xff\xff")
        file.chmod(0o644)
        server.rows(f"COPY staging FROM '{file}' (FORMAT binary)")
        file.unlink()
        print(f"\r{start + len(part)} rows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return "'" + "{" + ",".join(map(repr, draw.normal(size=options.dim).astype("f4").astype(float).tolist())) + "}'::real[]"


def milliseconds(server, query, rounds):
    """(with one process, with two) of each round."""
    explain = f"EXPLAIN (ANALYZE, TIMING OFF) {query};"
    # Without the cost of a start even the cheapest aggregate gets its second process; attention() gets it anyway.
    script = "SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_tuple_cost = 0;" + explain + (f"SET max_parallel_workers_per_gather = 0; {explain} SET max_parallel_workers_per_gather = 1; {explain}") * rounds
    plan = "\n".join(line for (line,) in server.rows(script))
    assert plan.count("Workers Launched: 1") >= rounds, plan
    times = [float(time) for time in re.findall(r"Execution Time: ([\d.]+) ms", plan)][1:]
    return list(zip(times[::2], times[1::2]))


with Server(shared_buffers="128MB", jit="off", max_wal_size="8GB") as server:
    server.rows("CREATE EXTENSION qkv")
    q = load(server)
    ways = {}
    for name, cast, storage in (("real[], STORAGE PLAIN", "vector", "PLAIN"), ("real[], STORAGE EXTERNAL", "vector", "EXTERNAL"),
                                ("real[], EXTENDED (the default)", "vector", "EXTENDED"), ("bytea, STORAGE PLAIN", "", "PLAIN")):
        if options.storage == "plain" and storage != "PLAIN":
            continue
        table = f"t{len(ways)}"
        kind = "real[]" if cast else "bytea"
        server.rows(f"CREATE UNLOGGED TABLE {table}(id int, k {kind}, v {kind}); ALTER TABLE {table} ALTER k SET STORAGE {storage}, ALTER v SET STORAGE {storage};"
                    f"INSERT INTO {table} SELECT id, {cast}(k), {cast}(v) FROM staging; VACUUM ANALYZE {table};")
        size = server.one(f"SELECT pg_size_pretty(pg_table_size('{table}'))")
        query = f"SELECT attention({q if cast else f'vector_to_bytea({q})'}, k, v) FROM {table}"
        ways[f"attention, {name}, {size}"] = query
        print(name, size, file=sys.stderr, flush=True)
    ways["attention_top(q, k, id, 10), real[], STORAGE PLAIN"] = f"SELECT attention_top({q}, k, id, 10) FROM t0"
    # What PostgreSQL's own aggregates gain by a second process on the same rows, in the same run.
    ways["avg(k[1]), max(v[1]), real[], STORAGE PLAIN"] = "SELECT avg(k[1]), max(v[1]) FROM t0"
    ways["count(*), STORAGE PLAIN"] = "SELECT count(*) FROM t0"
    server.rows("CREATE TABLE nothing(id int)")
    ways["count(*) of an empty table: what a process costs"] = "SELECT count(*) FROM nothing"
    server.rows("DROP TABLE staging")

    (version,) = server.rows("SHOW server_version")[0]
    print(f"{options.rows} rows of {options.dim} + {options.dim} float32, medians of {options.rounds} rounds; PostgreSQL {version.split()[0]}")
    print("| way | ms, one process | ms, with a second | speed-up |\n|---|---|---|---|")
    for name, query in ways.items():
        one, two = (statistics.median(taken) for taken in zip(*milliseconds(server, query, options.rounds)))
        print(f"| {name} | {one:.1f} | {two:.1f} | {one / two:.2f}× |", flush=True)
    if options.plain_rows:
        query = PLAIN.format(q=q, dim=options.dim, table="t0", rows=options.plain_rows)
        ours = np.array(server.one(f"SELECT attention({q}, k, v) FROM (SELECT * FROM t0 LIMIT {options.plain_rows}) u").strip("{}").split(","), float)
        plain = np.array(server.one(query).strip("{}").split(","), float)
        assert np.abs(ours - plain).max() < 1e-4
        taken = float(re.search(r"Execution Time: ([\d.]+)", "".join(line for (line,) in server.rows(f"EXPLAIN (ANALYZE, TIMING OFF) {query}"))).group(1))
        print(f"| plain SQL over {options.plain_rows} of the rows, once | {taken:.1f} | – | – |")
