"""What pictures hold and how people call it: classes, colours, and the pairs of the two that training never sees."""

from dataclasses import dataclass

import numpy as np

# hue in degrees, saturation, value: the range each colour is drawn from
COLOURS = {
    "red": ((-8, 5), (0.75, 0.95), (0.68, 0.92)),
    "orange": ((23, 31), (0.85, 1.0), (0.9, 1.0)),
    "yellow": ((48, 56), (0.7, 0.95), (0.92, 1.0)),
    "green": ((98, 145), (0.5, 0.8), (0.42, 0.75)),
    "blue": ((205, 232), (0.6, 0.9), (0.5, 0.92)),
    "purple": ((268, 290), (0.45, 0.75), (0.45, 0.78)),
    "pink": ((325, 345), (0.3, 0.5), (0.93, 1.0)),
    "brown": ((18, 30), (0.55, 0.75), (0.32, 0.5)),
    "black": ((0, 360), (0.0, 0.15), (0.1, 0.18)),
    "white": ((0, 360), (0.0, 0.05), (0.94, 1.0)),
    "gray": ((0, 360), (0.0, 0.07), (0.48, 0.66)),
}
COLOUR_WORDS = {
    "red": (("red",), ("红色的", "红")),
    "orange": (("orange",), ("橙色的", "橘色的")),
    "yellow": (("yellow",), ("黄色的", "黄")),
    "green": (("green",), ("绿色的", "绿")),
    "blue": (("blue",), ("蓝色的", "蓝")),
    "purple": (("purple",), ("紫色的", "紫")),
    "pink": (("pink",), ("粉色的", "粉红色的")),
    "brown": (("brown",), ("棕色的", "褐色的")),
    "black": (("black",), ("黑色的", "黑")),
    "white": (("white",), ("白色的", "白")),
    "gray": (("gray", "grey"), ("灰色的", "灰")),
}
PAINT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
FUR = ("black", "white", "gray", "brown", "orange")


@dataclass(frozen=True)
class Class:
    en: tuple[str, ...]  # singular names, the usual one first
    zh: tuple[str, ...]
    measure: str  # the Chinese classifier
    colours: tuple[str, ...] = ()  # that it can have and be asked by; none: colour is not asked
    plurals: tuple[str, ...] = ()  # where adding s is wrong
    mass: bool = False  # sky, grass: no "a", no plural, one region

    def plural(self, n: int) -> str:
        return self.plurals[n] if self.plurals else self.en[n] + "s"


