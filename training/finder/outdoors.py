"""How things outside look. Every function draws one object in units of a hundredth of its size: the origin is where it stands,
x to the right, y down; `tint` is its colour, where it has one to choose."""

import math

import numpy as np

from .canvas import Canvas, blob, light, mix, oval, poly, rect, smooth, union
from .lexicon import hsv, sample_colour

DARK, GLASS, STEEL = (0.1, 0.1, 0.13), (0.62, 0.78, 0.88), (0.72, 0.74, 0.78)
WOOD = (0.5, 0.33, 0.18)


def wood(rng):
    return hsv(rng.uniform(22, 34), rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.72))


def foliage(rng):
    return hsv(rng.uniform(72, 140), rng.uniform(0.4, 0.75), rng.uniform(0.3, 0.6))


def glass(rng):
    return mix(GLASS, (0.25, 0.35, 0.45), rng.uniform(0, 0.8))


def wheel(c, x, y, r, hub=STEEL):
    c.fill(oval(x, y, r, r), DARK, 0.0, False)
    c.detail(oval(x, y, r * 0.55, r * 0.55), hub)
    c.detail(oval(x, y, r * 0.2, r * 0.2), DARK)


def car(c: Canvas, rng, tint):
    c.shadow(0, -2, 58, 8)
    if rng.random() < 0.2:
        return car_front(c, rng, tint)
    kind, r = rng.integers(4), rng.uniform(8.5, 11)
    sill, hood = -r * 0.75, -rng.uniform(21, 26)
    top = -rng.uniform(36, 42) if kind else -rng.uniform(42, 48)
    if kind == 0:  # a round one
        cabin = smooth([(-40, hood), (-30, top * 0.8), (-6, top), (18, top * 0.85), (32, hood), (0, hood + 4)])
        body = smooth([(-50, sill), (-49, hood + 2), (-30, hood - 6), (10, hood - 7), (36, hood), (50, hood + 8), (50, sill), (0, sill + 1)])
        panes = [[(-28, hood - 2), (-22, top * 0.84), (-7, top + 5), (-7, hood - 2)], [(-2, hood - 2), (-2, top + 5), (14, top * 0.86), (24, hood - 2)]]
    else:
        back, front = ((-34, 26), (-46, 18), (-38, 8))[kind - 1]  # saloon, estate, small
        lean = rng.uniform(8, 16)
        cabin = smooth([(back - 6, hood + 2), (back + lean * 0.5, top + 2), (back + lean, top), (front - lean * 0.3, top), (front + 3, top + 3),
                        (front + lean + 4, hood + 2), (0, hood + 5)])
        body = rect(-50, hood, 50, sill, 7)
        mid = (back + front) / 2
        panes = [[(back + 2, hood), (back + lean, top + 4.5), (mid - 2, top + 4.5), (mid - 2, hood)],
                 [(mid + 2, hood), (mid + 2, top + 4.5), (front, top + 4.5), (front + lean, hood)]]
    c.fill(cabin, light(tint, -0.06))
    c.fill(body, tint)
    pane = glass(rng)
    for p in panes:
        c.detail(poly(p), pane)
    c.mark([(panes[0][0][0] + 6, hood - 2), (panes[0][0][0] + 12, top + 6)], (1, 1, 1), 2, 0.45)
    c.mark([(-48, (hood + sill) / 2), (48, (hood + sill) / 2)], light(tint, -0.35), 1, 0.6)
    c.mark([(0, hood + 2), (0, sill - 2)], light(tint, -0.4), 0.9, 0.7)
    c.mark([(-10, hood + 4.5), (-5, hood + 4.5)], light(tint, -0.5), 1.4, 0.8)
    c.detail(oval(47, hood + 6, 3, 2.6), (1, 0.95, 0.7))
    c.detail(rect(-50, hood + 4, -46.5, hood + 9), (0.8, 0.1, 0.1))
    for x in (-29, 29):
        c.detail(oval(x, -r, r * 1.25, r * 1.25), light(tint, -0.6), 1.0, union(body, rect(-50, sill - 1, 50, sill)))
        wheel(c, x, -r, r)


