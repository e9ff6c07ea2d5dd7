"""The SQLite extension through SQL: aggregates, windows, states, and everything that is refused."""
import json
import math
import random
import re
import sqlite3
import subprocess

import numpy as np
import pytest

from sqlite_extension import EXTENSION

BOUND = 4e-5  # order_bound of tests/memory/memory_test.cc for values up to 1, and float32 scores against float64 ones


def blob(vector):
    return np.asarray(vector, dtype="<f4").tobytes()


def vector(bytes_or_none):
    return None if bytes_or_none is None else np.frombuffer(bytes_or_none, "<f4")


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


@pytest.fixture
def rows(db):
    """500 rows (id, part, k, v) and a query; every ninth row has no key."""
    random_numbers = np.random.default_rng(3)
    keys, values = random_numbers.normal(size=(500, 24)), random_numbers.uniform(-1, 1, size=(500, 7))
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, part INTEGER, k, v)")
    for i in range(500):
        k = None if i % 9 == 4 else blob(keys[i]) if i % 2 else json.dumps([float(x) for x in keys[i].astype("f4")])
        db.execute("INSERT INTO t VALUES(?,?,?,?)", (i, i % 7, k, blob(values[i])))
    seen = np.array([i % 9 != 4 for i in range(500)])
    return random_numbers.normal(size=24), keys.astype("f4").astype(float), values.astype("f4").astype(float), seen


def expected(query, keys, values, scale=None):
    scale = 1 / math.sqrt(len(query)) if scale is None else scale
    return softmax(scale * keys @ np.asarray(query, "f4").astype(float)) @ values


@pytest.mark.parametrize("scale", [None, 0.01, 3.0, -1.0])
def test_attention_is_the_formula(db, rows, scale):
    query, keys, values, seen = rows
    extra = () if scale is None else (scale,)
    (got,) = db.execute(f"SELECT attention(?, k, v{', ?' * len(extra)}) FROM t", (blob(query), *extra)).fetchone()
    assert np.abs(vector(got) - expected(query, keys[seen], values[seen], scale)).max() < BOUND


def test_any_order_within_the_bound(db, rows):
    query, *_ = rows
    answers = [vector(db.execute(f"SELECT attention(?, k, v) FROM (SELECT * FROM t ORDER BY {order})", (blob(query),))
                      .fetchone()[0]) for order in ("id", "id DESC", "random()", "random()", "part, id")]
    assert max(np.abs(a - answers[0]).max() for a in answers) < BOUND


def test_parts_merge_to_the_whole(db, rows):
    query, *_ = rows
    whole, merged = db.execute(
        "SELECT attention(:q, k, v), (SELECT attention_final(attention_merge(s)) FROM"
        " (SELECT attention_state(:q, k, v) AS s FROM t GROUP BY part)) FROM t", {"q": blob(query)}).fetchone()
    assert np.abs(vector(whole) - vector(merged)).max() < BOUND


def test_top_ranks_labels(db, rows):
    query, keys, _, seen = rows
    weights = softmax(keys[seen] @ np.asarray(query, "f4") / math.sqrt(24))
    ids = np.arange(500)[seen]
    got = json.loads(db.execute("SELECT attention_top(?, k, id, 5) FROM t", (blob(query),)).fetchone()[0])
    best = np.argsort(-weights)[:5]
    assert [row["label"] for row in got["top"]] == [int(ids[i]) for i in best]
    assert [row["weight"] for row in got["top"]] == pytest.approx([weights[i] for i in best], rel=1e-5)
    assert [row["percent"] for row in got["top"]] == pytest.approx([100 * weights[i] for i in best], abs=0.006)
    assert got["remainder"] == pytest.approx(1 - weights[best].sum(), rel=1e-5)
    assert got["rows"] == seen.sum()


def test_labels_of_every_kind(db):
    db.execute("CREATE TABLE l(k, label)")
    labels = ["苹果", 'a "quoted" one', 7, 2.5, None]
    db.executemany("INSERT INTO l VALUES('[1]', ?)", [(x,) for x in labels])
    got = json.loads(db.execute("SELECT attention_top('[1]', k, label, 9) FROM l").fetchone()[0])
    assert sorted(map(repr, (row["label"] for row in got["top"]))) == sorted(map(repr, labels))
    assert got["remainder"] == 0
    with pytest.raises(sqlite3.OperationalError, match="row 1, column label"):
        db.execute("SELECT attention_top('[1]', k, x'00', 9) FROM l").fetchone()


