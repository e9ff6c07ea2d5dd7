"""The fenced blocks of a Markdown file, and how each is run. HACKING.md, "Documented commands", tells the rules."""
import re
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("sh", "console", "cpp", "python")
FENCE = re.compile(r"^(`{3,})\s*(\w*)\s*$")
MARK = re.compile(r"^<!--\s*(not run|output varies)\b:?\s*(.*?)\s*-->$")


@dataclass
class Block:
    file: str
    line: int  # of the opening fence, from 1
    language: str
    text: str
    not_run: str = ""  # the reason
    output_varies: bool = False

    def __str__(self):
        return f"{self.file}:{self.line}"

    def commands(self):
        """(command, lines it prints) of a console block: `$ ` starts a command, `> ` continues it."""
        found = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("> ") and found and not found[-1][1]:
                found[-1][0] += "\n" + line[2:]
            elif found:
                found[-1][1].append(line)
        return found


def blocks_of(path, name):
    """Every block of LANGUAGES in a file. A mark is a comment on the last non-empty line above the fence."""
    found, fence, block, above = [], None, None, ""
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        match = FENCE.match(line.strip())
        if fence is None and match:
            fence = match.group(1)
            mark = MARK.match(above)
            block = Block(name, number, match.group(2), "")
            if mark and mark.group(1) == "not run":
                block.not_run = mark.group(2)
                assert block.not_run, f"{block}: say why, as in <!-- not run: reason -->"
            elif mark:
                block.output_varies = True
        elif fence is not None and line.strip() == fence:
            if block.language in LANGUAGES:
                found.append(block)
            fence, above = None, ""
        elif fence is not None:
            block.text += line + "\n"
        elif line.strip():
            above = line.strip()
    assert fence is None, f"{name}:{block.line}: this block is never closed"
    return found


def same_output(expected, printed):
    """Whether the lines printed are those documented. A line that is only … stands for any lines, … in a line for any
    text; blanks at the ends and empty lines do not count."""
    pattern = ""
    for line in filter(None, (line.strip() for line in expected)):
        if line in ("…", "..."):
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line).replace("…", ".*") + r"\n"
    text = "".join(line.strip() + "\n" for line in printed if line.strip())
    return re.fullmatch(pattern, text) is not None