def car_front(c, rng, tint):
    top = -rng.uniform(58, 68)
    for x in (-32, 32):
        c.fill(rect(x - 7, -16, x + 7, 0, 3), DARK, 0, False)
    c.fill(poly([(-30, -34), (-22, top), (22, top), (30, -34)]), light(tint, -0.05))
    c.detail(poly([(-25, -36), (-19, top + 4), (19, top + 4), (25, -36)]), glass(rng))
    c.fill(rect(-42, -38, 42, -7, 9), tint)
    for x in (-31, 31):
        c.detail(oval(x, -27, 6.5, 5.5), (1, 0.96, 0.78))
    c.detail(rect(-18, -29, 18, -21, 2), DARK)
    c.detail(rect(-11, -16, 11, -10), (0.95, 0.95, 0.9))


def bus(c, rng, tint):
    c.shadow(0, -2, 66, 8)
    top = -rng.uniform(50, 62)
    c.fill(rect(-62, top, 62, -8, 5), tint)
    pane = glass(rng)
    n = rng.integers(4, 7)
    step = 92 / n
    for i in range(n):
        c.detail(rect(-57 + i * step, top + 7, -57 + (i + 0.84) * step, top + 24, 2), pane)
    c.detail(rect(40, top + 7, 49, -10, 1), light(pane, -0.1))
    c.detail(rect(52, top + 7, 62, top + 27, 2), pane)
    c.mark([(-62, top + 31), (38, top + 31)], light(tint, 0.6) if rng.random() < 0.6 else light(tint, -0.5), 3)
    c.detail(rect(56, -19, 62, -14, 1), (1, 0.95, 0.7))
    for x in (-38, 30):
        wheel(c, x, -9, 9)


def truck(c, rng, tint):
    c.shadow(0, -2, 66, 8)
    top = -rng.uniform(46, 60)
    load = light(tint, rng.uniform(-0.2, 0.1))
    if rng.random() < 0.65:
        c.fill(rect(-60, top, 22, -12, 1.5), load)
        for x in np.linspace(-50, 14, 6):
            c.mark([(x, top + 2), (x, -14)], light(load, -0.3), 0.8, 0.6)
    else:  # open, with a load
        for _ in range(5):
            c.fill(blob(rng, rng.uniform(-48, 8), -30, 14, 10), hsv(30, 0.4, rng.uniform(0.4, 0.6)))
        c.fill(rect(-60, -32, 22, -12), load)
    c.fill(rect(-60, -13, 58, -8), (0.25, 0.25, 0.28), 0)
    cab = smooth([(26, -11), (26, -44), (30, -48), (46, -48), (50, -44), (57, -26), (59, -22), (59, -10), (42, -9)])
    c.fill(cab, tint)
    c.detail(poly([(34, -44), (45, -44), (52, -27), (34, -27)]), glass(rng))
    c.detail(rect(55, -19, 59, -14), (1, 0.95, 0.7))
    for x in (-44, -22, 43):
        wheel(c, x, -9, 9)


def bicycle(c, rng, tint):
    c.shadow(0, -1, 52, 5, 0.25)
    r = 24
    for x in (-32, 32):
        c.stroke(oval(x, -r, r - 1.5, r - 1.5), DARK, 4)
        for a in np.arange(0, math.pi, math.pi / 4):
            c.mark([(x - r * math.cos(a), -r - r * math.sin(a)), (x + r * math.cos(a), -r + r * math.sin(a))], STEEL, 0.8)
    for line in ([(-32, -r), (-14, -56), (20, -58), (2, -r), (-32, -r)], [(2, -r), (-16, -62)], [(32, -r), (18, -66)]):
        c.wire(line, tint, 5.5)
    c.wire([(-24, -63), (-9, -63)], DARK, 6)
    c.wire([(18, -66), (16, -72), (28, -74)], DARK, 4)
    c.fill(oval(2, -r, 6, 6), STEEL, 0, False)