def test_stats(db, rows):
    query, keys, _, seen = rows
    scores = keys[seen] @ np.asarray(query, "f4") / math.sqrt(24)
    weights = softmax(scores)
    got = json.loads(db.execute("SELECT attention_stats(?, k) FROM t", (blob(query),)).fetchone()[0])
    assert got["effective_rows"] == pytest.approx(1 / (weights**2).sum(), rel=1e-5)
    assert got["entropy"] == pytest.approx(-(weights * np.log(weights)).sum(), rel=1e-5)
    assert got["max_weight"] == pytest.approx(weights.max(), rel=1e-5)
    assert got["logsumexp"] == pytest.approx(scores.max() + math.log(np.exp(scores - scores.max()).sum()), rel=1e-5)


FRAMES = ["ROWS BETWEEN 3 PRECEDING AND 2 FOLLOWING", "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
          "ROWS BETWEEN UNBOUNDED PRECEDING AND 5 PRECEDING", "ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING",
          "RANGE BETWEEN 6 PRECEDING AND 6 FOLLOWING", "GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
          "ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING EXCLUDE CURRENT ROW"]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("call", ["attention('[0.5,-1]', k, v)", "softmax_avg(s, x, 2)", "softmax_avg(s, v)", "logsumexp(s)"])
def test_windows_against_each_frame_alone(db, call, frame):
    """The ids of each frame come from SQLite's own window function, and the plain aggregate runs over just those rows."""
    draw = random.Random(4)
    db.execute("CREATE TABLE w(id INTEGER PRIMARY KEY, k, v, s, x)")
    for i in range(80):
        s = draw.choice([None, -math.inf, *[draw.uniform(-30, 30)] * 8])
        k = None if draw.random() < 0.1 else blob([draw.gauss(0, 1), draw.gauss(0, 1)])
        db.execute("INSERT INTO w VALUES(?,?,?,?,?)", (i, k, blob([draw.uniform(-1, 1)] * 3), s, draw.uniform(-1, 1)))
    got = db.execute(f"SELECT {call} OVER (ORDER BY id {frame}), group_concat(id) OVER (ORDER BY id {frame}) FROM w").fetchall()
    assert len(got) == 80
    for answer, ids in got:
        (alone,) = db.execute(f"SELECT {call} FROM w WHERE id IN ({ids or 'NULL'})").fetchone()
        if isinstance(alone, bytes):
            assert np.abs(vector(answer) - vector(alone)).max() < BOUND
        else:
            assert (answer is None) == (alone is None) and (alone is None or answer == pytest.approx(alone, abs=1e-12))


def test_a_large_window_keeps_all_its_rows(db):
    db.execute("CREATE TABLE big(id INTEGER PRIMARY KEY, v)")
    value = blob([1.0] * 2000)
    db.executemany("INSERT INTO big VALUES(?, ?)", [(i, value) for i in range(2600)])  # 20 MiB
    frame = "(ORDER BY id ROWS BETWEEN 2500 PRECEDING AND CURRENT ROW)"
    last = db.execute(f"SELECT softmax_avg(0, v) OVER {frame} FROM big ORDER BY id DESC LIMIT 1").fetchone()
    assert vector(last[0]) == pytest.approx(1)
    db.execute(f"CREATE VIEW hidden AS SELECT softmax_avg(0, v) OVER {frame} AS a FROM big")
    with pytest.raises(sqlite3.OperationalError, match="frame is larger than 4 MiB"):
        db.execute("SELECT count(a) FROM hidden").fetchone()


