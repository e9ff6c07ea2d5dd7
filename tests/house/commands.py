"""What the checks of the house share."""
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command, cwd=ROOT, env=None, minutes=15):
    """Runs a command and returns its standard output; a failure shows everything it said."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60 * minutes)
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