def house(c, rng, tint):
    w, h = rng.uniform(36, 52), rng.uniform(42, 70)
    c.shadow(0, -1, w * 1.2, 7, 0.3)
    roof = hsv(rng.choice([5, 15, 25, 210, 0]), rng.uniform(0.2, 0.65), rng.uniform(0.28, 0.6))
    peak = rng.uniform(22, 40)
    kind = rng.integers(4)
    if rng.random() < 0.5 and kind < 3:
        x = rng.uniform(-0.5, 0.4) * w
        c.fill(rect(x, -h - peak, x + 10, -h - peak * 0.2), light(roof, -0.25))
    body = rect(-w, -h, w, 0)
    c.fill(body, tint)
    if rng.random() < 0.4:  # bricks or boards
        for y in np.arange(-h + 5, 0, 5.0):
            c.mark([(-w, y), (w, y)], light(tint, -0.3), 0.7, 0.45)
    if kind == 0:
        c.fill(poly([(-w - 8, -h), (0, -h - peak), (w + 8, -h)]), roof)
    elif kind == 1:
        c.fill(poly([(-w - 7, -h), (-w * 0.55, -h - peak), (w * 0.55, -h - peak), (w + 7, -h)]), roof)
    elif kind == 2:
        c.fill(poly([(-w - 6, -h), (-w * 0.2, -h - peak), (w + 6, -h)]), roof)
    else:
        c.fill(rect(-w - 3, -h - 6, w + 3, -h + 2), roof)
    pane = glass(rng) if rng.random() < 0.75 else (1.0, 0.86, 0.45)
    frame = light(tint, 0.6) if rng.random() < 0.7 else light(roof, -0.2)
    rows, cols = (2 if h > 56 or kind == 3 else 1), int(rng.integers(2, 4))
    door = int(rng.integers(cols))
    size = min(w / cols * 0.5, h / rows * 0.25)
    for i in range(rows):
        for j in range(cols):
            x, y = -w + (2 * j + 1) * w / cols, -h + (i + 0.5) * h / rows
            if i == rows - 1 and j == door:
                wide = size * 0.95
                c.detail(rect(x - wide, -h / rows * 0.72, x + wide, 0, 1), light(roof, -0.15))
                c.detail(oval(x + wide * 0.6, -h / rows * 0.33, 1.4, 1.4), (0.95, 0.85, 0.4))
                continue
            c.detail(rect(x - size - 1.6, y - size * 1.1 - 1.6, x + size + 1.6, y + size * 1.1 + 1.6), frame)
            c.detail(rect(x - size, y - size * 1.1, x + size, y + size * 1.1), pane)
            c.mark([(x, y - size), (x, y + size)], frame, 1.5)
            c.mark([(x - size, y), (x + size, y)], frame, 1.5)


def tree(c, rng, tint):
    c.shadow(0, -1, rng.uniform(24, 36), 6, 0.3)
    bark, leaf = wood(rng), foliage(rng)
    if rng.random() < 0.13:
        leaf = hsv(rng.uniform(28, 48), 0.75, rng.uniform(0.65, 0.85))
    kind, h = rng.integers(4), rng.uniform(90, 115)
    t = rng.uniform(3.5, 6)
    c.fill(smooth([(-t, 0), (-t * 0.7, -h * 0.5), (0, -h * 0.6), (t * 0.7, -h * 0.5), (t, 0), (0, 1)]), light(bark, -0.15))
    if kind == 0:  # a fir
        n = int(rng.integers(3, 5))
        for i in range(n):
            w, y = 34 - 22 * i / n, -h * (0.18 + 0.56 * i / n)
            c.fill(poly([(-w, y), (0, y - h * 0.36), (w, y)]), light(leaf, 0.08 * i - 0.15))
    elif kind == 1:  # a ball
        c.fill(blob(rng, 0, -h * 0.68, 30, h * 0.33, 10, 0.07), leaf)
        for _ in range(9):
            c.detail(oval(rng.uniform(-20, 20), -h * 0.68 + rng.uniform(-20, 20), 4, 3), light(leaf, rng.choice([-0.2, 0.2])), 0.6)
    elif kind == 2:  # a poplar
        c.fill(smooth([(0, -h * 1.15), (13, -h * 0.7), (15, -h * 0.35), (0, -h * 0.2), (-15, -h * 0.35), (-13, -h * 0.7)]), leaf)
    else:  # clumps
        for i in range(int(rng.integers(5, 8))):
            a = rng.uniform(0, 2 * math.pi)
            x, y = 18 * math.cos(a), -h * 0.68 + 17 * math.sin(a)
            c.fill(blob(rng, x, y, rng.uniform(14, 20), rng.uniform(12, 18), 8, 0.12), light(leaf, rng.uniform(-0.15, 0.12) - y / h * 0.1 - 0.06))
    if kind in (1, 3) and rng.random() < 0.15:
        for _ in range(8):
            c.detail(oval(rng.uniform(-20, 20), -h * 0.68 + rng.uniform(-18, 22), 2.6, 2.6), (1, 0.75, 0.8))


def cloud(c, rng, tint):
    base = mix((1, 1, 1), (0.75, 0.78, 0.85), rng.uniform(0, 0.6))
    n = int(rng.integers(3, 6))
    xs = np.linspace(-32, 32, n)
    for x in xs:
        r = rng.uniform(13, 20) * (1.2 - abs(x) / 60)
        c.fill(oval(x, -r * 0.8, r * 1.1, r), base, 0.06, False)
    c.fill(rect(-44, -14, 44, 0, 7), light(base, -0.04), 0.0, False)


