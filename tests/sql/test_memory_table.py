"""CREATE VIRTUAL TABLE … USING qkv: soft and hard search beside each other, and a real table's promises."""
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sqlite_extension import connect


def blob(vector):
    return np.asarray(vector, dtype="<f4").tobytes()


@pytest.fixture
def people(db):
    db.executescript("""
        CREATE VIRTUAL TABLE people USING qkv(key float[2], name TEXT, age INTEGER);
        INSERT INTO people(key, name, age) VALUES('[3,0]', 'Alice', 30), ('[0,3]', 'Bob', 40), ('[2,2]', 'Carol', 30);
    """)
    return db


def test_soft_ranks_every_row(people):
    rows = people.execute("SELECT name, weight, remainder, score FROM people WHERE key MATCH '[2,0]'").fetchall()
    scores = np.array([6, 4, 0]) / np.sqrt(2)
    weights = np.exp(scores) / np.exp(scores).sum()
    assert [row[0] for row in rows] == ["Alice", "Carol", "Bob"]
    assert [row[1] for row in rows] == pytest.approx(weights, rel=1e-6)
    assert [row[2] for row in rows] == pytest.approx(1 - np.cumsum(weights), abs=1e-7)
    assert [row[3] for row in rows] == pytest.approx(scores, abs=1e-6)
    assert rows[-1][2] == 0


def test_hard_is_one_or_nothing(people):
    assert people.execute("SELECT name, weight FROM people WHERE key = '[3, 0.0]'").fetchall() == [("Alice", 1.0)]
    assert people.execute("SELECT name, weight FROM people WHERE key = vector(3, -0.0)").fetchall() == [("Alice", 1.0)]
    assert people.execute("SELECT name FROM people WHERE key = '[3,1]'").fetchall() == []
    assert people.execute("SELECT name FROM people WHERE age = 30 ORDER BY name").fetchall() == [("Alice",), ("Carol",)]


def test_shown_rows_and_the_remainder_are_everything(people):
    rows = people.execute("SELECT weight, remainder FROM people WHERE key MATCH '[2,0]' LIMIT 2").fetchall()
    assert sum(row[0] for row in rows) + rows[-1][1] == pytest.approx(1, abs=1e-15)


def test_order_limit_join_and_conditions(people):
    people.executescript("CREATE TABLE city(name, place); INSERT INTO city VALUES('Alice','Rome'),('Carol','Oslo'),('Bob','Bonn');")
    assert people.execute("SELECT place FROM people JOIN city USING(name) WHERE key MATCH '[2,0]' AND age = 30"
                          " ORDER BY weight DESC LIMIT 1").fetchall() == [("Rome",)]
    assert [n for (n,) in people.execute("SELECT name FROM people WHERE key MATCH '[2,0]' ORDER BY weight")] == [
        "Bob", "Carol", "Alice"]
    people.executescript("CREATE TABLE ask(q); INSERT INTO ask VALUES('[9,0]'), ('[0,9]'), (NULL);")
    assert people.execute("SELECT q, (SELECT name FROM people WHERE key MATCH q LIMIT 1) FROM ask").fetchall() == [
        ("[9,0]", "Alice"), ("[0,9]", "Bob"), (None, None)]
    assert people.execute("SELECT count(*) FROM ask JOIN people ON people.key MATCH ask.q").fetchone() == (6,)


def test_scale_sharpens(people):
    def best(scale):
        return people.execute("SELECT weight, scale FROM people WHERE key MATCH '[2,0]' AND scale = ?", (scale,)).fetchone()

    assert best(0)[0] == pytest.approx(1 / 3)
    assert best(10)[0] > 0.999999 and best(10)[1] == 10


def test_the_aggregate_over_it_answers_alike(people):
    people.execute("INSERT INTO people(key, name, age) VALUES('[1,-1]', 'Eve', 22)")
    rows = people.execute("SELECT weight, age FROM people WHERE key MATCH '[1,2]'").fetchall()
    (mean,) = people.execute("SELECT attention('[1,2]', key, age) FROM people").fetchone()
    assert mean == pytest.approx(sum(w * a for w, a in rows), rel=1e-6)


def test_update_and_delete(people):
    people.execute("UPDATE people SET age = 31 WHERE name = 'Alice'")
    people.execute("UPDATE people SET key = '[0,9]' WHERE key MATCH '[2,0]' AND name = 'Carol'")
    people.execute("DELETE FROM people WHERE name = 'Bob'")
    assert people.execute("SELECT name, age, vector_to_json(key) FROM people ORDER BY rowid").fetchall() == [
        ("Alice", 31, "[3,0]"), ("Carol", 30, "[0,9]")]
    assert people.execute("SELECT rowid, name FROM people WHERE rowid = 3").fetchall() == [(3, "Carol")]
    people.execute("ALTER TABLE people RENAME TO folk")
    assert people.execute("SELECT count(*) FROM folk").fetchone() == (2,)
    people.execute("DROP TABLE folk")
    assert people.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def test_empty_and_null(db):
    db.execute("CREATE VIRTUAL TABLE e USING qkv(key float[3])")
    assert db.execute("SELECT * FROM e WHERE key MATCH '[1,2,3]'").fetchall() == []
    db.execute("INSERT INTO e(key) VALUES('[1,2,3]')")
    assert db.execute("SELECT * FROM e WHERE key MATCH NULL").fetchall() == []
    assert db.execute("SELECT * FROM e WHERE key = NULL").fetchall() == []