CLASSES = {
    "sky": Class(("sky",), ("天空", "天"), "片", mass=True),
    "road": Class(("road", "street"), ("路", "马路", "道路"), "条", mass=True),
    "grass": Class(("grass", "lawn"), ("草地", "草坪"), "片", mass=True),
    "wall": Class(("wall",), ("墙", "墙壁"), "面", mass=True),
    "floor": Class(("floor",), ("地板",), "块", mass=True),
    "table": Class(("table", "desk"), ("桌子",), "张"),
    "house": Class(("house", "building"), ("房子", "房屋"), "座", ("red", "yellow", "blue", "white", "gray", "pink", "brown", "orange")),
    "tree": Class(("tree",), ("树", "大树"), "棵"),
    "car": Class(("car", "automobile"), ("汽车", "车", "小汽车"), "辆", PAINT),
    "bus": Class(("bus",), ("公共汽车", "巴士"), "辆", BRIGHT, ("buses",)),
    "truck": Class(("truck", "lorry"), ("卡车", "货车"), "辆", PAINT, ("trucks", "lorries")),
    "bicycle": Class(("bicycle", "bike"), ("自行车", "单车"), "辆", BRIGHT + ("black",)),
    "person": Class(("person", "human"), ("人",), "个", PAINT, ("people", "humans")),
    "dog": Class(("dog",), ("狗", "小狗"), "只", FUR[:4]),
    "cat": Class(("cat",), ("猫", "小猫"), "只", FUR),
    "bird": Class(("bird",), ("鸟", "小鸟"), "只", ("red", "yellow", "blue", "black", "white", "brown")),
    "cloud": Class(("cloud",), ("云", "云朵"), "朵"),
    "sun": Class(("sun",), ("太阳",), "个"),
    "bench": Class(("bench",), ("长椅",), "张", ("red", "blue", "green", "brown", "white"), ("benches",)),
    "street lamp": Class(("street lamp", "lamppost"), ("路灯",), "盏"),
    "fence": Class(("fence",), ("栅栏", "围栏"), "道", ("white", "brown", "gray")),
    "umbrella": Class(("umbrella",), ("雨伞", "伞"), "把", PAINT),
    "balloon": Class(("balloon",), ("气球",), "个", BRIGHT),
    "flower": Class(("flower",), ("花", "花朵"), "朵", ("red", "orange", "yellow", "blue", "purple", "pink", "white")),
    "mushroom": Class(("mushroom",), ("蘑菇",), "个", ("red", "brown", "white", "orange")),
    "butterfly": Class(("butterfly",), ("蝴蝶",), "只", BRIGHT, ("butterflies",)),
    "ball": Class(("ball",), ("球", "皮球"), "个", BRIGHT + ("white",)),
    "kite": Class(("kite",), ("风筝",), "只", BRIGHT),
    "boat": Class(("boat", "ship"), ("船", "小船"), "条", ("red", "blue", "white", "green", "yellow", "brown")),
    "lake": Class(("water", "lake"), ("水", "湖"), "片", mass=True),
    "apple": Class(("apple",), ("苹果",), "个", ("red", "green", "yellow")),
    "banana": Class(("banana",), ("香蕉",), "根"),
    "pear": Class(("pear",), ("梨", "梨子"), "个", ("green", "yellow", "brown")),
    "lemon": Class(("lemon",), ("柠檬",), "个"),
    "cup": Class(("cup", "mug"), ("杯子", "茶杯"), "个", PAINT),
    "plate": Class(("plate", "dish"), ("盘子", "碟子"), "个", ("white", "blue", "green", "pink", "gray", "yellow"), ("plates", "dishes")),
    "bowl": Class(("bowl",), ("碗",), "个", PAINT),
    "bottle": Class(("bottle",), ("瓶子",), "个", ("green", "brown", "blue", "red", "white", "yellow")),
    "spoon": Class(("spoon",), ("勺子",), "把"),
    "fork": Class(("fork",), ("叉子",), "把"),
    "knife": Class(("knife",), ("刀", "刀子"), "把", plurals=("knives",)),
    "teapot": Class(("teapot",), ("茶壶",), "个", PAINT),
    "book": Class(("book",), ("书", "书本"), "本", PAINT),
    "vase": Class(("vase",), ("花瓶",), "个", PAINT),
    "lamp": Class(("lamp",), ("灯", "台灯"), "盏", BRIGHT + ("white",)),
    "clock": Class(("clock",), ("钟", "时钟"), "个", ("red", "blue", "green", "white", "black", "brown")),
    "chair": Class(("chair",), ("椅子",), "把", PAINT),
    "picture": Class(("painting",), ("画",), "幅"),
}
CLASS_NAMES = tuple(CLASSES)
COLOUR_NAMES = tuple(COLOURS)

# A prompt for the one says nothing certain about the other: never asked as absent while the other is there.
CONFUSABLE = ({"lamp", "street lamp"}, {"lake", "sky"})

# Drawn and asked for in the held-out pictures only. Every class and every colour occurs in other pairs.
UNSEEN_PAIRS = frozenset({
    ("car", "purple"), ("person", "orange"), ("cup", "green"), ("book", "red"), ("umbrella", "yellow"), ("cat", "gray"),
    ("chair", "pink"), ("flower", "white"), ("bowl", "orange"), ("balloon", "blue"), ("house", "yellow"), ("vase", "black"),
    ("truck", "white"), ("kite", "green"), ("ball", "purple"), ("teapot", "brown"), ("bicycle", "red"), ("bench", "blue"),
})


def confusable(a: str, b: str) -> bool:
    return a == b or any(a in group and b in group for group in CONFUSABLE)


def colours_of(name: str, unseen: bool) -> tuple[str, ...]:
    """The colours a class may be drawn in: `unseen` adds the pairs that are held out."""
    return tuple(c for c in CLASSES[name].colours if unseen or (name, c) not in UNSEEN_PAIRS)


def sample_colour(name: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """RGB in [0, 1] of some shade that people call by this name."""
    h, s, v = (rng.uniform(*span) for span in COLOURS[name])
    return hsv(h, s, v)


def hsv(h: float, s: float, v: float) -> tuple[float, float, float]:
    h = h % 360 / 60
    c = v * s
    x, m = c * (1 - abs(h % 2 - 1)), v - c
    r, g, b = ((c, x, 0), (x, c, 0), (0, c, x), (0, x, c), (x, 0, c), (c, 0, x))[int(h) % 6]
    return r + m, g + m, b + m
