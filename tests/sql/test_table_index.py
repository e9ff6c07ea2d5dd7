"""MATCH with max_error: answers through the index beside the exact ones, while rows change, roll back and come from elsewhere."""
import sqlite3

import numpy as np
import pytest

from sqlite_extension import connect

DIM = 24
ASK = ("SELECT rowid, weight, remainder, err_bound, rows_read, max_error FROM m"
       " WHERE key MATCH :q AND scale = :s AND max_error = :e")


def blob(vector):
    return np.asarray(vector, dtype="<f4").tobytes()


class Drawn:
    """Rows around 40 directions, and queries like them."""

    def __init__(self):
        self.random = np.random.default_rng(3)
        self.centres = self.random.normal(size=(40, DIM)) / np.sqrt(DIM)

    def key(self):
        return blob(self.centres[self.random.integers(40)] + self.random.normal(size=DIM) * 0.02)

    def rows(self, count):
        return [(self.key(), i) for i in range(count)]


@pytest.fixture
def drawn():
    return Drawn()


@pytest.fixture
def memory(db, drawn):
    db.execute(f"CREATE VIRTUAL TABLE m USING qkv(key float[{DIM}], n INTEGER)")
    db.executemany("INSERT INTO m(key, n) VALUES(?, ?)", drawn.rows(3000))
    db.commit()
    return db


def check(db, drawn, error=1e-3, scale=60):
    """Asks both ways; how many rows the index read."""
    query = drawn.key()
    exact = dict(db.execute("SELECT rowid, weight FROM m WHERE key MATCH ? AND scale = ?", (query, scale)).fetchall())
    got = db.execute(ASK, {"q": query, "s": scale, "e": error}).fetchall()
    assert [row[1] for row in got] == sorted((row[1] for row in got), reverse=True)
    weights = {row[0]: row[1] for row in got}
    assert set(weights) <= set(exact)
    _, _, remainder, bound, read, asked = got[-1]
    assert remainder == 0 and asked == error and read == len(got)
    assert bound <= error or read == len(exact)
    apart = sum(abs(p - weights.get(row, 0)) for row, p in exact.items()) / 2
    assert apart <= bound + 1e-4  # the exact weights are of float32 scores
    return read


def test_the_index_reads_few_rows_and_keeps_its_bound(memory, drawn):
    read = [check(memory, drawn) for _ in range(20)]
    assert max(read) < 1000
    assert check(memory, drawn, error=0) == 3000
    assert check(memory, drawn, error=1e-3, scale=0) == 3000  # equal weights: no row may be left out


def test_rows_that_come_change_and_go(memory, drawn):
    check(memory, drawn)
    for turn in range(10):
        memory.execute("INSERT INTO m(key, n) VALUES(?, ?)", (drawn.key(), 10_000 + turn))
        memory.execute("UPDATE m SET key = ? WHERE n = ?", (drawn.key(), turn))
        memory.execute("UPDATE m SET n = -n WHERE n = ?", (turn + 100,))
        memory.execute("DELETE FROM m WHERE n = ?", (turn + 500,))
        memory.execute("INSERT OR REPLACE INTO m(rowid, key, n) VALUES(?, ?, ?)", (turn + 900, drawn.key(), 20_000 + turn))
        memory.execute("UPDATE m SET rowid = -rowid WHERE n = ?", (turn + 1200,))
        check(memory, drawn)
    query = drawn.key()
    memory.execute("INSERT INTO m(rowid, key, n) VALUES(-5, ?, 0)", (blob(np.frombuffer(query, "<f4") * 3),))
    assert memory.execute(ASK, {"q": query, "s": 60, "e": 0.01}).fetchone()[0] == -5
    memory.execute("DELETE FROM m WHERE rowid = -5")
    assert memory.execute(ASK, {"q": query, "s": 60, "e": 0.01}).fetchone()[0] != -5


def test_rollback_and_savepoints_take_the_index_back(memory, drawn):
    memory.isolation_level = None
    check(memory, drawn)
    query = drawn.key()
    near = blob(np.frombuffer(query, "<f4") * 3)

    def best():
        return memory.execute(ASK, {"q": query, "s": 60, "e": 0.01}).fetchone()[0]

    before = best()
    memory.execute("BEGIN")
    memory.execute("INSERT INTO m(rowid, key) VALUES(7777777, ?)", (near,))
    assert best() == 7777777
    memory.execute("SAVEPOINT s")
    memory.execute("DELETE FROM m WHERE rowid = 7777777")
    assert best() == before
    memory.execute("ROLLBACK TO s")
    assert best() == 7777777
    memory.execute("ROLLBACK")
    assert best() == before
    memory.execute("INSERT INTO m(rowid, key) VALUES(8888888, ?)", (near,))  # the same number of writes as before
    assert best() == 8888888
    with pytest.raises(sqlite3.OperationalError):  # the second row is wrong, so neither is kept
        memory.execute("INSERT INTO m(rowid, key) VALUES(9999999, ?), (1, '[1]')", (blob(np.frombuffer(query, "<f4") * 9),))
    assert best() == 8888888
    memory.execute("DELETE FROM m")
    assert memory.execute(ASK, {"q": query, "s": 60, "e": 0.01}).fetchall() == []


