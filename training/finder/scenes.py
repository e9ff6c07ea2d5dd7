"""Whole pictures: streets, parks, shores, laid tables and rooms, with the truth about every object in them.

A scene is laid out first (what stands where, how large, in which colour) and then drawn from the back to the front, so that
what is nearer hides what is behind it. Sizes follow the ground: nearer is lower and larger.
"""

from dataclasses import dataclass

import numpy as np
import skia

from . import indoors, living, outdoors
from .canvas import Canvas, argb, blob, light, oval, poly, rect, smooth
from .lexicon import colours_of, hsv, sample_colour

SIZE = 256  # pixels a side
LEAST = 64  # pixels of an object below which it is too little to be seen

# half the width and the height of what stands, in hundredths of its size; None below: its middle is the origin
EXTENT = {
    "car": (50, 44), "bus": (62, 58), "truck": (60, 54), "bicycle": (56, 74), "house": (50, 95), "tree": (32, 108), "bench": (52, 50),
    "street lamp": (12, 115), "fence": (50, 36), "person": (20, 104), "dog": (46, 80), "cat": (44, 84), "bird": (50, 70), "umbrella": (50, 100),
    "balloon": (34, 86), "flower": (28, 104), "mushroom": (44, 82), "butterfly": (46, 84), "ball": (45, 90), "kite": (36, 100), "boat": (54, 92),
    "cloud": (46, 34), "sun": (60, 60), "apple": (44, 99), "pear": (36, 110), "banana": (54, 66), "lemon": (55, 68), "cup": (48, 92), "plate": (54, 44),
    "bowl": (52, 62), "bottle": (19, 120), "spoon": (52, 12), "fork": (52, 12), "knife": (52, 8), "teapot": (62, 90), "book": (48, 90),
    "vase": (32, 88), "lamp": (40, 108), "clock": (48, 48), "chair": (37, 112), "table": (52, 64), "picture": (50, 45),
}
HOME = {name: module for module in (outdoors, living, indoors) for name in EXTENT if hasattr(module, name.replace(" ", "_"))}


@dataclass
class Thing:
    name: str
    colour: str | None
    number: int  # its id in the map


@dataclass
class Picture:
    rgb: np.ndarray  # [size, size, 3] uint8
    ids: np.ndarray  # [size, size] uint8: 0 nothing, else a thing's number
    things: list[Thing]

    def mask(self, thing: Thing) -> np.ndarray:
        return self.ids == thing.number


