"""Connections with the built SQLite extension loaded."""
import ctypes
import os
import sqlite3
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
EXTENSION = BUILD / "sqlite" / "qkv.so"


def connect(path=":memory:", **options):
    """sqlite3.connect() and the extension. A Python built without extension loading gets it from the library itself."""
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        db = sqlite3.connect(path, **options)
        db.enable_load_extension(True)
        db.load_extension(str(EXTENSION.with_suffix("")))
        return db
    extension = ctypes.CDLL(str(EXTENSION))
    ctypes.CDLL("libsqlite3.so.0").sqlite3_auto_extension(extension.sqlite3_qkv_init)
    return sqlite3.connect(path, **options)
