"""The build tree that the checks of the house look at."""
import os
from pathlib import Path

import pytest

from commands import ROOT


@pytest.fixture(scope="session")
def build():
    """The release build tree that `make test` made."""
    tree = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
    if not (tree / "build.ninja").exists():
        pytest.skip(f"{tree} is not built")
    return tree