def test_softmax_avg_by_hand(db):
    db.executescript("CREATE TABLE s(score, x); INSERT INTO s VALUES(0, 10), (ln(3), 20), (-9e999, 1e300), (NULL, 7), (1, NULL);")
    assert db.execute("SELECT softmax_avg(score, x) FROM s").fetchone()[0] == pytest.approx(17.5, abs=1e-13)
    assert db.execute("SELECT softmax_avg(score, x, 1e9) FROM s").fetchone()[0] == pytest.approx(15, abs=1e-6)
    assert db.execute("SELECT logsumexp(score) FROM s WHERE x >= 0 AND score < 1.2").fetchone()[0] == pytest.approx(
        math.log(4), abs=1e-15)
    assert db.execute("SELECT logsumexp(1e308)").fetchone()[0] == 1e308


@pytest.mark.parametrize("call", ["attention('[1]', k, k)", "attention_top('[1]', k, 1, 2)", "attention_stats('[1]', k)",
                                  "attention_state('[1]', k, k)", "attention_merge(k)", "softmax_avg(k, 1)", "logsumexp(k)"])
def test_no_rows_and_nulls_alone_are_null(db, call):
    db.execute("CREATE TABLE n(k)")
    assert db.execute(f"SELECT {call} FROM n").fetchone() == (None,)
    db.execute("INSERT INTO n VALUES(NULL), (NULL)")
    assert db.execute(f"SELECT {call} FROM n").fetchone() == (None,)


def test_all_hidden_is_null(db):
    assert db.execute("SELECT softmax_avg(-9e999, 1), logsumexp(-9e999)").fetchone() == (None, None)


def test_numbers_as_values(db):
    db.executescript("CREATE TABLE e(k, age); INSERT INTO e VALUES('[9]', 30), ('[-9]', 50);")
    assert db.execute("SELECT attention('[9]', k, age) FROM e").fetchone() == (30.0,)


def test_vectors_round_trip(db):
    assert db.execute("SELECT vector_to_json(vector('[1, 2.5, -3e-2]'))").fetchone() == ("[1,2.5,-0.03]",)
    assert db.execute("SELECT vector(1, 2.5) = vector('[1,2.5]'), vector(NULL), vector_to_json(NULL)").fetchone() == (1, None, None)
    draw = np.random.default_rng(1).normal(size=300).astype("<f4")
    text = db.execute("SELECT vector_to_json(?)", (draw.tobytes(),)).fetchone()[0]
    assert db.execute("SELECT vector(?)", (text,)).fetchone()[0] == draw.tobytes()


TWO = "(SELECT '[1,2]' AS k, '[1]' AS v UNION ALL SELECT {k}, {v})"
REFUSED = [
    ("attention('[1,2]', k, v)", "'[1,2,3]'", "'[1]'", "attention: row 2, column k: 3 dimensions, q has 2"),
    ("attention('[1,2]', k, v)", "'[1,2]'", "'[1,2]'", "attention: row 2, column v: 2 dimensions, the rows before have 1"),
    ("attention('[1,2]', k, v)", "x'0000803f0000c07f'", "'[1]'", "attention: row 2, column k: number 2 is NaN"),
    ("attention('[1,2]', k, v)", "'[1,2]'", "x'0000807f'", "attention: row 2, column v: number 1 is infinite"),
    ("attention('[1,2]', k, v)", "x'0000803f00'", "'[1]'", "row 2, column k: a BLOB of 5 bytes"),
    ("attention('[1,2]', k, v)", "x''", "'[1]'", "row 2, column k: a BLOB of 0 bytes"),
    ("attention('[1,2]', k, v)", "'[1,2'", "'[1]'", "row 2, column k: not a JSON array of numbers"),
    ("attention('[1,2]', k, v)", "'[1,[2]]'", "'[1]'", "row 2, column k: not a JSON array of numbers: an array"),
    ("attention('[1,2]', k, v)", "'[1,1e39]'", "'[1]'", "row 2, column k: number 2 is too large for float32"),
    ("attention('[1,2]', k, v)", "'[1,2]'", "3", "row 2, column v: numbers and vectors"),
    ("attention('[1,2]', k, v)", "3", "'[1]'", "row 2, column k: expected a vector"),
    ("attention('[3e38,3e38]', k, v)", "'[3e38,3e38]'", "'[1]'", "row 1, column k: scale·q·k is too large"),
    ("attention('[1,2]', k, v, 'x')", "'[1,2]'", "'[1]'", "row 1, column scale: scale is not a number"),
    ("attention(k, k, v)", "'[2,1]'", "'[1]'", "row 2, column q: q differs"),
    ("attention('[1,2]', k, v, length(k))", "'[1,  2]'", "'[1]'", "row 2, column scale: scale differs"),
    ("attention('[]', k, v)", "'[1,2]'", "'[1]'", "row 1, column q: an empty vector"),
    ("attention_top('[1,2]', k, v, 0)", "'[1,2]'", "'[1]'", "row 1, column n"),
    ("attention_top('[1,2]', k, v, 'a')", "'[1,2]'", "'[1]'", "row 1, column n"),
    ("attention_top('[1,2]', k, v, length(k))", "'[1,  2]'", "'[1]'", "row 2, column n"),
    ("attention_merge(k)", "'[1,2]'", "'[1]'", "attention_merge: row 1, column state: expected a BLOB"),
    ("softmax_avg(1, v, 0)", "1", "'[1]'", "softmax_avg: row 1, column temperature"),
    ("softmax_avg(1, v, -1)", "1", "'[1]'", "softmax_avg: row 1, column temperature"),
    ("softmax_avg(1, v)", "1", "'[1,2]'", "softmax_avg: row 2, column value: 2 dimensions"),
    ("softmax_avg(1, v)", "1", "x'0000c07f'", "softmax_avg: row 2, column value: number 1 is NaN"),
    ("softmax_avg(9e999, v)", "1", "'[1]'", "softmax_avg: row 1, column score: the score is +inf"),
    ("logsumexp('a')", "1", "'[1]'", "logsumexp: row 1, column score: score is not a number"),
]