def sun(c, rng, tint):
    warm = hsv(rng.uniform(36, 54), rng.uniform(0.4, 0.8), 1)
    c.glow(0, 0, 110, warm, 0.5)
    if rng.random() < 0.4:
        for a in np.arange(0, 2 * math.pi, math.pi / 6):
            c.wire([(46 * math.cos(a), 46 * math.sin(a)), (62 * math.cos(a), 62 * math.sin(a))], warm, 6)
    c.fill(oval(0, 0, 38, 38), warm, 0.05)


def bench(c, rng, tint):
    c.shadow(0, -1, 56, 6, 0.3)
    for x in (-38, 38):
        c.wire([(x, 0), (x, -22), (x - 4, -46)], (0.2, 0.2, 0.23), 4)
    for y in (-46, -36):
        c.fill(rect(-50, y - 4, 50, y + 4, 2), tint)
    c.fill(rect(-52, -25, 52, -18, 2), light(tint, -0.08))


def street_lamp(c, rng, tint):
    post = hsv(rng.uniform(0, 360), rng.uniform(0, 0.2), rng.uniform(0.2, 0.4))
    c.shadow(0, -1, 12, 3)
    c.fill(rect(-5, -5, 5, 0), post, 0)
    if rng.random() < 0.5:
        c.wire([(0, 0), (0, -92)], post, 4)
        c.glow(0, -100, 26, (1, 0.95, 0.6), 0.5)
        c.fill(poly([(-8, -108), (8, -108), (6, -92), (-6, -92)]), (1, 0.94, 0.66))
        c.fill(poly([(-10, -107), (0, -115), (10, -107)]), post)
    else:
        c.wire([(0, 0), (0, -100), (4, -108), (22, -110)], post, 4)
        c.glow(22, -104, 20, (1, 0.95, 0.6), 0.5)
        c.fill(smooth([(14, -110), (22, -116), (30, -110), (22, -104)]), (1, 0.94, 0.66))


def fence(c, rng, tint, length=100):
    """Posts and two rails, `length` to the right of the origin."""
    for y in (-25, -12):
        c.fill(rect(0, y - 2.5, length, y + 2.5), light(tint, -0.08), 0)
    pointed = rng.random() < 0.6
    for x in np.arange(3, length, rng.uniform(10, 15)):
        c.fill(poly([(x - 3.6, 0), (x - 3.6, -31), (x, -37 if pointed else -31), (x + 3.6, -31), (x + 3.6, 0)]), tint)


def umbrella(c, rng, tint):
    """Open; the hand is at the origin."""
    c.wire([(0, 6), (0, -70)], (0.3, 0.25, 0.22), 3)
    edge = [(-50, -58), (-33, -63), (-17, -58), (0, -63), (17, -58), (33, -63), (50, -58)]
    c.fill(smooth([(-50, -58), (-36, -86), (0, -100), (36, -86), (50, -58), (33, -63), (17, -58), (0, -63), (-17, -58), (-33, -63)]), tint)
    for x, y in edge[1:-1:2] if rng.random() < 0.5 else edge[2:-1:2]:
        c.mark([(x, y), (x * 0.5, -85), (0, -99)], light(tint, -0.3), 1.2, 0.7, curved=True)


def balloon(c, rng, tint):
    c.wire([(0, 0), (rng.uniform(-5, 5), 24), (rng.uniform(-7, 7), 52)], (0.4, 0.4, 0.42), 1.4, curved=True)
    c.fill(smooth([(0, -86), (32, -70), (34, -38), (14, -8), (0, 0), (-14, -8), (-34, -38), (-32, -70)]), tint)
    c.fill(poly([(-5, 5), (0, -2), (5, 5)]), light(tint, -0.15))
    c.detail(oval(c.sun * 13, -62, 6, 11), (1, 1, 1), 0.5)