class Scene:
    def __init__(self, rng: np.random.Generator, unseen: bool):
        self.rng, self.unseen = rng, unseen
        self.c = Canvas(SIZE, rng)
        self.things: list[Thing] = []
        self.waiting: list[tuple] = []  # (depth, order, draw)
        self.boxes: list[tuple[float, float, float, float]] = []
        self.palette = list(rng.choice(["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray"], 4, replace=False))

    def colour_for(self, name: str) -> str | None:
        """One that this class may have here; half the time one that other things of the picture have too."""
        free = colours_of(name, self.unseen)
        if not free:
            return None
        if self.unseen and self.rng.random() < 0.6:
            held = [c for c in free if c not in colours_of(name, False)]
            if held:
                return held[self.rng.integers(len(held))]
        shared = [c for c in free if c in self.palette]
        if shared and self.rng.random() < 0.55:
            return shared[self.rng.integers(len(shared))]
        return free[self.rng.integers(len(free))]

    def number(self, name: str, colour: str | None = None) -> int:
        self.things.append(Thing(name, colour, len(self.things) + 1))
        return len(self.things)

    def region(self, name: str, path, colour, shade=None):
        """The part of the picture that is sky, road, wall, …"""
        with self.c.object(self.number(name)):
            self.c.fill(path, colour, shade, False)

    def fits(self, box, most) -> bool:
        """Whether no object hides more than `most` of another, by their boxes."""
        x0, y0, x1, y1 = box
        for u0, v0, u1, v1 in self.boxes:
            w, h = min(x1, u1) - max(x0, u0), min(y1, v1) - max(y0, v0)
            if w > 0 and h > 0 and w * h > most * min((x1 - x0) * (y1 - y0), (u1 - u0) * (v1 - v0)):
                return False
        return True

    def put(self, name, x, y, size, depth=None, most=0.35, turn=0.0, flip=None, colour=None, keep=True, **more):
        """One object, `size` pixels for a hundred units, if there is room for it: whether there was."""
        half, high = EXTENT[name][0] * size / 100, EXTENT[name][1] * size / 100
        up, down = (high, high) if name in ("clock", "picture", "sun") else (high, 0)
        box = (x - half, y - up, x + half, y + down)
        inside = (min(box[2], SIZE) - max(box[0], 0)) * (min(box[3], SIZE) - max(box[1], 0))
        if min(box[2], SIZE) < max(box[0], 0) or inside < 0.45 * (box[2] - box[0]) * (box[3] - box[1]) or not self.fits(box, most):
            return False
        if keep:
            self.boxes.append(box)
        colour = colour or self.colour_for(name)
        draw = getattr(HOME[name], name.replace(" ", "_"))
        seed = int(self.rng.integers(1 << 62))
        flip = self.rng.random() < 0.5 if flip is None else flip

        def paint():
            rng = np.random.Generator(np.random.SFC64(seed))
            tint = sample_colour(colour, rng) if colour else None
            with self.c.object(self.number(name, colour), x, y, size / 100, turn, flip):
                draw(self.c, rng, tint, **more)

        self.waiting.append((y if depth is None else depth, len(self.waiting), paint))
        return True

    def scatter(self, name, count, xs, ys, size, perspective=0.0, tries=4, **more):
        """Up to `count` of a class at places drawn from xs × ys; `perspective`: how much smaller the farthest are."""
        near, far = max(ys), min(ys)
        for _ in range(count):
            for _ in range(tries):
                x, y = self.rng.uniform(*xs), self.rng.uniform(far, near)
                scale = 1 - perspective * (near - y) / max(1.0, near - far)
                if self.put(name, x, y, self.rng.uniform(*size) * scale, **more):
                    break

    def some(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def chance(self, p):
        return self.rng.random() < p

    def finish(self) -> Picture:
        for _, _, paint in sorted(self.waiting, key=lambda w: w[:2]):
            paint()
        rgb = self.weather(self.c.pixels())
        present = np.bincount(self.c.ids.ravel(), minlength=len(self.things) + 1)
        return Picture(rgb, self.c.ids, [t for t in self.things if present[t.number]])

    def weather(self, rgb):
        """Light of the day (exposure, contrast, warmth) and a little grain: the colours stay what people call them."""
        rng = self.rng
        curve = np.linspace(0, 1, 256, dtype=np.float32) ** rng.uniform(0.85, 1.2)
        warm = rng.normal(0, 0.025)
        for channel, gain in enumerate((1 + warm, 1.0, 1 - warm)):
            table = np.clip((curve * rng.uniform(0.94, 1.0) + rng.uniform(0, 0.03)) * gain * 255, 0, 255).astype(np.uint8)
            rgb[:, :, channel] = table[rgb[:, :, channel]]
        grain = rng.uniform(0, 5)
        if grain > 1:
            shift = rng.integers(len(GRAIN) - SIZE * SIZE * 3)
            noise = (GRAIN[shift:shift + SIZE * SIZE * 3] * grain).astype(np.int16).reshape(SIZE, SIZE, 3)
            np.clip(noise + rgb, 0, 255, out=noise)
            rgb = noise.astype(np.uint8)
        return rgb


GRAIN = np.random.default_rng(0).standard_normal(SIZE * SIZE * 4).astype(np.float32)


def sky(s: Scene, horizon: float):
    """Day, evening or dull, with clouds and perhaps the sun."""
    rng, c = s.rng, s.c
    mood = rng.random()
    if mood < 0.65:
        top, low = hsv(rng.uniform(198, 220), rng.uniform(0.3, 0.7), rng.uniform(0.75, 0.98)), hsv(rng.uniform(190, 210), rng.uniform(0.05, 0.25), 0.98)
    elif mood < 0.85:
        top, low = hsv(rng.uniform(205, 260), rng.uniform(0.25, 0.5), rng.uniform(0.55, 0.85)), hsv(rng.uniform(10, 45), rng.uniform(0.25, 0.5), 0.98)
    else:
        top, low = (hsv(210, rng.uniform(0.03, 0.15), v) for v in (rng.uniform(0.65, 0.8), rng.uniform(0.8, 0.93)))
    with c.object(s.number("sky")):
        path = rect(0, 0, SIZE, horizon + 3)
        c._stamp(path)
        shader = skia.GradientShader.MakeLinear(points=[(0, 0), (0, horizon)], colors=[argb(top), argb(low)])
        c.colour.drawPath(path, skia.Paint(Shader=shader))
    if s.chance(0.35):
        s.put("sun", rng.uniform(20, 236), rng.uniform(18, horizon * 0.55), rng.uniform(26, 48), depth=-900)
    s.scatter("cloud", s.some(0, 4), (0, SIZE), (20, horizon * 0.75), (38, 85), depth=-800, most=0.2)
    if s.chance(0.3):
        s.scatter("bird", s.some(1, 3), (10, 246), (24, horizon * 0.8), (20, 34), depth=-700, most=0.05)
    if s.chance(0.18):
        s.scatter("balloon", s.some(1, 3), (15, 240), (45, horizon), (34, 60), depth=2000, most=0.1)


def hills(s: Scene, horizon: float):
    """Far away and of no class: colour and id 0."""
    for i in range(s.some(0, 2)):
        y = horizon - s.rng.uniform(4, 30) * (1 - 0.4 * i)
        points = [(x, y + s.rng.uniform(-14, 12)) for x in range(-30, SIZE + 61, 45)]
        hue = hsv(s.rng.uniform(90, 230), s.rng.uniform(0.1, 0.3), s.rng.uniform(0.55, 0.8))
        path = smooth([*points, (SIZE + 60, horizon + 20), (-30, horizon + 20)])
        s.c.id = 0
        s.c._stamp(path)
        s.c.fill(path, hue, 0.05, False)


def lawn(s: Scene, path, y0: float, y1: float):
    green = hsv(s.rng.uniform(75, 125), s.rng.uniform(0.4, 0.7), s.rng.uniform(0.5, 0.78))
    s.region("grass", path, green, 0.1)
    n = s.some(20, 45)
    for x, y, t in zip(s.rng.uniform(0, SIZE, n), s.rng.uniform(y0 + 3, y1, n), s.rng.uniform(-0.22, 0.18, n)):
        h = 2 + 5 * (y - y0) / max(1, SIZE - y0)
        s.c.mark([(x - h * 0.4, y - h), (x, y), (x + h * 0.5, y - h * 0.9)], light(green, t), 1.1, 0.8, path)


def street(rng, unseen) -> Picture:
    s = Scene(rng, unseen)
    horizon = rng.uniform(70, 120)
    sky(s, horizon)
    hills(s, horizon)
    kerb = horizon + rng.uniform(18, 34)
    end = rng.uniform(kerb + 55, 226)
    near = s.chance(0.55)
    lawn(s, rect(0, horizon, SIZE, kerb), horizon, kerb)
    x, town = rng.uniform(-10, 60), rng.uniform(62, 108)
    while x < SIZE + 10:
        size = town * rng.uniform(0.8, 1.25)
        s.put("house", x, horizon + rng.uniform(2, 10), size, most=0.3)
        x += size * rng.uniform(0.9, 1.7)
    paving = hsv(rng.uniform(20, 50), rng.uniform(0.03, 0.15), rng.uniform(0.6, 0.8))
    s.c.id = 0
    for path in (rect(0, kerb, SIZE, kerb + 9), rect(0, end - 2, SIZE, SIZE)):
        s.c._stamp(path)
        s.c.fill(path, paving, 0.05, False)
    for px in np.arange(rng.uniform(0, 20), SIZE, 22):
        s.c.mark([(px, kerb), (px - 3, kerb + 9)], light(paving, -0.25), 1, 0.6)
    if near:
        lawn(s, rect(0, end + 11, SIZE, SIZE), end + 11, SIZE)
    tar = hsv(rng.uniform(200, 260), rng.uniform(0, 0.1), rng.uniform(0.28, 0.52))
    s.region("road", rect(0, kerb + 9, SIZE, end), tar, 0.06)
    middle = (kerb + 9 + end) / 2
    stripe, dash = ((0.95, 0.95, 0.92), (0.95, 0.8, 0.3))[s.some(0, 1)], rng.uniform(16, 30)
    for px in np.arange(rng.uniform(-20, 0), SIZE, dash * 1.8):
        s.c.detail(poly([(px + 3, middle - 1.6), (px + dash + 3, middle - 1.6), (px + dash, middle + 1.6), (px, middle + 1.6)]), stripe, 0.9)
    if s.chance(0.25):
        zx = rng.uniform(20, 200)
        for k in range(5):
            y = kerb + 12 + k * (end - kerb - 12) / 5
            s.c.detail(rect(zx, y, zx + 26, y + (end - kerb) / 9), (0.93, 0.93, 0.9), 0.85)
    lanes = ((kerb + 16, middle - 2, rng.uniform(50, 66)), (middle + 14, end - 4, rng.uniform(64, 96)))
    for y0, y1, size in lanes:
        y = rng.uniform(y0, y1)
        for _ in range(s.some(0, 4)):
            name = ("car", "car", "car", "car", "bus", "truck", "bicycle")[s.some(0, 6)]
            fit = size * {"bus": 1.25, "truck": 1.25, "bicycle": 0.62}.get(name, 1) * rng.uniform(0.9, 1.1)
            for _ in range(4):
                if s.put(name, rng.uniform(0, SIZE), y + rng.uniform(-2, 2), fit, most=0.14):
                    break
    s.scatter("tree", s.some(0, 4), (0, SIZE), (kerb - 8, kerb + 2), (55, 95), most=0.3)
    s.scatter("street lamp", s.some(0, 2), (10, 246), (kerb + 4, kerb + 7), (70, 100), most=0.4)
    s.scatter("person", s.some(0, 3), (8, 248), (kerb + 4, kerb + 9), (40, 54), most=0.25)
    if s.chance(0.3):
        s.put("bench", rng.uniform(20, 236), kerb + 6, rng.uniform(38, 50), most=0.3)
    if end < 225:
        base = (end + 10, min(SIZE + 8, end + 40))
        s.scatter("person", s.some(0, 2), (10, 246), base, (70, 96), most=0.25)
        for name, p, size in (("dog", 0.3, (34, 50)), ("cat", 0.25, (30, 42)), ("street lamp", 0.2, (120, 150)), ("bench", 0.2, (60, 80)),
                              ("tree", 0.2, (110, 150)), ("bicycle", 0.2, (50, 66)), ("ball", 0.12, (14, 22))):
            if s.chance(p):
                s.scatter(name, 1, (10, 246), base, size, most=0.25)
        if near and s.chance(0.4):
            s.scatter("flower", s.some(1, 5), (8, 248), (end + 16, SIZE), (28, 42), most=0.2)
    return s.finish()


def park(rng, unseen) -> Picture:
    s = Scene(rng, unseen)
    horizon = rng.uniform(80, 135)
    sky(s, horizon)
    hills(s, horizon)
    lawn(s, rect(0, horizon, SIZE, SIZE), horizon, SIZE)
    if s.chance(0.3):
        blue = hsv(rng.uniform(190, 215), rng.uniform(0.35, 0.65), rng.uniform(0.6, 0.85))
        x, y = rng.uniform(60, 196), horizon + rng.uniform(28, 50)
        rx, ry = rng.uniform(55, 100), rng.uniform(14, 24)
        pond = blob(rng, x, y, rx, ry, 10, 0.1)
        s.region("lake", pond, blue, 0.12)
        for _ in range(8):
            u, v = x + rng.uniform(-0.7, 0.7) * rx, y + rng.uniform(-0.6, 0.6) * ry
            s.c.mark([(u - 6, v), (u + 6, v)], (1, 1, 1), 1, 0.45, pond)
        s.boxes.append((x - rx * 0.8, y - ry * 0.6, x + rx * 0.8, y + ry * 0.6))
        if s.chance(0.6):
            s.put("boat", x + rng.uniform(-0.4, 0.4) * rx, y + ry * 0.3, rng.uniform(36, 56), most=1.1, keep=False)
    if s.chance(0.3):  # a path
        x0, x1 = rng.uniform(40, 216, 2)
        w = rng.uniform(6, 10)
        path = smooth([(x0 - w * 0.4, horizon + 1), (x0 + w * 0.4, horizon + 1), (x1 + w * 2, 200), (x1 + w * 5, 264), (x1 - w * 5, 264), (x1 - w, 200)])
        s.region("road", path, hsv(rng.uniform(28, 45), rng.uniform(0.15, 0.35), rng.uniform(0.6, 0.85)), 0.08)
    if s.chance(0.4):
        s.scatter("house", s.some(1, 2), (20, 236), (horizon + 3, horizon + 12), (55, 110), most=0.25)
    if s.chance(0.35):
        y = horizon + rng.uniform(8, 24)
        x, size = rng.uniform(-20, 90), rng.uniform(50, 90)
        s.put("fence", x, y, size, most=2, keep=False, flip=False, length=rng.uniform(100, 300))
    s.scatter("tree", s.some(0, 5), (0, SIZE), (horizon + 4, horizon + 60), (75, 140), 0.35, most=0.3)
    ground = (horizon + 30, SIZE - 2)
    for name, p, most, size in (("person", 0.65, 3, (66, 100)), ("dog", 0.4, 2, (38, 56)), ("cat", 0.35, 2, (34, 50)), ("bench", 0.3, 1, (56, 80)),
                                ("bicycle", 0.25, 1, (54, 74)), ("ball", 0.35, 3, (16, 30)), ("bird", 0.25, 2, (24, 36)), ("mushroom", 0.25, 4, (20, 36)),
                                ("chair", 0.1, 2, (46, 60)), ("street lamp", 0.12, 1, (100, 130))):
        if s.chance(p):
            s.scatter(name, s.some(1, most), (10, 246), ground, size, 0.45, most=0.25)
    if s.chance(0.55):
        low = rng.uniform(horizon + 40, 225)
        s.scatter("flower", s.some(2, 9), (6, 250), (low, SIZE), (32, 58), 0.3, most=0.2)
    if s.chance(0.3):
        s.scatter("kite", s.some(1, 2), (25, 231), (40, horizon), (34, 56), depth=1500, turn=rng.uniform(-30, 30), most=0.15)
    if s.chance(0.35):
        s.scatter("butterfly", s.some(1, 4), (12, 244), (horizon * 0.7, SIZE - 20), (22, 36), depth=1800, turn=rng.uniform(-30, 30), most=0.15)
    if s.chance(0.25):
        s.scatter("umbrella", s.some(1, 2), (30, 226), (horizon + 60, SIZE - 20), (58, 84), 0.2, most=0.25, turn=rng.uniform(-12, 12))
    return s.finish()


def shore(rng, unseen) -> Picture:
    s = Scene(rng, unseen)
    horizon = rng.uniform(75, 125)
    sky(s, horizon)
    hills(s, horizon)
    water = hsv(rng.uniform(185, 215), rng.uniform(0.35, 0.7), rng.uniform(0.5, 0.85))
    beach = rng.uniform(horizon + 60, 225)
    s.region("lake", rect(0, horizon, SIZE, SIZE), water, 0.1)
    n = s.some(15, 30)
    for x, y in zip(rng.uniform(0, SIZE, n), rng.uniform(horizon + 4, beach, n)):
        w = 4 + 14 * (y - horizon) / (SIZE - horizon)
        s.c.mark([(x - w, y), (x - w * 0.3, y - 1.5), (x + w * 0.3, y), (x + w, y - 1.5)], light(water, 0.4), 1.2, 0.5, curved=True)
    edge = [(x, beach + rng.uniform(-6, 6)) for x in range(-30, SIZE + 61, 45)]
    land = smooth([*edge, (SIZE + 60, SIZE + 30), (-30, SIZE + 30)])
    if s.chance(0.5):
        lawn(s, land, beach, SIZE)
    else:
        s.c.id = 0
        s.c._stamp(land)
        s.c.fill(land, hsv(rng.uniform(36, 46), rng.uniform(0.25, 0.45), rng.uniform(0.8, 0.95)), 0.08, False)
    s.scatter("boat", s.some(1, 5), (15, 241), (horizon + 10, beach - 6), (48, 92), 0.5, most=0.25)
    for name, p, most, size in (("person", 0.6, 3, (62, 90)), ("umbrella", 0.5, 3, (60, 90)), ("ball", 0.4, 2, (16, 28)), ("dog", 0.3, 1, (36, 50)),
                                ("chair", 0.25, 2, (44, 58)), ("bench", 0.15, 1, (54, 70)), ("bird", 0.3, 2, (22, 34)), ("tree", 0.25, 2, (90, 130)),
                                ("flower", 0.25, 4, (30, 46)), ("bottle", 0.1, 1, (28, 36)), ("book", 0.1, 1, (24, 32))):
        if s.chance(p):
            s.scatter(name, s.some(1, most), (12, 244), (min(beach + 14, SIZE - 20), SIZE + 4), size, 0.2, most=0.25)
    if s.chance(0.35):
        s.scatter("kite", s.some(1, 3), (25, 231), (40, horizon), (32, 54), depth=1500, turn=rng.uniform(-30, 30), most=0.15)
    return s.finish()


def wall(s: Scene, low: float):
    """Paint, stripes, tiles or dots."""
    rng, c = s.rng, s.c
    tone = hsv(rng.uniform(0, 360), rng.uniform(0.03, 0.35), rng.uniform(0.68, 0.96))
    path = rect(0, 0, SIZE, low + 2)
    s.region("wall", path, tone, 0.08)
    kind, other = rng.integers(4), light(tone, rng.choice([-0.12, 0.25]))
    if kind == 0:
        step = rng.uniform(14, 34)
        for x in np.arange(rng.uniform(0, step), SIZE, step):
            c.detail(rect(x, 0, x + step * 0.45, low + 2), other, 0.7)
    elif kind == 1:
        step = rng.uniform(22, 36)
        for x in np.arange(0, SIZE, step):
            c.mark([(x, 0), (x, low)], other, 1.2, 0.9)
        for y in np.arange(low % step, low, step):
            c.mark([(0, y), (SIZE, y)], other, 1.2, 0.9)
    elif kind == 2:
        for i, x in enumerate(np.arange(8, SIZE, 30)):
            for y in np.arange(10 + 15 * (i % 2), low - 4, 30):
                c.detail(oval(x, y, 3, 3), other, 0.8)


def tabletop(rng, unseen) -> Picture:
    s = Scene(rng, unseen)
    back = rng.uniform(70, 135)
    wall(s, back)
    tone = outdoors.wood(rng) if s.chance(0.7) else hsv(rng.uniform(0, 360), rng.uniform(0.05, 0.35), rng.uniform(0.55, 0.95))
    front = rng.uniform(236, 300)
    top = rect(0, back, SIZE, SIZE)
    s.region("table", top, tone, 0.1)
    if s.chance(0.6):
        for y in np.cumsum(rng.uniform(8, 26, 10)) + back:
            s.c.mark([(0, y), (90, y + rng.uniform(-2, 2)), (180, y), (SIZE, y)], light(tone, -0.18), 1.1, 0.6, top, True)
    elif s.chance(0.6):  # a checked cloth
        cloth = sample_colour(("red", "blue", "green", "yellow")[s.some(0, 3)], rng)
        for x in np.arange(-40, SIZE + 40, 34):
            s.c.detail(poly([(128 + (x - 128) * 0.8, back), (128 + (x + 15 - 128) * 0.8, back), (128 + (x + 15 - 128) * 1.3, SIZE), (128 + (x - 128) * 1.3, SIZE)]), cloth, 0.25)
        for y in np.arange(back + 6, SIZE, 30):
            s.c.detail(rect(0, y, SIZE, y + 13), cloth, 0.25)
    if front < SIZE:
        s.c.id = s.things[-1].number
        s.c.fill(rect(0, front, SIZE, SIZE), light(tone, -0.3), 0.05, False)
    if s.chance(0.4):
        s.scatter("picture", s.some(1, 2), (30, 226), (30, 45), (36, 60), depth=-900, most=0.05)
    if s.chance(0.3):
        s.put("clock", rng.uniform(30, 226), rng.uniform(28, 42), rng.uniform(36, 52), depth=-900, most=0.05)
    ground = (back + 14, min(front, SIZE) - 6)
    crowd = rng.uniform(0.6, 1.3)
    if s.chance(0.35):
        for _ in range(s.some(1, 2)):
            x, y, size = rng.uniform(30, 226), rng.uniform(*ground), rng.uniform(48, 70)
            if s.put("vase", x, y, size, most=0.2) and s.chance(0.7):
                for k in range(s.some(1, 4)):
                    s.put("flower", x + (k - 1.2) * size * 0.16, y - size * 0.82, size * rng.uniform(0.55, 0.8), depth=y - 0.5, most=2, keep=False,
                          turn=(k - 1.2) * 14)
    if s.chance(0.25):
        s.scatter("lamp", 1, (25, 231), (back + 14, back + 50), (66, 95), most=0.2)
    for name, p, most, size in (("cup", 0.55, 4, (30, 52)), ("bottle", 0.4, 3, (56, 84)), ("teapot", 0.3, 1, (44, 66)), ("bowl", 0.4, 2, (44, 66)),
                                ("book", 0.35, 3, (44, 66)), ("apple", 0.5, 5, (24, 40)), ("pear", 0.3, 3, (26, 40)), ("banana", 0.3, 2, (40, 60)),
                                ("lemon", 0.3, 4, (24, 36)), ("vase", 0.1, 1, (44, 64)), ("cat", 0.12, 1, (52, 72)), ("clock", 0.0, 1, (30, 40)),
                                ("mushroom", 0.1, 3, (22, 34))):
        if s.chance(p * crowd):
            s.scatter(name, s.some(1, most), (14, 242), ground, size, 0.3, most=0.3)
    for _ in range(s.some(0, 3)):  # a place laid: a plate, what is on it, what lies beside it
        x, y, size = rng.uniform(40, 216), rng.uniform(back + 40, SIZE - 10), rng.uniform(54, 84)
        if not s.put("plate", x, y, size, most=0.2):
            continue
        if s.chance(0.55):
            fruit = ("apple", "pear", "lemon", "banana", "apple", "mushroom")[s.some(0, 5)]
            for k in range(s.some(1, 3)):
                s.put(fruit, x + (k - 0.7) * size * 0.24, y - size * 0.14 + rng.uniform(-2, 2), size * rng.uniform(0.34, 0.44), depth=y + 0.1 + k * 0.1, most=2, keep=False)
        for name, side in (("fork", -1), ("knife", 1), ("spoon", 1.28)):
            if s.chance(0.5):
                s.put(name, x + side * size * 0.68, y - size * 0.12, size * 0.62, most=0.3, turn=-90 + rng.uniform(-10, 10) - side * 8, flip=False, depth=y)
    for name in ("spoon", "fork", "knife"):
        if s.chance(0.15):
            s.scatter(name, 1, (40, 216), (back + 40, SIZE - 10), (48, 66), most=0.1, turn=rng.uniform(-40, 40), depth=back)
    return s.finish()


def room(rng, unseen) -> Picture:
    s = Scene(rng, unseen)
    low = rng.uniform(130, 180)
    wall(s, low)
    tone = outdoors.wood(rng) if s.chance(0.6) else hsv(rng.uniform(0, 360), rng.uniform(0.04, 0.25), rng.uniform(0.5, 0.85))
    ground = rect(0, low, SIZE, SIZE)
    s.region("floor", ground, tone, 0.1)
    if s.chance(0.75):
        for x in np.arange(-200, SIZE + 200, rng.uniform(30, 46)):
            s.c.mark([(128 + (x - 128) * 0.7, low), (128 + (x - 128) * 1.3, SIZE)], light(tone, -0.25), 1.2, 0.6, ground)
    s.c.mark([(0, low), (SIZE, low)], light(tone, rng.choice([0.6, -0.4])), 4)
    if s.chance(0.35):  # a carpet, of no class
        path, carpet = oval(rng.uniform(70, 186), rng.uniform(low + 30, 240), rng.uniform(50, 95), rng.uniform(12, 22)), hsv(rng.uniform(0, 360), rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.85))
        s.c.id = 0
        s.c._stamp(path)
        s.c.fill(path, carpet, 0.05, False)
    s.scatter("picture", s.some(0, 3), (25, 231), (34, low * 0.45), (38, 70), depth=-900, most=0.02)
    if s.chance(0.4):
        s.put("clock", rng.uniform(25, 231), rng.uniform(28, low * 0.4), rng.uniform(34, 58), depth=-900, most=0.02)
    if s.chance(0.2):
        s.scatter("balloon", s.some(1, 4), (20, 236), (50, 120), (36, 56), depth=2000, most=0.15)
    for _ in range(s.some(0, 2)):
        x, y, size = rng.uniform(50, 206), rng.uniform(low + 18, 240), rng.uniform(84, 135)
        if not s.put("table", x, y, size, most=0.15):
            continue
        top = y - size * 0.63
        for _ in range(s.some(0, 4)):
            name = ("lamp", "vase", "cup", "book", "bottle", "bowl", "teapot", "apple", "clock", "cat")[s.some(0, 8)]
            big = {"lamp": 62, "vase": 50, "cup": 26, "book": 34, "bottle": 46, "bowl": 36, "teapot": 36, "apple": 20, "clock": 0}[name]
            if big:
                s.put(name, x + rng.uniform(-0.42, 0.42) * size, top + 1, big * rng.uniform(0.85, 1.2), depth=y + 0.1, most=0.25)
    floor_ = (low + 16, SIZE - 2)
    for name, p, most, size in (("chair", 0.6, 3, (70, 98)), ("person", 0.45, 2, (104, 140)), ("cat", 0.45, 2, (44, 62)), ("dog", 0.35, 2, (52, 72)),
                                ("lamp", 0.25, 1, (80, 115)), ("ball", 0.35, 3, (20, 34)), ("book", 0.3, 3, (28, 44)), ("vase", 0.25, 1, (60, 88)),
                                ("umbrella", 0.12, 1, (70, 90)), ("bicycle", 0.08, 1, (86, 100)), ("cup", 0.15, 2, (20, 28)), ("bowl", 0.2, 1, (28, 40))):
        if s.chance(p):
            s.scatter(name, s.some(1, most), (15, 241), floor_, size, 0.25, most=0.25)
    return s.finish()


KINDS = (street, park, shore, tabletop, room)
SHARE = (0.26, 0.22, 0.12, 0.24, 0.16)
SPLITS = {"train": 0, "dev": 1, "seen": 2, "unseen": 3}  # no two share a seed; only "unseen" draws the held-out pairs


def draw(split: str, seed: int, kind: str | None = None) -> Picture:
    """The picture of this number in a split: the same every time."""
    rng = np.random.Generator(np.random.SFC64([SPLITS[split], seed]))
    pick = KINDS[rng.choice(len(KINDS), p=SHARE)] if kind is None else globals()[kind]
    return pick(rng, split == "unseen")