@pytest.mark.parametrize("call, k, v, message", REFUSED)
def test_what_is_refused_is_named(db, call, k, v, message):
    with pytest.raises(sqlite3.OperationalError, match=re.escape(message)):
        db.execute(f"SELECT {call} FROM {TWO.format(k=k, v=v)}").fetchone()
    assert db.execute("SELECT logsumexp(0)").fetchone() == (0.0,)  # the connection goes on


def test_states_that_do_not_belong_together(db):
    with pytest.raises(sqlite3.OperationalError, match="row 2, column state: states of different queries or scales"):
        db.execute("SELECT attention_merge(s) FROM (SELECT attention_state('[1]', '[1]', '[1]') AS s"
                   " UNION ALL SELECT attention_state('[2]', '[1]', '[1]'))").fetchone()


def test_random_bytes_are_no_state_and_random_text_no_vector(db):
    draw = random.Random(9)
    (state,) = db.execute("SELECT attention_state('[1,2]', '[1,2]', '[3]')").fetchone()
    for _ in range(3000):
        broken = bytearray(state)
        for _ in range(draw.randrange(1, 4)):
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        broken = bytes(broken[:draw.randrange(len(broken))] if draw.random() < 0.3 else broken)
        if broken != state:
            with pytest.raises(sqlite3.OperationalError, match="not a state of qkv"):
                db.execute("SELECT attention_final(?)", (broken,)).fetchone()
        text = "".join(draw.choice('[]{},-+.eE0123456789 "nultrf\\') for _ in range(draw.randrange(12)))
        try:
            (back,) = db.execute("SELECT vector_to_json(vector(?))", (text,)).fetchone()
        except sqlite3.OperationalError as error:
            assert str(error).startswith("vector: ")
        else:
            assert np.asarray(json.loads(text), "f4").tolist() == np.asarray(json.loads(back), "f4").tolist()


def test_deeply_nested_json_is_refused(db):
    with pytest.raises(sqlite3.OperationalError, match="an array"):
        db.execute("SELECT vector(?)", ("[" * 10_000_000,)).fetchone()


def test_the_shell_loads_it():
    script = f".load {EXTENSION}\nSELECT vector_to_json(attention('[1]', '[1]', '[4,5]'));"
    done = subprocess.run(["sqlite3"], input=script, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[4,5]\n", "")


def test_only_the_entry_is_exported():
    symbols = subprocess.run(["nm", "-D", "--defined-only", EXTENSION], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["sqlite3_qkv_init"]
