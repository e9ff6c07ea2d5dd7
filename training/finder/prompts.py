"""What is asked of a picture, in English and Chinese, and which of its objects are the answer.

A noun phrase without a place or a size means every object it fits, singular or plural ("the car" too: whoever asks does not know
how many there are). A place or a size picks one. A prompt is only made where the answer is beyond doubt.
"""

from dataclasses import dataclass

import numpy as np

from .lexicon import CLASS_NAMES, CLASSES, COLOUR_WORDS, UNSEEN_PAIRS, confusable
from .scenes import LEAST, SIZE, Picture, Thing

# {s} a singular noun phrase, {p} a plural one, {as} one with its article, {n} one without classifier, {m} classifier
SINGULAR = ("{s}", "{s}", "{s}", "the {s}", "the {s}", "{as}", "find the {s}", "find {as}", "every {s}", "any {s}", "each {s}", "show me the {s}",
            "where is the {s}?", "where is the {s}", "is there {as}?", "select the {s}", "I want to see the {s}")
PLURAL = ("{p}", "{p}", "the {p}", "all {p}", "all the {p}", "find all {p}", "find the {p}", "where are the {p}?", "show me all the {p}",
          "are there any {p}?", "select all {p}")
CHINESE = ("{n}", "{n}", "{n}", "{n}", "找{n}", "找出{n}", "{n}在哪里", "{n}在哪里？", "一{m}{n}", "图里的{n}", "那{m}{n}", "有{n}吗", "我想看{n}", "选择{n}")
CHINESE_PLURAL = ("所有的{n}", "所有{n}", "每一{m}{n}", "找出所有的{n}", "全部的{n}", "那些{n}")
UNSEEN_SINGULAR = ("please find {as}", "can you see the {s}?", "look for {as}", "show the {s} to me", "where can I find the {s}?", "is the {s} there?")
UNSEEN_PLURAL = ("please find all the {p}", "can you see any {p}?", "look for the {p}", "how many {p} are there?", "show every one of the {p}")
UNSEEN_CHINESE = ("请找出{n}", "{n}在什么地方", "你能看到{n}吗", "这里有{n}吗", "画里的{n}", "帮我找{n}")
UNSEEN_CHINESE_PLURAL = ("请找出所有的{n}", "有几{m}{n}", "全部{n}在哪里", "每{m}{n}")
FRAMES = (*SINGULAR, *PLURAL, *CHINESE, *CHINESE_PLURAL, *UNSEEN_SINGULAR, *UNSEEN_PLURAL, *UNSEEN_CHINESE, *UNSEEN_CHINESE_PLURAL)

PLACES = {  # how to say it; which axis, and towards which end
    "left": (("{s} on the left", "leftmost {s}", "left {s}", "{s} to the left"), ("左边的{n}", "最左边的{n}", "左边那{m}{n}"), 0, -1),
    "right": (("{s} on the right", "rightmost {s}", "right {s}", "{s} to the right"), ("右边的{n}", "最右边的{n}", "右边那{m}{n}"), 0, 1),
    "top": (("{s} at the top", "highest {s}", "top {s}"), ("上面的{n}", "最上面的{n}", "最高处的{n}"), 1, -1),
    "bottom": (("{s} at the bottom", "lowest {s}", "bottom {s}"), ("下面的{n}", "最下面的{n}", "下面那{m}{n}"), 1, 1),
    "middle": (("{s} in the middle", "middle {s}"), ("中间的{n}", "中间那{m}{n}"), 0, 0),
}
SIZES = {
    "large": (("biggest {s}", "largest {s}", "big {s}", "large {s}"), ("最大的{n}", "大的{n}", "大{n}")),
    "small": (("smallest {s}", "small {s}", "little {s}"), ("最小的{n}", "小的{n}", "小{n}")),
}
# Things no picture has. The second row of each language is kept for measuring.
FOREIGN = {
    "en": (("elephant", "airplane", "piano", "computer", "guitar", "horse", "cow", "phone", "train", "bridge", "camera", "ring", "bear", "snake", "letter",
            "television", "bed", "cake", "gun", "moon", "fish", "monkey", "pig", "radio", "key", "pencil", "egg", "rabbit",
            "hospital", "school", "idea", "music", "problem", "teacher", "money", "bread", "box"),
           ("lion", "violin", "bag", "plane", "sheep", "rocket", "newspaper", "cheese", "doctor", "baby", "potato", "station")),
    "zh": (("大象", "飞机", "钢琴", "电脑", "吉他", "马", "牛", "手机", "火车", "桥", "照相机", "戒指", "熊", "蛇", "信", "电视", "床", "蛋糕", "月亮",
            "鱼", "猴子", "猪", "收音机", "钥匙", "铅笔", "鸡蛋", "兔子", "医院", "学校", "想法", "音乐", "问题", "老师", "钱", "面包", "箱子"),
           ("狮子", "小提琴", "包", "羊", "火箭", "报纸", "奶酪", "医生", "婴儿", "土豆", "车站")),
}
PRESENT, PRESENT_SHARE = ("class", "colour", "plural", "size", "place"), (0.28, 0.32, 0.12, 0.12, 0.16)
ABSENT, ABSENT_SHARE = ("absent colour", "absent class", "absent word"), (0.5, 0.35, 0.15)
KINDS = PRESENT + ABSENT


