"""The PostgreSQL extension: pg_regress, the bits of SQLite's, windows, parallel plans, shards, and what an error leaves behind."""
import json
import math
import os
import random
import subprocess

import numpy as np
import pytest

from postgres_server import BUILD, ROOT, Server, SqlError
from sqlite_extension import connect

BOUND = 4e-5  # as in test_sqlite.py
PARALLEL = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;"
ALONE = "SET max_parallel_workers_per_gather = 0;"


@pytest.fixture(scope="session")
def server():
    with Server() as started:
        started.rows("CREATE DATABASE plain")
        started.rows("CREATE EXTENSION qkv")
        yield started


def blob(vector):
    return np.asarray(vector, dtype="<f4").tobytes()


def array(text):
    """A vector that psql printed: real[] or bytea."""
    if text.startswith("\\x"):
        return np.frombuffer(bytes.fromhex(text[2:]), "<f4")
    return np.array([float(x) for x in text.strip("{}").split(",")], "f4")


def copy(server, table, columns, rows, options=""):
    """Makes a table; None is NULL."""
    lines = "".join("\t".join("\\N" if cell is None else str(cell).replace("\\", "\\\\") for cell in row) + "\n" for row in rows)
    server.rows(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table}({columns}) {options};\nCOPY {table} FROM STDIN;\n{lines}\\.\nANALYZE {table};\n")


def literal(vector):
    return "{" + ",".join(repr(float(x)) for x in np.asarray(vector, "f4")) + "}"


@pytest.fixture(scope="module")
def both(server):
    """The same 700 rows in both databases: id, key and value as vectors and as bytes, a number, a score; some keys are NULL."""
    draw = np.random.default_rng(3)
    keys, values = draw.normal(size=(700, 24)).astype("f4"), draw.uniform(-1, 1, size=(700, 5)).astype("f4")
    scores = draw.uniform(-20, 20, size=700)
    scores[::50] = -math.inf
    lite = connect()
    lite.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, k, v, x, s)")
    rows = []
    for i in range(700):
        hidden = i % 9 == 4
        lite.execute("INSERT INTO t VALUES(?,?,?,?,?)", (i, None if hidden else blob(keys[i]), blob(values[i]), i / 7, scores[i]))
        rows.append((i, None if hidden else literal(keys[i]), literal(values[i]), None if hidden else "\\x" + keys[i].tobytes().hex(),
                     "\\x" + values[i].tobytes().hex(), repr(i / 7), repr(float(scores[i]))))
    copy(server, "t", "id int, k real[], v real[], kb bytea, vb bytea, x float8, s float8", rows)
    query = draw.normal(size=24).astype("f4")
    yield lite, server, query
    lite.close()


def test_regress(server):
    """What stands in regress/sql/qkv.sql prints what stands in regress/expected/qkv.out, by `make installcheck`."""
    done = subprocess.run(["make", "-C", str(ROOT / "sql/postgres"), "installcheck", f"PG_CONFIG={server.pg_config}", f"BUILD={server.folder}"],
                          env={**os.environ, **server.environment}, capture_output=True, text=True)
    differences = server.folder / "postgres/regress/regression.diffs"
    assert done.returncode == 0, differences.read_text() if differences.exists() else done.stdout + done.stderr


@pytest.mark.parametrize("scale", ["", ", 0.01", ", 3.0", ", -1.0"])
@pytest.mark.parametrize("key, value", [("k", "v"), ("k", "vb"), ("kb", "vb"), ("kb", "v"), ("k", "x"), ("kb", "x")])
def test_attention_has_the_bits_of_sqlite(both, key, value, scale):
    lite, server, query = both
    (theirs,) = lite.execute(f"SELECT attention(?, k, {value[0]}{scale}) FROM t", (blob(query),)).fetchone()
    q = f"'{literal(query)}'::real[]" if key == "k" else f"'\\x{blob(query).hex()}'::bytea"
    ours = server.one(f"{ALONE} SELECT attention({q}, {key}, {value}{scale}) FROM t")
    if value == "x":
        assert float(ours) == theirs
    else:
        assert array(ours).tobytes() == theirs
    state, final = server.rows(f"{ALONE} SELECT s, vector_to_json(attention_final(s)) FROM (SELECT attention_state({q}, {key}, {value}{scale}) AS s FROM t) u")[0]
    (same,) = lite.execute(f"SELECT attention_state(?, k, {value[0]}{scale}) FROM t", (blob(query),)).fetchone()
    assert bytes.fromhex(state[2:]) == same  # so states travel between the databases
    assert (final,) == lite.execute("SELECT vector_to_json(attention_final(?))", (same,)).fetchone()


