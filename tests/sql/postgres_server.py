"""A PostgreSQL server of its own, with the built extension, that ends with the test: nothing of the machine's installation is touched.

PostgreSQL finds its files from where its programs lie, so a copy of the few programs and links to everything else are an installation that
`make -C sql/postgres install` can write to. The server runs as another user where the tests run as root, which PostgreSQL refuses.
"""
import csv
import io
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
PROGRAMS = ["postgres", "initdb", "pg_ctl", "pg_config", "psql"]


def server_pg_config():
    """The pg_config of the newest server; the one on the path may be of the client library only."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_config"), key=lambda path: int(path.parts[-3]))
    found = [str(path) for path in found if (path.parent / "postgres").exists()]
    pg_config = found[-1] if found else shutil.which("pg_config")
    assert pg_config, "no PostgreSQL server; install what scripts/packages.txt lists"
    return pg_config


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class SqlError(Exception):
    """What psql printed."""


class Server:
    """`with Server() as server: server.rows("SELECT 1")` → [["1"]]; NULL is None, everything else text."""

    def __init__(self, **settings):
        self.settings = {"listen_addresses": "", "fsync": "off", "shared_buffers": "64MB", "max_wal_size": "2GB", **settings}

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="qkv-pg-"))  # short: a socket's path has 107 bytes
        self.user = {}
        if os.geteuid() == 0:
            account = next(name for name in ("postgres", "nobody") if any(name == entry.pw_name for entry in pwd.getpwall()))
            entry = pwd.getpwnam(account)
            self.user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self.folder.chmod(0o755)
        try:
            self._install()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        data = self.folder / "data"
        if (data / "postmaster.pid").exists():
            subprocess.run([self.bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], capture_output=True, cwd="/", **self.user)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _install(self):
        config = server_pg_config()
        prefix, theirs = Path("/usr"), {}
        for what in ("bindir", "pkglibdir", "sharedir"):
            theirs[what] = Path(run([config, f"--{what}"]).strip())
        prefix = Path(os.path.commonpath(theirs.values()))
        ours = {what: self.folder / "root" / path.relative_to(prefix) for what, path in theirs.items()}
        self.bin = ours["bindir"]
        extensions = ours["sharedir"] / "extension"
        for folder in (*ours.values(), extensions):
            folder.mkdir(parents=True, exist_ok=True)
        for program in PROGRAMS:
            shutil.copy2(theirs["bindir"] / program, self.bin)
        for here, there in ((ours["pkglibdir"], theirs["pkglibdir"]), (ours["sharedir"], theirs["sharedir"]),
                            (extensions, theirs["sharedir"] / "extension")):
            for entry in there.iterdir():
                if not entry.name.startswith("qkv") and entry.name not in ("bin", "extension"):
                    (here / entry.name).symlink_to(entry)
        self.pg_config = self.bin / "pg_config"
        run(["make", "-C", ROOT / "sql/postgres", "install", f"BUILD={BUILD}", f"PG_CONFIG={self.pg_config}"])

    def _start(self):
        data = self.folder / "data"
        run([self.bin / "initdb", "-D", data, "-U", "qkv", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], cwd="/", **self.user)
        settings = {**self.settings, "unix_socket_directories": self.folder}
        with open(data / "postgresql.conf", "a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        run([self.bin / "pg_ctl", "-D", data, "-l", data / "log", "-w", "start"], cwd="/", stdin=subprocess.DEVNULL, **self.user)

    @property
    def environment(self):
        """With it, psql and other clients find the server, and `pg_config` and `psql` are its own."""
        return {"PGHOST": str(self.folder), "PGUSER": "qkv", "PGDATABASE": "postgres", "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def rows(self, sql, database="postgres"):
        """The rows of the last statement that has any."""
        done = subprocess.run([self.bin / "psql", "-XqAt", "--csv", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=default", "-P", "null=\\N"],
                              input=sql, capture_output=True, text=True, env={**os.environ, **self.environment, "PGDATABASE": database})
        if done.returncode != 0:
            raise SqlError(done.stderr)
        return [[None if cell == "\\N" else cell for cell in row] for row in csv.reader(io.StringIO(done.stdout))]

    def one(self, sql, database="postgres"):
        ((value,),) = self.rows(sql, database)
        return value