@dataclass
class Prompt:
    text: str
    kind: str
    language: str
    targets: list[int]  # numbers of the things it means; none: what it names is not in the picture
    candidates: list[int]  # without its place or size
    name: str = ""
    colour: str | None = None


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def english(name: str, colour: str | None, rng) -> tuple[str, str]:
    """A noun phrase, singular and plural."""
    c = CLASSES[name]
    k = 0 if rng.random() < 0.65 else int(rng.integers(len(c.en)))
    one, many = c.en[k], c.en[k] if c.mass else c.plural(k)
    if not colour:
        return one, many
    words = COLOUR_WORDS[colour][0]
    word = words[rng.integers(len(words))]
    if name == "person" and rng.random() < 0.7:
        after = (" in " if rng.random() < 0.6 else " wearing ") + word
        return one + after, many + after
    return f"{word} {one}", f"{word} {many}"


def chinese(name: str, colour: str | None, rng) -> str:
    c = CLASSES[name]
    noun = c.zh[0 if rng.random() < 0.6 else int(rng.integers(len(c.zh)))]
    if not colour:
        return noun
    words = COLOUR_WORDS[colour][1]
    word = words[0] if rng.random() < 0.6 else words[rng.integers(len(words))]
    if name == "person" and rng.random() < 0.8:
        return f"穿{word if word.endswith('的') else word + '色'}衣服的{noun}".replace("的衣", "衣") if rng.random() < 0.7 else f"穿{word.rstrip('的')}的{noun}"
    return word + noun


def phrase(name, colour, relation, kind, language, rng, unseen_wording=False, foreign=None) -> str:
    """The whole prompt: a noun phrase, what picks one of its objects, and the words around it."""
    many = kind == "plural" or (relation is None and rng.random() < 0.25)
    pick = lambda options: options[rng.integers(len(options))]
    if language == "en":
        one, more = (foreign, foreign + "s") if foreign else english(name, colour, rng)
        if relation:
            one = pick((PLACES.get(relation) or SIZES[relation])[0]).replace("{s}", one)
            frames = UNSEEN_SINGULAR if unseen_wording else tuple(f for f in SINGULAR if "every" not in f and "any" not in f and "each" not in f and "{as}" not in f)
            frames = tuple(f.replace("{as}", "the {s}") for f in frames)
            text = pick(frames).format(s=one)
        elif name and CLASSES[name].mass:
            text = pick(tuple(f for f in (UNSEEN_SINGULAR if unseen_wording else SINGULAR) if "every" not in f and "each" not in f)).format_map({"s": one, "as": one})
        elif many:
            text = pick(UNSEEN_PLURAL if unseen_wording else PLURAL).format(p=more)
        else:
            text = pick(UNSEEN_SINGULAR if unseen_wording else SINGULAR).format_map({"s": one, "as": article(one)})
        return text[0].upper() + text[1:] if rng.random() < 0.2 else text
    noun = foreign or chinese(name, colour, rng)
    measure = CLASSES[name].measure if name else "个"
    if relation:
        noun = pick((PLACES.get(relation) or SIZES[relation])[1]).format(n=noun, m=measure)
        frames = tuple(f for f in (UNSEEN_CHINESE if unseen_wording else CHINESE) if "{m}" not in f)
    elif many:
        frames = UNSEEN_CHINESE_PLURAL if unseen_wording else CHINESE_PLURAL
    else:
        frames = UNSEEN_CHINESE if unseen_wording else CHINESE
    return pick(frames).format(n=noun, m=measure)


