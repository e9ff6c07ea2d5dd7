"""A connection in memory with the SQLite extension."""
import pytest

from sqlite_extension import connect


@pytest.fixture
def db():
    connection = connect()
    yield connection
    connection.close()