@pytest.mark.parametrize("call", ["attention_top(q, k, id, 6)", "attention_top(q, k, 'x' || id, 6, 2.0)", "attention_top(q, k, x, 3)",
                                  "attention_top(q, k, NULL, 3)", "attention_top(q, k, '苹果 \"a\"', 3)", "attention_stats(q, k)",
                                  "attention_stats(q, k, 0.5)", "softmax_avg(s, x)", "softmax_avg(s, x, 3)", "logsumexp(s)"])
def test_the_rest_has_the_bits_of_sqlite(both, call):
    lite, server, query = both
    (theirs,) = lite.execute(f"SELECT {call} FROM t, (SELECT ? AS q)", (blob(query),)).fetchone()
    ours = server.one(f"{ALONE} SELECT {call} FROM t, (SELECT '{literal(query)}'::real[] AS q) u")
    assert ours == theirs if isinstance(theirs, str) else float(ours) == theirs


@pytest.mark.parametrize("call", ["attention(q, k, v)", "attention_final(attention_state(q, k, v))", "softmax_avg(s, v, 4)", "softmax_avg(s, x)",
                                  "logsumexp(s)", "attention_top(q, k, id, 5)", "attention_stats(q, k)"])
def test_parallel_is_the_same_within_the_bound(both, call):
    _, server, query = both
    call = call.replace("q,", f"'{literal(query)}',")
    rows = f"SELECT {call} FROM t"
    plan = server.rows(f"{PARALLEL} EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {rows}")
    text = "\n".join(line for (line,) in plan)
    assert "Finalize Aggregate" in text and "Partial Aggregate" in text and "Workers Launched: 2" in text
    alone, parallel = server.one(f"{ALONE} {rows}"), server.one(f"{PARALLEL} {rows}")
    if alone.startswith("{\""):
        alone, parallel = json.loads(alone), json.loads(parallel)
        assert [row["label"] for row in alone.get("top", [])] == [row["label"] for row in parallel.get("top", [])]
        for key in alone.keys() - {"top"}:
            assert parallel[key] == pytest.approx(alone[key], rel=BOUND)
    else:
        assert np.abs(array(alone) - array(parallel)).max() <= BOUND * 100 if "x)" in call else BOUND


@pytest.mark.parametrize("call, message", [
    ("attention('{1}', CASE WHEN id = 650 THEN '{1,2}' ELSE '{1}' END::real[], x)", r"column k: 2 dimensions"),
    ("attention(ARRAY[id / 400]::real[], '{1}', x)", r"q differs|rows of parallel processes: states of different queries"),
    ("attention('{1}', '{1}'::real[], CASE WHEN id < 400 THEN '{1}' ELSE '{1,2}' END::real[])",
     r"column v: [12] dimensions|rows of parallel processes: states of different value dimensions"),
    ("softmax_avg(1, 1, 1 + id / 400)", r"temperature differs|rows of parallel processes: states of different"),
    ("logsumexp(CASE WHEN id = 650 THEN 'NaN'::float8 ELSE 1 END)", r"column score: the score is NaN")])
def test_an_error_in_a_worker_is_named(both, call, message):
    _, server, _ = both
    with pytest.raises(SqlError, match=message):
        server.rows(f"{PARALLEL} SELECT {call} FROM t")


FRAMES = ["ROWS BETWEEN 3 PRECEDING AND 2 FOLLOWING", "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
          "ROWS BETWEEN UNBOUNDED PRECEDING AND 5 PRECEDING", "ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING",
          "RANGE BETWEEN 6 PRECEDING AND 6 FOLLOWING", "GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
          "ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING EXCLUDE CURRENT ROW"]
CALLS = ["attention('{0.5,-1}', k, v)", "softmax_avg(s, x, 2)", "softmax_avg(s, v)", "logsumexp(s)"]


