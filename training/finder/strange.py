"""Words that name nothing a picture has: made up for training, so that they are spelled with the same pieces as any other word; real ones for measuring."""

import numpy as np

from .lexicon import CLASSES, COLOUR_WORDS

ONSETS = ("", "b", "bl", "br", "c", "ch", "cr", "d", "dr", "f", "fl", "fr", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "ph", "pl", "pr", "qu", "r", "s",
          "sc", "sh", "sk", "sl", "sp", "squ", "st", "str", "t", "th", "tr", "v", "w", "wh", "wr", "z")
VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ee", "ia", "oa", "oo", "ou", "y")
CODAS = ("", "", "", "b", "ck", "d", "ff", "g", "ght", "l", "ll", "m", "n", "nd", "ng", "nt", "p", "r", "rd", "rk", "rn", "s", "ss", "st", "t", "tch", "th", "x")
ENDINGS = ("", "", "", "", "a", "al", "e", "er", "et", "ic", "ing", "ium", "le", "or", "ous", "tion", "ty", "y")
# The 3755 most common characters, level 1 of GB 2312
CHARACTERS = tuple(c for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF) for c in bytes([row, cell]).decode("gb2312", "ignore"))
ENGLISH = frozenset(text for c in CLASSES.values() for n, word in enumerate(c.en) for text in (word, c.plural(n))) | {
    word for en, _ in COLOUR_WORDS.values() for word in en}
CHINESE = frozenset(text for c in CLASSES.values() for text in c.zh) | {word for _, zh in COLOUR_WORDS.values() for word in zh}

# Real words of no class, no animal or person like one of a class, for measuring.
REAL = {
    "en": """unicorn robot dinosaur castle piano laptop telephone giraffe kangaroo whale shark octopus dragon rocket spaceship submarine tractor skateboard hammer
        screwdriver wrench hamburger pizza sandwich pineapple strawberry carrot tomato onion microphone printer keyboard carpet pillow blanket towel soap
        toothbrush scissors needle zipper sweater necklace bracelet crown sword shield arrow cannon helmet tunnel pyramid volcano desert glacier waterfall cactus
        bamboo crocodile lizard snail spider scorpion crab lobster jellyfish starfish seashell anchor compass telescope microscope battery magnet drum trumpet
        flute saxophone harp ladder bucket broom shovel wheelbarrow tent backpack suitcase wallet envelope calendar eraser ruler calculator refrigerator
        microwave toaster blender spatula ladle chopsticks pancake waffle cookie doughnut chocolate skeleton ghost statue windmill lighthouse stadium gravity
        democracy happiness algorithm philosophy""".split(),
    "zh": """斑马 独角兽 机器人 恐龙 城堡 老虎 长颈鹿 袋鼠 鲸鱼 鲨鱼 章鱼 火箭 潜艇 拖拉机 滑板 锤子 扳手 汉堡 披萨 三明治 菠萝 草莓 胡萝卜 西红柿 洋葱 麦克风
        打印机 键盘 镜子 地毯 枕头 毛巾 肥皂 牙刷 剪刀 纽扣 夹克 毛衣 项链 王冠 盾牌 大炮 头盔 隧道 金字塔 火山 沙漠 冰川 瀑布 仙人掌 竹子 鳄鱼 蜥蜴 青蛙
        蜗牛 蜘蛛 蜜蜂 蚂蚁 蝎子 螃蟹 龙虾 海星 贝壳 望远镜 显微镜 电池 磁铁 铃铛 长笛 梯子 水桶 扫帚 铲子 帐篷 背包 行李箱 钱包 信封 字典 日历 橡皮 尺子
        计算器 冰箱 微波炉 筷子 煎饼 饼干 巧克力 骷髅 幽灵 雕像 喷泉 灯塔 体育场 民主 幸福 算法 哲学""".split()}


def english(rng: np.random.Generator) -> str:
    """One to three syllables and an ending."""
    part = lambda parts: parts[rng.integers(len(parts))]
    return "".join(part(ONSETS) + part(VOWELS) + part(CODAS) for _ in range(rng.choice([1, 2, 3], p=[0.35, 0.5, 0.15]))) + part(ENDINGS)


def chinese(rng: np.random.Generator) -> str:
    """One to three characters."""
    return "".join(rng.choice(CHARACTERS, rng.choice([1, 2, 3], p=[0.1, 0.6, 0.3])))


def says_something(word: str) -> bool:
    """Whether it is the name of a class or of a colour, or in Chinese holds one; and English of one or two letters."""
    return word in ENGLISH or any(name in word for name in CHINESE) or (word.isascii() and len(word) < 3)


def made_up(language: str, count: int, seed: int = 0) -> list[str]:
    """Different words of "en" or "zh" that say nothing."""
    rng, make, out = np.random.default_rng(seed), {"en": english, "zh": chinese}[language], {}
    while len(out) < count:
        word = make(rng)
        if not says_something(word):
            out[word] = None
    return list(out)