def test_another_connection_writes(tmp_path, drawn):
    ours, theirs = connect(str(tmp_path / "m.db")), connect(str(tmp_path / "m.db"))
    ours.execute(f"CREATE VIRTUAL TABLE m USING qkv(key float[{DIM}], n INTEGER)")
    ours.executemany("INSERT INTO m(key, n) VALUES(?, ?)", drawn.rows(500))
    ours.commit()
    check(ours, drawn)
    check(theirs, drawn)
    query = drawn.key()
    near = blob(np.frombuffer(query, "<f4") * 3)
    theirs.execute("UPDATE m SET key = ? WHERE n = 77", (near,))
    theirs.commit()
    asked = {"q": query, "s": 60, "e": 0.01}
    assert ours.execute(ASK, asked).fetchone()[0] == 78
    theirs.execute("DELETE FROM m WHERE n > 50")  # most of them: built anew
    theirs.commit()
    assert ours.execute(ASK, {**asked, "e": 0}).fetchone()[4] == 51
    ours.execute("UPDATE m_rows SET key = ? WHERE id = 3", (near,))  # past the virtual table
    assert ours.execute(ASK, asked).fetchone()[0] == 3
    ours.execute("ALTER TABLE m RENAME TO n")
    ours.execute(f"CREATE VIRTUAL TABLE m USING qkv(key float[{DIM}])")  # the old name is free
    ours.execute("INSERT INTO n(rowid, key) VALUES(900, ?)", (blob(np.frombuffer(query, "<f4") * 9),))
    assert ours.execute(ASK.replace("FROM m", "FROM n"), asked).fetchone()[0] == 900
    ours.execute("DROP TABLE m")
    ours.execute("DROP TABLE n")
    assert ours.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


@pytest.mark.parametrize("error", ["-1", "'x'"])
def test_an_error_that_is_none_is_refused(memory, error):
    with pytest.raises(sqlite3.OperationalError, match="max_error"):
        memory.execute(f"SELECT * FROM m WHERE key MATCH vector_to_json(zeroblob({4 * DIM})) AND max_error = {error}").fetchall()


def test_without_max_error_no_bound_is_said(memory, drawn):
    assert memory.execute("SELECT err_bound, rows_read, max_error FROM m WHERE key MATCH ? LIMIT 1",
                          (drawn.key(),)).fetchone() == (None, 3000, None)
    assert memory.execute(ASK, {"q": drawn.key(), "s": 1, "e": None}).fetchall() == []


def test_insert_or_replace_ignore_and_fail(db):
    db.executescript("CREATE VIRTUAL TABLE p USING qkv(key float[2], name TEXT UNIQUE, age INTEGER NOT NULL);"
                     "INSERT INTO p(rowid, key, name, age) VALUES(1, '[1,0]', 'Ann', 30), (2, '[0,1]', 'Bo', 40);")

    def rows():
        return db.execute("SELECT rowid, vector_to_json(key), name, age FROM p ORDER BY rowid").fetchall()

    db.execute("INSERT OR REPLACE INTO p(rowid, key, name, age) VALUES(1, '[5,5]', 'Cy', 50)")
    assert rows() == [(1, "[5,5]", "Cy", 50), (2, "[0,1]", "Bo", 40)]
    db.execute("INSERT OR REPLACE INTO p(rowid, key, name, age) VALUES(3, '[7,7]', 'Bo', 60)")  # by the name
    assert rows() == [(1, "[5,5]", "Cy", 50), (3, "[7,7]", "Bo", 60)]
    db.execute("INSERT OR IGNORE INTO p(rowid, key, name, age) VALUES(1, '[9,9]', 'Di', 1), (4, '[4,4]', 'Ed', 2)")
    assert [row[0] for row in rows()] == [1, 3, 4]
    for sql in ("INSERT INTO p(rowid, key, name, age) VALUES(1, '[9,9]', 'Fay', 1)", "INSERT INTO p(key, name) VALUES('[9,9]', 'Gus')",
                "UPDATE p SET name = 'Ed' WHERE rowid = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="p: .*constraint failed"):
            db.execute(sql)
    db.execute("UPDATE OR REPLACE p SET rowid = 3 WHERE rowid = 4")
    assert rows() == [(1, "[5,5]", "Cy", 50), (3, "[4,4]", "Ed", 2)]
    asked = "SELECT rowid FROM p WHERE key MATCH '[1,1]' AND max_error = 0.001 AND scale = 100"
    assert db.execute(asked).fetchone() == (1,)
    db.execute("INSERT OR REPLACE INTO p(rowid, key, name, age) VALUES(9, '[8,8]', 'Cy', 1)")  # row 1 goes, and the index sees it
    assert db.execute(asked.replace("0.001", "0")).fetchall() == [(9,), (3,)]