@pytest.mark.parametrize("call", CALLS)
def test_windows_against_each_frame_alone(server, call):
    """The ids of each frame come from array_agg, and the plain aggregate runs over just those rows."""
    draw = random.Random(4)
    rows = []
    for i in range(80):
        s = draw.choice([None, "-Infinity", *[draw.uniform(-30, 30)] * 8])
        k = None if draw.random() < 0.1 else literal([draw.gauss(0, 1), draw.gauss(0, 1)])
        rows.append((i, k, literal([draw.uniform(-1, 1)] * 3), s, draw.uniform(-1, 1)))
    copy(server, "w", "id int, k real[], v real[], s float8, x float8", rows)
    for frame in FRAMES:
        got = server.rows(f"SELECT answer, (SELECT {call} FROM w WHERE id = ANY(ids)) FROM (SELECT id, {call} OVER (ORDER BY id {frame}) AS answer,"
                          f" array_agg(id) OVER (ORDER BY id {frame}) AS ids FROM w) u ORDER BY id")
        assert len(got) == 80
        for answer, alone in got:
            assert (answer is None) == (alone is None)
            if alone is not None:
                assert np.abs(array(answer) - array(alone)).max() < BOUND


def test_a_frame_of_many_rows_keeps_them_all(server):
    last = server.one("SELECT softmax_avg(0, v) OVER (ORDER BY i ROWS BETWEEN 600 PRECEDING AND CURRENT ROW) FROM generate_series(1, 700) i,"
                      " (SELECT array_agg(1::real) AS v FROM generate_series(1, 2000)) u ORDER BY i DESC LIMIT 1")  # 5 MB
    assert np.abs(array(last) - 1).max() < 1e-6


@pytest.mark.parametrize("storage", ["PLAIN", "EXTENDED", "EXTERNAL", "MAIN"])
def test_however_a_vector_is_stored(server, storage):
    """Short headers, compressed, out of line: the same bits. Rows of 16 to 3000 bytes, some of zeros, which compress."""
    draw = np.random.default_rng(7)
    for dim in (1, 4, 700, 1500) if storage != "PLAIN" else (1, 4, 700):
        keys = draw.normal(size=(40, dim)).astype("f4") * (np.arange(40) % 3 > 0)[:, None]
        copy(server, "stored", "id int, k real[], kb bytea", [])
        server.rows(f"ALTER TABLE stored ALTER k SET STORAGE {storage}, ALTER kb SET STORAGE {storage}")
        lines = "".join(f"{i}\t{literal(key)}\t\\\\x{key.tobytes().hex()}\n" for i, key in enumerate(keys))
        server.rows(f"COPY stored FROM STDIN;\n{lines}\\.\n")
        q = draw.normal(size=dim).astype("f4")
        a, b = server.rows(f"SELECT attention('{literal(q)}', k, k), attention('\\x{q.tobytes().hex()}', kb, kb) FROM stored")[0]
        scores = keys.astype(float) @ q.astype(float) / math.sqrt(dim)
        weights = np.exp(scores - scores.max())
        assert np.abs(array(a) - weights @ keys / weights.sum()).max() < BOUND * np.abs(keys).max()
        assert array(a).tobytes() == array(b).tobytes()


@pytest.mark.parametrize("call", ["attention(QUERY, k, v)", "attention_stats(QUERY, k)", "attention_top(QUERY, k, v, 2)"])
def test_a_query_that_cannot_change_is_that_of_every_group_and_execution(server, call):
    """A constant or a parameter is read once for each sum; each group and each execution must see its own."""
    rows = "(VALUES (1, '{1,0}'::real[], 1), (1, '{0,1}', 2), (2, '{2,0}', 3), (2, '{0,3}', 4)) t(g, k, v)"
    select = f"SELECT g, {call}::text FROM {rows} GROUP BY g ORDER BY g"
    queries = ["'{1,2}'::real[]", "'{-3,1}'::real[]"]
    expected = [server.rows(select.replace("QUERY", f"(SELECT min({q}))")) for q in queries]  # known to the executor alone
    assert expected[0] != expected[1]
    assert [server.rows(select.replace("QUERY", q)) for q in queries] == expected
    prepared = f"SET plan_cache_mode = force_generic_plan; PREPARE p(real[]) AS {select.replace('QUERY', '$1')};"
    executed = "".join(f"EXECUTE p({q});" for q in queries * 2)
    assert server.rows(prepared + executed) == (expected[0] + expected[1]) * 2
    with pytest.raises(SqlError, match="row 2, column q: q differs from that of the rows before"):
        server.rows(f"SELECT {call.replace('QUERY', 'k')} FROM (SELECT * FROM {rows} ORDER BY v) u")