def test_rollback_and_savepoints(people):
    people.isolation_level = None
    people.execute("BEGIN")
    people.execute("INSERT INTO people(key, name) VALUES('[1,1]', 'Dan')")
    people.execute("SAVEPOINT s")
    people.execute("DELETE FROM people")
    people.execute("ROLLBACK TO s")
    assert people.execute("SELECT count(*) FROM people WHERE key MATCH '[1,1]'").fetchone() == (4,)
    people.execute("ROLLBACK")
    assert people.execute("SELECT count(*) FROM people").fetchone() == (3,)
    with pytest.raises(sqlite3.OperationalError):  # the second row is wrong, so neither is kept
        people.execute("INSERT INTO people(key, name) VALUES('[1,1]', 'Dan'), ('[1]', 'Ed')")
    assert people.execute("SELECT count(*) FROM people").fetchone() == (3,)


@pytest.mark.parametrize("sql, message", [
    ("INSERT INTO people(key) VALUES('[1,2,3]')", "column key: 3 dimensions, key has 2"),
    ("INSERT INTO people(key) VALUES(NULL)", "column key: expected a vector"),
    ("INSERT INTO people(key) VALUES(x'0000803f0000c07f')", "column key: number 2 is NaN"),
    ("INSERT INTO people(key, weight) VALUES('[1,2]', 1)", "column weight is filled by MATCH"),
    ("UPDATE people SET weight = 1", "column weight is filled by MATCH"),
    ("SELECT * FROM people WHERE key MATCH '[1]'", "column key MATCH: 1 dimensions, key has 2"),
    ("SELECT * FROM people WHERE key MATCH 'x'", "column key MATCH: not a JSON array"),
    ("SELECT * FROM people WHERE key = '[1]'", "column key =: 1 dimensions, key has 2"),
    ("SELECT * FROM people WHERE key MATCH '[1,2]' AND scale = 'x'", "scale is not a number"),
    ("CREATE VIRTUAL TABLE x USING qkv(key, value)", "float[1 to 65536]"),
    ("CREATE VIRTUAL TABLE x USING qkv(key float[0])", "float[1 to 65536]"),
    ("CREATE VIRTUAL TABLE x USING qkv(key float[2], weight)", "`weight` is a column that MATCH fills"),
    ("CREATE VIRTUAL TABLE x USING qkv()", "expected columns"),
])
def test_what_is_refused_is_named(people, sql, message):
    with pytest.raises(sqlite3.OperationalError) as error:
        people.execute(sql).fetchall()
    assert message in str(error.value)
    assert people.execute("SELECT count(*) FROM people").fetchone() == (3,)


def test_a_damaged_row_is_named(people):
    people.execute("UPDATE people_rows SET key = x'00' WHERE id = 2")
    with pytest.raises(sqlite3.OperationalError, match="column key of row 2: a BLOB of 1 bytes"):
        people.execute("SELECT * FROM people WHERE key MATCH '[1,2]'").fetchall()


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from sqlite_extension import connect
db = connect(sys.argv[2], isolation_level=None)
n = db.execute("SELECT count(*) FROM m").fetchone()[0]
while True:
    db.execute("BEGIN")
    for i in range(n, n + 50):
        db.execute("INSERT INTO m(key, value) VALUES(vector(?, ?, 1), ?)", (i % 17, i % 5, i))
    db.execute("COMMIT")
    n += 50
    print(n, flush=True)
"""


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_kill_9_in_the_middle_of_a_write_loses_nothing_committed(tmp_path, journal):
    path = str(tmp_path / "m.db")
    db = connect(path)
    db.execute(f"PRAGMA journal_mode = {journal}")
    db.execute("CREATE VIRTUAL TABLE m USING qkv(key float[3], value INTEGER)")
    db.commit()
    db.close()
    for commits in (1, 3, 8, 2, 5):  # until then, and killed somewhere in the next
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(Path(__file__).parent), path], stdout=subprocess.PIPE,
                                  text=True)
        said = [int(writer.stdout.readline()) for _ in range(commits)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        last = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        said = max([said, *last])
        db = connect(path)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        values = [v for (v,) in db.execute("SELECT value FROM m ORDER BY value")]
        assert len(values) >= said and len(values) % 50 == 0 and values == list(range(len(values)))
        assert db.execute("SELECT sum(weight) FROM m WHERE key MATCH '[1,2,3]'").fetchone()[0] == pytest.approx(1, abs=1e-12)
        db.close()