class Asker:
    """Makes prompts for one picture. `unseen_pairs`: prompts may name the pairs of colour and class that are held out;
    `unseen_wording`: only frames that training never uses. `strange`: by language, words of no meaning here, which often stand for things
    no picture has."""

    def __init__(self, picture: Picture, rng: np.random.Generator, unseen_pairs=False, unseen_wording=False, strange=None):
        self.strange = strange
        self.rng, self.unseen_pairs, self.unseen_wording = rng, unseen_pairs, unseen_wording
        self.things = picture.things
        ids = picture.ids
        count = 1 + max((t.number for t in self.things), default=0)
        flat = ids.ravel()
        self.area = np.bincount(flat, minlength=count)
        rows, cols = np.bincount(flat, np.repeat(np.arange(SIZE), SIZE), count), np.bincount(flat, np.tile(np.arange(SIZE), SIZE), count)
        self.centre = np.stack([cols, rows], 1) / np.maximum(self.area, 1)[:, None]
        self.names = sorted({t.name for t in self.things})

    def of(self, name, colour=None) -> list[Thing] | None:
        """The things a noun phrase fits; None where one is too little to be sure that it is seen."""
        found = [t for t in self.things if t.name == name and colour in (None, t.colour)]
        return None if any(self.area[t.number] < LEAST for t in found) else found

    def allowed(self, name, colour) -> bool:
        return self.unseen_pairs or (name, colour) not in UNSEEN_PAIRS

    def make(self, count: int) -> list[Prompt]:
        """A third of them, about, name what is not there."""
        out = []
        while len(out) < count:
            absent = self.rng.random() < 1 / 3
            kinds, share = (ABSENT, ABSENT_SHARE) if absent else (PRESENT, PRESENT_SHARE)
            kind = kinds[self.rng.choice(len(kinds), p=share)]
            prompt = next((p for p in (self.ask(kind) for _ in range(8)) if p), None)
            if prompt:
                out.append(prompt)
        return out

    def ask(self, kind: str, language: str | None = None) -> Prompt | None:
        """One prompt of a kind, or None where the picture offers none (this time)."""
        rng = self.rng
        language = language or ("en" if rng.random() < 0.5 else "zh")
        name, colour, relation, found, candidates, foreign = "", None, None, [], [], None
        if kind == "absent word":
            options = FOREIGN[language][1 if self.unseen_wording else 0]
            foreign = options[rng.integers(len(options))]
            if self.strange and rng.random() < 0.7:
                foreign = (" " if language == "en" else "").join(rng.choice(self.strange[language], rng.integers(1, 3)))
        elif kind == "absent class":
            name = CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
            if any(confusable(name, other) for other in self.names):
                return None
            options = [c for c in CLASSES[name].colours if self.allowed(name, c)]
            if options and rng.random() < 0.35:
                colour = options[rng.integers(len(options))]
            elif rng.random() < 0.15 and not CLASSES[name].mass:
                relation = (*PLACES, *SIZES)[rng.integers(len(PLACES) + len(SIZES))]
        elif kind == "absent colour":
            name = self.names[rng.integers(len(self.names))]
            around = {t.colour for t in self.things if t.colour}
            options = [c for c in CLASSES[name].colours if self.allowed(name, c) and not any(t.name == name and t.colour == c for t in self.things)]
            near = [c for c in options if c in around]
            options = near if near and rng.random() < 0.7 else options
            if not options:
                return None
            colour = options[rng.integers(len(options))]
        else:
            names = self.names
            if kind in ("size", "place", "plural"):
                names = [n for n in names if not CLASSES[n].mass]
                several = [n for n in names if sum(t.name == n for t in self.things) > 1]
                names = several if several and rng.random() < 0.85 else names
            if not names:
                return None
            name = names[rng.integers(len(names))]
            colours = sorted({t.colour for t in self.things if t.name == name and t.colour and self.allowed(name, t.colour)})
            if kind == "colour" or (kind != "class" and colours and rng.random() < 0.35):
                if not colours:
                    return None
                colour = colours[rng.integers(len(colours))]
            found = candidates = self.of(name, colour)
            if not found:
                return None
            if kind == "size":
                relation, found = self.by_size(candidates)
            elif kind == "place":
                relation, found = self.by_place(candidates)
            if not found:
                return None
        text = phrase(name, colour, relation, kind, language, rng, self.unseen_wording, foreign)
        return Prompt(text, kind, language, [t.number for t in found], [t.number for t in candidates], name, colour)

    def by_size(self, things):
        """The largest or smallest of several, where it is so by half as much again."""
        if len(things) < 2:
            return None, []
        order = sorted(things, key=lambda t: self.area[t.number])
        if self.rng.random() < 0.5:
            clear = self.area[order[-1].number] > 1.5 * self.area[order[-2].number]
            return "large", order[-1:] if clear else []
        return "small", order[:1] if self.area[order[1].number] > 1.5 * self.area[order[0].number] else []

    def by_place(self, things):
        """The one nearest to a side, where it is so by a good deal, or the middle one of three."""
        place = tuple(PLACES)[self.rng.integers(len(PLACES))]
        _, _, axis, end = PLACES[place]
        order = sorted(things, key=lambda t: self.centre[t.number][axis])
        at = [self.centre[t.number][axis] / SIZE for t in order]
        if place == "middle":
            if len(things) == 3 and min(at[1] - at[0], at[2] - at[1]) > 0.1:
                return place, order[1:2]
            return place, []
        if len(things) == 1:  # it counts where it plainly is on that side
            return place, order if (at[0] - 0.5) * end > 0.12 else []
        gap = at[1] - at[0] if end < 0 else at[-1] - at[-2]
        return place, (order[:1] if end < 0 else order[-1:]) if gap > 0.1 else []