@pytest.mark.parametrize("label, printed", [("7::smallint", 7), ("2.50::numeric", 2.5), ("0.1::real", 0.1), ("true", True), ("'Infinity'::float8", "Infinity"),
                                            ("DATE '2020-02-03'", "2020-02-03"), ("'x'::varchar", "x"), ("'{\"a\": 1}'::jsonb", {"a": 1}), ("NULL::int", None)])
def test_labels_of_every_type(server, label, printed):
    assert json.loads(server.one(f"SELECT attention_top('{{1}}'::real[], '{{1}}'::real[], {label}, 1)"))["top"][0]["label"] == printed


def test_other_encodings(server):
    server.rows("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    got = server.one("CREATE EXTENSION qkv; SET client_encoding = 'UTF8'; SELECT attention_top('{1}'::real[], '{1}'::real[], 'Käse'::text, 1)", "latin")
    assert json.loads(got)["top"][0]["label"] == "Käse"
    with pytest.raises(SqlError, match="scale·q·k is too large"):
        server.rows("SET client_encoding = 'UTF8'; SELECT attention('{3e38}'::real[], '{3e38}'::real[], 1)", "latin")


def test_two_shards(server):
    """Each shard adds up its own rows; only states come over the wire, at the same time, and merge to the answer over all rows."""
    draw = np.random.default_rng(5)
    keys, values = draw.normal(size=(600, 16)).astype("f4"), draw.uniform(-1, 1, size=(600, 4)).astype("f4")
    rows = [(i, literal(k), literal(v)) for i, (k, v) in enumerate(zip(keys, values))]
    copy(server, "whole", "id int, k real[], v real[]", rows)
    for shard in (0, 1):
        server.rows(f"CREATE DATABASE shard{shard}")
        server.rows("CREATE EXTENSION qkv; CREATE TABLE books(id int, k real[], v real[])", f"shard{shard}")
        lines = "".join("\t".join(map(str, row)) + "\n" for row in rows[shard::2])
        server.rows(f"COPY books FROM STDIN;\n{lines}\\.\n", f"shard{shard}")
    server.rows("CREATE EXTENSION postgres_fdw;" + "".join(
        f"CREATE SERVER shard{i} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{server.folder}', dbname 'shard{i}', extensions 'qkv', async_capable 'true');"
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER shard{i} OPTIONS (user 'qkv');"
        f"CREATE FOREIGN TABLE books{i}(id int, k real[], v real[]) SERVER shard{i} OPTIONS (table_name 'books');" for i in (0, 1)))
    q = f"'{literal(draw.normal(size=16))}'"
    parts = " UNION ALL ".join(f"SELECT attention_state({q}, k, v) AS state FROM books{i}" for i in (0, 1))
    merged = f"SELECT attention_final(attention_merge(state)) FROM ({parts}) u"
    plan = [line for (line,) in server.rows(f"EXPLAIN (VERBOSE, COSTS OFF) {merged}")]
    assert sum("Remote SQL: SELECT public.attention_state(" in line for line in plan) == 2
    assert sum("Async Foreign Scan" in line for line in plan) == 2
    answer = array(server.one(merged))
    assert np.abs(answer - array(server.one(f"SELECT attention({q}, k, v) FROM whole"))).max() < BOUND
    with pytest.raises(SqlError, match="states of different queries"):
        server.rows(merged.replace(q, "'" + literal(np.ones(16)) + "'", 1))


def test_what_fails_or_is_cancelled_leaves_nothing(server):
    """150 queries in one session, each stopped after it gathered megabytes in one of three ways; the process must not grow."""
    session = """
        CREATE TEMP TABLE seen(pages bigint);
        CREATE FUNCTION pg_temp.resident() RETURNS bigint LANGUAGE sql AS $$ SELECT split_part(pg_read_file('/proc/self/statm'), ' ', 2)::bigint $$;
        CREATE FUNCTION pg_temp.failing(n int) RETURNS int LANGUAGE plpgsql AS $$
        DECLARE stopped int := 0;
        BEGIN
          FOR i IN 1..n LOOP
            BEGIN
              IF i % 3 = 0 THEN  -- in the executor, between rows
                PERFORM attention(q, q, q), sum(1 / (400 - g)) FROM generate_series(1, 500) g, query;
              ELSIF i % 3 = 1 THEN  -- inside of the function, from C++
                PERFORM attention(q, CASE WHEN g = 400 THEN '{1}' ELSE q END, q) FROM generate_series(1, 500) g, query GROUP BY g % 7;
              ELSE  -- in a window, with rows kept and old states
                PERFORM softmax_avg(CASE WHEN g = 400 THEN 'NaN' ELSE g END, q) OVER (ORDER BY g ROWS 20 PRECEDING) FROM generate_series(1, 500) g, query;
              END IF;
            EXCEPTION WHEN OTHERS THEN stopped := stopped + 1;
            END;
          END LOOP;
          RETURN stopped;
        END $$;
        CREATE TEMP TABLE query AS SELECT array_agg(0.001::real) AS q FROM generate_series(1, 2000);
        SELECT pg_temp.failing(60) > 0; INSERT INTO seen SELECT pg_temp.resident();
        SELECT pg_temp.failing(150); INSERT INTO seen SELECT pg_temp.resident();
        SELECT max(pages) - min(pages) FROM seen;"""
    _, (stopped,), (grown,) = server.rows(session)
    assert int(stopped) == 150
    assert int(grown) * 4096 < 2 << 20  # one block of 128 rows that stayed behind each time would be 300 MB


def test_a_cancelled_query_stops_and_the_session_goes_on(both):
    _, server, _ = both
    with pytest.raises(SqlError, match="canceling statement due to statement timeout"):
        server.rows("SET statement_timeout = 200; SELECT attention(vector(i), vector(i), i) FROM generate_series(1, 1) j, generate_series(1, 2000000000) i GROUP BY j")
    got = server.rows(f"{PARALLEL} SET statement_timeout = 1; \\set ON_ERROR_STOP off\nSELECT attention('{{1}}', vector(a.id), b.x) FROM t a, t b;\n"
                      "SET statement_timeout = 0; SELECT logsumexp(0);")
    assert got == [["0"]]


def test_many_groups_are_counted_and_spilled(server):
    """What groups hold is PostgreSQL's memory, so that a hash aggregate knows when work_mem is spent."""
    plan = "\n".join(line for (line,) in server.rows(
        f"{ALONE} SET work_mem = '1MB'; SET enable_sort = off; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)"
        " SELECT attention(q, q, q) FROM generate_series(1, 3000) i, (SELECT array_agg(1::real) AS q FROM generate_series(1, 300)) u GROUP BY i"))
    assert "HashAggregate" in plan and "Disk Usage" in plan


def test_random_bytes_are_no_state_and_random_text_no_vector(server):
    draw = random.Random(9)
    state = bytes.fromhex(server.one("SELECT attention_state('{1,2}'::real[], '{1,2}'::real[], '{3}'::real[])")[2:])
    script = "\\set ON_ERROR_STOP off\n\\set VERBOSITY terse\n"
    for _ in range(400):
        broken = bytearray(state)
        broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        broken = bytes(broken[:draw.randrange(len(broken))] if draw.random() < 0.3 else broken)
        text = "".join(draw.choice('[]{},-+.eE0123456789 "nultrf') for _ in range(draw.randrange(12)))
        script += f"SELECT attention_merge('\\x{broken.hex()}');\nSELECT vector('{text}');\n"
    done = subprocess.run([server.bin / "psql", "-XqAt"], input=script + "SELECT 'alive';", capture_output=True, text=True,
                          env={**os.environ, **server.environment})
    assert done.stdout.splitlines()[-1] == "alive"
    lines = done.stderr.splitlines()
    assert sum("not a state of qkv" in line for line in lines) == 400
    assert all(line.startswith(("ERROR:  attention_merge: row 1, column state: not a state", "ERROR:  vector: ")) for line in lines)


def test_only_its_functions_are_exported():
    symbols = subprocess.run(["nm", "-D", "--defined-only", BUILD / "postgres/qkv.so"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in symbols.splitlines()]
    assert names and all(name == "Pg_magic_func" or name.startswith(("qkv_", "pg_finfo_qkv_")) for name in names)


def test_it_goes_and_comes_and_moves(server):
    server.rows("CREATE EXTENSION qkv; DROP EXTENSION qkv; CREATE SCHEMA apart; CREATE EXTENSION qkv SCHEMA apart;", "plain")
    assert server.one("SELECT apart.attention(apart.vector(1), apart.vector(1), 5)", "plain") == "5"
    assert server.one("SELECT count(*) FROM pg_proc WHERE pronamespace = 'apart'::regnamespace", "plain") != "0"
    assert server.one("DROP EXTENSION qkv; SELECT count(*) FROM pg_proc WHERE pronamespace = 'apart'::regnamespace", "plain") == "0"