def flower(c, rng, tint):
    green, lean = foliage(rng), rng.uniform(-10, 10)
    c.wire([(0, 0), (lean * 0.2, -32), (lean, -70)], green, 5, curved=True)
    for s in (-1, 1):
        if rng.random() < 0.8:
            c.fill(smooth([(0, -18), (s * 14, -34), (s * 28, -36), (s * 16, -20)]), light(green, rng.uniform(-0.1, 0.1)), None, False)
    kind, heart = rng.integers(3), hsv(rng.uniform(30, 52), 0.85, rng.uniform(0.5, 0.95))
    x, y = lean, -78
    if kind == 0:  # daisy
        n = int(rng.integers(6, 10))
        for i in range(n):
            a = 2 * math.pi * i / n
            px, py = x + 17 * math.cos(a), y + 17 * math.sin(a)
            c.fill(oval(px, py, 10, 10), tint, 0.1)
        c.fill(oval(x, y, 10, 10), heart, 0.1)
    elif kind == 1:  # tulip
        c.fill(smooth([(x - 19, y - 20), (x - 8, y - 8), (x, y - 26), (x + 8, y - 8), (x + 19, y - 20), (x + 17, y + 8), (x, y + 18), (x - 17, y + 8)]), tint)
        c.mark([(x, y - 20), (x, y + 12)], light(tint, -0.3), 2, 0.6)
    else:  # rose
        c.fill(blob(rng, x, y, 24, 23, 8, 0.1), tint)
        for r in (15, 9, 4):
            c.mark([(x + r * math.cos(a), y + r * math.sin(a)) for a in np.linspace(r, r + 4.5, 6)], light(tint, -0.35), 2, 0.8, curved=True)


def mushroom(c, rng, tint):
    c.shadow(0, -1, 30, 6)
    c.fill(smooth([(-14, 0), (-10, -40), (10, -40), (14, 0), (0, 3)]), (0.95, 0.91, 0.82))
    cap = smooth([(-44, -38), (-34, -66), (0, -82), (34, -66), (44, -38), (0, -33)])
    c.fill(cap, tint)
    if rng.random() < 0.65:
        for x, y in ((-22, -52), (2, -66), (22, -50), (0, -46)):
            c.detail(oval(x + rng.uniform(-4, 4), y, 6, 5), light(tint, 0.85) if sum(tint) < 2.4 else (0.7, 0.5, 0.35), 1, cap)


def ball(c, rng, tint):
    c.shadow(0, -2, 44, 9)
    body = oval(0, -45, 45, 45)
    c.fill(body, tint, c.shade + 0.1)
    other = light(tint, 0.7) if sum(tint) < 2.2 else (0.35, 0.35, 0.4)
    kind = rng.integers(3)
    if kind == 0:
        c.mark([(-50, -60), (0, -48), (50, -60)], other, 9, 1, body, True)
    elif kind == 1:
        for x in (-30, 0, 30):
            c.mark([(0, -90), (x, -45), (0, 0)], other, 3, 1, body, True)
    c.detail(oval(c.sun * 16, -66, 9, 8), (1, 1, 1), 0.45)


def kite(c, rng, tint):
    shape = poly([(0, -60), (34, -14), (0, 40), (-34, -14)])
    c.wire([(0, 40), (10, 58), (-8, 76), (8, 94)], (0.45, 0.4, 0.4), 1.6, curved=True)
    c.fill(shape, tint)
    other = light(tint, 0.35) if rng.random() < 0.5 else light(tint, -0.3)
    c.detail(poly([(0, -60), (34, -14), (0, -14)]), other)
    c.detail(poly([(0, 40), (-34, -14), (0, -14)]), other)
    for x, y in ((7, 60), (-6, 78)):
        c.fill(poly([(x - 8, y - 5), (x + 8, y + 5), (x + 8, y - 5), (x - 8, y + 5)]), tint, 0, False)


def boat(c, rng, tint):
    c.shadow(0, 0, 56, 6, 0.25)
    if rng.random() < 0.65:  # sails
        c.wire([(0, -16), (0, -92)], WOOD, 3)
        sail = light(sample_colour("white", rng), -0.04)
        c.fill(poly([(4, -90), (4, -26), (40, -26)]), sail)
        c.fill(poly([(-3, -80), (-3, -26), (-28, -26)]), light(sail, -0.08))
    else:
        c.fill(rect(-26, -38, 16, -14, 2), (0.95, 0.94, 0.9))
        for x in (-20, -8, 4):
            c.detail(rect(x, -33, x + 7, -25), glass(rng))
        c.fill(rect(-14, -54, -4, -37), light(tint, -0.3))
    hull = smooth([(-52, -20), (0, -17), (54, -22), (40, 0), (0, 4), (-38, 0)])
    c.fill(hull, tint)
    c.mark([(-47, -14), (0, -11), (49, -16)], light(tint, 0.6) if sum(tint) < 2.2 else (0.3, 0.3, 0.5), 3, 0.9, hull, True)
