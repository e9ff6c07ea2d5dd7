#!/usr/bin/env python3
"""Who may include whom, and a few more rules of the house that a compiler does not check.

usage: tests/house/layering.py [root]     prints each breach as file:line: reason; exit status 1 if there is one

A room is a folder under src/. It includes only rooms below it, named in BELOW. The doors (cli, sql, python, page)
stand on all rooms and know nothing of each other; bench/ and tests/ may read every room, and cli/ reads bench/ for
`qkv bench`; examples/ reads public headers only. A public header belongs to the room that has a .cc of its name, else to the highest room among the
headers it includes, else to the ground.
"""
import re
import sys
from pathlib import Path

ROOMS = ["kernels", "attention", "layers", "models", "memory", "library", "lens", "picture"]  # from the ground up
BELOW = {
    "kernels": set(),
    "attention": {"kernels"},
    "layers": {"kernels", "attention"},
    "models": {"kernels", "attention", "layers"},
    "memory": {"kernels", "attention"},
    "library": {"kernels", "attention", "layers", "models"},
    "lens": {"kernels", "attention", "layers", "models", "memory", "library"},
    "picture": set(),
}
DOORS = ["cli", "sql", "python", "page"]
TOP = ["bench", "examples", "fuzz", "tests"]

# What a room knows nothing of, as the start of the header's name.
STRANGERS = {
    "kernels": ["thread", "mutex", "atomic", "future", "filesystem", "fstream", "iostream",
                "nlohmann/", "unicode/", "sentencepiece", "CLI/"],
    "attention": ["filesystem", "fstream", "iostream", "nlohmann/", "unicode/", "sentencepiece", "CLI/"],
    "layers": ["filesystem", "fstream", "iostream", "nlohmann/", "unicode/", "sentencepiece", "CLI/"],
    "models": ["iostream", "CLI/"],
    "memory": ["iostream", "sqlite3", "postgres", "CLI/"],
    "library": ["iostream", "sqlite3", "CLI/"],
    "lens": ["CLI/"],
    "picture": ["thread", "filesystem", "iostream", "nlohmann/", "unicode/", "sentencepiece", "CLI/"],
}
INTRINSICS = ("immintrin.h", "x86intrin.h", "arm_neon.h", "arm_sve.h", "emmintrin.h", "xmmintrin.h")
MOST_LINES = 600

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes(path):
    """(line number, is quoted, name) of every #include."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


class House:
    def __init__(self, root):
        self.root = Path(root).resolve()
        self.public_rooms = {}

    def resolve(self, path, name):
        """The file of ours that #include "name" in `path` means, or None."""
        for base in (path.parent, self.root / "include", self.root / "src", self.root):
            file = (base / name).resolve()
            if file.is_file() and file.is_relative_to(self.root):
                return file
        return None

    def place(self, file):
        """The room, door or folder of a file: "kernels", "cli", "bench", ..., or "public" and a header's room."""
        parts = file.relative_to(self.root).parts
        if parts[0] == "src" and len(parts) > 2:
            return parts[1]
        if parts[0] == "include":
            return self.public_room(file)
        return parts[0]

    def public_room(self, header):
        if header not in self.public_rooms:
            self.public_rooms[header] = None  # a header that includes itself in a circle
            room = next((room for room in ROOMS if (self.root / "src" / room / f"{header.stem}.cc").exists()), None)
            if room is None:
                seen = [self.public_room(file) for _, _, name in includes(header)
                        if (file := self.resolve(header, name)) and "include" in file.parts]
                room = max((r for r in seen if r in ROOMS), key=ROOMS.index, default=None)
            self.public_rooms[header] = room
        return self.public_rooms[header]

    def files(self):
        for folder in ["include", "src", *DOORS, *TOP]:
            for path in sorted((self.root / folder).rglob("*")):
                if path.suffix in (".h", ".cc", ".c", ".cpp", ".hpp") and path.is_file():
                    yield path

    def breaches(self):
        for path in self.files():
            name = path.relative_to(self.root)
            yield from ((name, *breach) for breach in self.breaches_of(path))

    def breaches_of(self, path):
        place = self.place(path)
        is_public = path.is_relative_to(self.root / "include")
        is_isa = place == "kernels" and path.name.startswith("isa_")
        if path.relative_to(self.root).parts[0] == "src" and place not in ROOMS:
            yield 1, f"no room is called {place}"
            return
        for number, quoted, name in includes(path):
            target = self.resolve(path, name)
            if name in INTRINSICS:
                if place in ROOMS and not is_isa and not path.name.startswith("vec_"):
                    yield number, f"<{name}>: intrinsics belong in vec_*.h and isa_*.cc"
                continue
            if target is None:
                if quoted:
                    yield number, f'"{name}" is no file of ours; a system header takes <>'
                for stranger in STRANGERS.get(place, []):
                    if name == stranger or (stranger.endswith("/") or "." not in stranger) and name.startswith(stranger):
                        yield number, f"<{name}>: {place} knows nothing of this"
                if is_isa:
                    yield number, f"<{name}>: an isa_*.cc includes vectors and kernels only"
                continue
            there = self.place(target)
            reason = self.forbidden(path, place, is_public, is_isa, target, there)
            if reason:
                yield number, f'"{name}": {reason}'
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES and place != "tests":
            yield lines, f"{lines} lines; a file has one subject and at most {MOST_LINES}"

    def forbidden(self, path, place, is_public, is_isa, target, there):
        """Why `path` may not include `target`, or None."""
        target_is_public = target.is_relative_to(self.root / "include")
        if is_public and not target_is_public:
            return "a public header includes public headers only"
        if place == "examples" and not target_is_public and there != "examples":
            return "an example includes public headers only"
        if is_isa and there != "kernels":
            return "an isa_*.cc includes vectors and kernels only"
        if place in ROOMS and there is not None and there != place:
            if there in ROOMS and there not in BELOW[place]:
                return f"{place} stands below {there}" if ROOMS.index(place) < ROOMS.index(there) else \
                    f"{place} knows nothing of {there}"
            if there not in ROOMS:
                return f"{place} stands below {there}"
        if place in DOORS and there in [*DOORS, "tests", "examples"] and there != place:
            return f"{place} and {there} know nothing of each other"
        if place == "bench" and there in [*DOORS, "tests", "examples"]:
            return f"bench knows nothing of {there}"
        return None


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    breaches = [f"{name}:{line}: {reason}" for name, line, reason in House(root).breaches()]
    print("\n".join(breaches) or "the house stands")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
