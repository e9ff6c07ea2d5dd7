"""Things of a kitchen, a table and a living room, in the units of outdoors.py."""

import math

import numpy as np

from .canvas import Canvas, blob, light, mix, oval, poly, rect, smooth
from .lexicon import COLOUR_NAMES, hsv, sample_colour
from .outdoors import STEEL, foliage, wood

WHITE = (1.0, 1.0, 1.0)


def glint(c, x, y, rx, ry, alpha=0.45):
    c.detail(oval(c.sun * x, y, rx, ry), WHITE, alpha)


def contrast(tint):
    return light(tint, 0.65) if sum(tint) < 2.1 else light(tint, -0.45)


def pattern(c, rng, tint, inside, box):
    """Bands, dots or nothing, on a shape that reaches over box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    kind, other = rng.integers(5), contrast(tint)
    if kind == 0:
        y = rng.uniform(y0 * 0.7 + y1 * 0.3, y0 * 0.4 + y1 * 0.6)
        c.detail(rect(x0, y, x1, y + (y1 - y0) * 0.13), other, 0.9, inside)
    elif kind == 1:
        step = (x1 - x0) / 5
        for i in range(5):
            for j in (0.35, 0.65):
                c.detail(oval(x0 + (i + (0.25 if j < 0.5 else 0.75)) * step, y0 + j * (y1 - y0), step * 0.2, step * 0.2), other, 0.9, inside)
    elif kind == 2:
        c.detail(rect(x0, y0 + 0.82 * (y1 - y0), x1, y1), other, 0.8, inside)


def apple(c: Canvas, rng, tint):
    c.shadow(0, -3, 46, 10)
    fat = rng.uniform(0.92, 1.08)
    body = smooth([(0, -80), (22 * fat, -88), (43 * fat, -68), (42 * fat, -34), (22, -3), (0, -6), (-22, -3), (-42 * fat, -34), (-43 * fat, -68), (-22 * fat, -88)])
    c.fill(body, tint, c.shade + 0.08)
    if rng.random() < 0.4:
        c.detail(oval(-c.sun * 24, -30, 22, 30), mix(tint, hsv(60, 0.6, 0.9), 0.5), 0.25, body)
    c.wire([(0, -78), (3, -90), (9, -99)], (0.32, 0.2, 0.1), 5, curved=True)
    if rng.random() < 0.6:
        c.fill(smooth([(4, -88), (18, -102), (34, -98), (20, -86)]), foliage(rng))
    glint(c, 20, -66, 8, 11)


def pear(c, rng, tint):
    c.shadow(0, -3, 40, 9)
    body = smooth([(0, -94), (14, -86), (17, -62), (36, -38), (34, -12), (14, -1), (-14, -1), (-34, -12), (-36, -38), (-17, -62), (-14, -86)])
    c.fill(body, tint, c.shade + 0.08)
    for _ in range(8):
        c.detail(oval(rng.uniform(-24, 24), rng.uniform(-44, -8), 1.3, 1.3), light(tint, -0.4), 0.6)
    c.wire([(0, -92), (3, -104), (8, -110)], (0.35, 0.23, 0.1), 4.5, curved=True)
    glint(c, 15, -40, 6, 11)


def banana(c, rng, tint):
    c.shadow(0, -3, 52, 9)
    skin = hsv(rng.uniform(48, 56), rng.uniform(0.65, 0.9), rng.uniform(0.9, 1))
    n = int(rng.integers(1, 4))
    for i in range(n):
        d = 9 * i
        body = smooth([(-50, -44 - d), (-40, -26 - d), (-8, -6 - d), (26, -10 - d), (48, -38 - d), (54, -52 - d), (46, -50 - d), (24, -32 - d),
                       (-6, -28 - d), (-32, -40 - d), (-44, -52 - d)])
        c.fill(body, light(skin, -0.08 * (n - 1 - i)))
        c.mark([(-38, -32 - d), (-6, -14 - d), (28, -18 - d), (46, -40 - d)], light(skin, -0.3), 1.8, 0.5, body, True)
    c.fill(oval(50, -52 - 9 * (n - 1) / 2, 5, 5 + 4 * (n - 1)), (0.35, 0.25, 0.1), 0, False)


def lemon(c, rng, tint):
    c.shadow(0, -3, 46, 9)
    skin = hsv(rng.uniform(52, 60), rng.uniform(0.75, 0.95), rng.uniform(0.93, 1))
    body = smooth([(-54, -34), (-40, -54), (-6, -68), (32, -58), (46, -40), (55, -32), (44, -20), (28, -6), (-8, -1), (-40, -16)])
    c.fill(body, skin, c.shade + 0.05)
    for _ in range(12):
        c.detail(oval(rng.uniform(-34, 32), rng.uniform(-52, -14), 1.4, 1.4), light(skin, -0.25), 0.7)
    glint(c, 10, -50, 12, 6, 0.5)


def cup(c, rng, tint):
    c.shadow(0, -3, 44, 10)
    top, low, h = rng.uniform(30, 40), rng.uniform(20, 36), rng.uniform(62, 92)
    side = 1 if rng.random() < 0.5 else -1
    c.stroke(smooth([(side * (low - 2), -h * 0.25), (side * (top + 18), -h * 0.32), (side * (top + 18), -h * 0.68), (side * (top - 2), -h * 0.8)], False), light(tint, -0.1), 8)
    body = smooth([(-top, -h), (-top * 0.97, -h * 0.6), (-low, -8), (-low * 0.7, 0), (low * 0.7, 0), (low, -8), (top * 0.97, -h * 0.6), (top, -h), (0, -h + 4)])
    c.fill(body, tint)
    pattern(c, rng, tint, body, (-top, -h, top, 0))
    c.fill(oval(0, -h, top, top * 0.24), light(tint, 0.2))
    c.detail(oval(0, -h + 1.5, top * 0.86, top * 0.17), ((0.28, 0.16, 0.1), (0.7, 0.42, 0.15), light(tint, -0.4))[rng.integers(3)])
    glint(c, top * 0.55, -h * 0.55, 3.5, h * 0.2)
    if rng.random() < 0.15:
        for x in (-8, 8):
            c.mark([(x, -h - 8), (x + 5, -h - 18), (x - 3, -h - 28), (x + 3, -h - 38)], WHITE, 3, 0.3, curved=True)


def plate(c, rng, tint):
    flat = rng.uniform(0.3, 0.42)
    c.shadow(0, -8, 62, 62 * flat, 0.4)
    c.fill(oval(0, -20, 54, 54 * flat), light(tint, -0.12), 0, False)
    c.fill(oval(0, -22, 54, 54 * flat), tint)
    if rng.random() < 0.4:
        c.mark([(49 * math.cos(a), -22 + 49 * flat * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 25)], contrast(tint), 2.5, 0.8)
    c.detail(oval(0, -21, 37, 37 * flat), light(tint, -0.14))
    c.detail(oval(0, -19.5, 36, 35 * flat), light(tint, -0.03))


def bowl(c, rng, tint):
    c.shadow(0, -3, 42, 10)
    h = rng.uniform(44, 60)
    body = smooth([(-52, -h), (-46, -h * 0.5), (-22, -4), (-20, 0), (20, 0), (22, -4), (46, -h * 0.5), (52, -h), (0, -h + 3)])
    c.fill(body, tint)
    pattern(c, rng, tint, body, (-52, -h, 52, 0))
    c.fill(oval(0, -h, 52, 13), light(tint, 0.12))
    c.detail(oval(0, -h + 1.5, 46, 10), light(tint, -0.3))
    if rng.random() < 0.45:
        c.detail(oval(0, -h + 2.5, 42, 8.5), hsv(rng.choice([15, 35, 50, 95]), rng.uniform(0.3, 0.7), rng.uniform(0.6, 0.95)))
    glint(c, 28, -h * 0.6, 4, 9)


def bottle(c, rng, tint):
    c.shadow(0, -3, 20, 6)
    w, neck, shoulder = rng.uniform(13, 19), rng.uniform(4.5, 7), rng.uniform(0.5, 0.68)
    h = rng.uniform(100, 118)
    body = smooth([(-w, 0), (-w, -h * shoulder), (-neck, -h * (shoulder + 0.18)), (-neck, -h), (neck, -h), (neck, -h * (shoulder + 0.18)), (w, -h * shoulder), (w, 0), (0, 1.5)])
    c.fill(body, tint)
    c.fill(rect(-neck - 1, -h - 5, neck + 1, -h + 3, 1.5), light(sample_colour(COLOUR_NAMES[rng.integers(11)], rng), -0.1))
    if rng.random() < 0.7:
        label = contrast(tint)
        c.detail(rect(-w, -h * 0.45, w, -h * 0.16), label, 0.95, body)
        c.mark([(-w * 0.6, -h * 0.34), (w * 0.6, -h * 0.34)], light(label, -0.5), 2.5, 0.8)
        c.mark([(-w * 0.4, -h * 0.26), (w * 0.4, -h * 0.26)], light(label, -0.5), 1.6, 0.6)
    glint(c, w * 0.55, -h * 0.5, 2, h * 0.2, 0.5)


def spoon(c, rng, tint):
    metal = light(STEEL, rng.uniform(-0.2, 0.15)) if rng.random() < 0.75 else wood(rng)
    c.wire([(-50, 0), (20, 0)], metal, 6)
    c.fill(oval(34, 0, 19, 12), metal)
    c.detail(oval(35, 0.5, 14, 8), light(metal, -0.25), 0.8)


def fork(c, rng, tint):
    metal = light(STEEL, rng.uniform(-0.2, 0.15))
    c.wire([(-50, 0), (18, 0)], metal, 6)
    c.fill(smooth([(14, -4), (26, -11), (32, -11), (32, 11), (26, 11), (14, 4)]), metal)
    for y in (-9, -3, 3, 9):
        c.wire([(31, y), (52, y)], metal, 3.2)


def knife(c, rng, tint):
    grip = ((0.14, 0.12, 0.12), (0.42, 0.26, 0.14), STEEL)[rng.integers(3)]
    blade = light(STEEL, rng.uniform(0, 0.4))
    c.fill(smooth([(-8, -6), (36, -7), (54, 2), (46, 6), (-8, 6)]), blade)
    c.mark([(-6, 3.5), (46, 3.5)], light(blade, -0.25), 1.2)
    c.fill(rect(-52, -5.5, -7, 5.5, 4), grip)


def teapot(c, rng, tint):
    c.shadow(0, -3, 48, 10)
    c.stroke(smooth([(-34, -56), (-58, -58), (-58, -22), (-32, -18)], False), light(tint, -0.12), 8)
    c.fill(smooth([(26, -22), (44, -34), (52, -62), (64, -66), (60, -54), (54, -26), (34, -8)]), light(tint, -0.05))
    body = smooth([(-28, -70), (28, -70), (42, -40), (30, -6), (20, 0), (-20, 0), (-30, -6), (-42, -40)])
    c.fill(body, tint)
    pattern(c, rng, tint, body, (-42, -70, 42, 0))
    c.fill(smooth([(-26, -68), (-16, -80), (16, -80), (26, -68), (0, -66)]), light(tint, 0.08))
    c.fill(oval(0, -84, 6, 6), light(tint, -0.2))
    glint(c, 22, -48, 5, 11)


def book(c, rng, tint):
    kind = rng.integers(3)
    if kind == 0:  # stands
        w, h = rng.uniform(9, 16), rng.uniform(70, 100)
        c.fill(rect(-w, -h, w, 0, 1.5), tint)
        for y in (-h * 0.86, -h * 0.14):
            c.mark([(-w, y), (w, y)], contrast(tint), 3, 0.9)
        c.mark([(0, -h * 0.7), (0, -h * 0.35)], contrast(tint), 4, 0.8)
    elif kind == 1:  # lies
        c.shadow(0, -1, 56, 8)
        h = rng.uniform(16, 26)
        c.fill(rect(-50, -h, 50, 0, 2), tint)
        c.detail(rect(-44, -h + 4, 50, -4), (0.95, 0.92, 0.84))
        for y in np.linspace(-h + 6, -6, 3):
            c.mark([(-42, y), (49, y)], (0.7, 0.68, 0.6), 0.8)
    else:  # the cover seen
        c.shadow(0, -2, 42, 8)
        c.fill(rect(-36, -88, 36, 0, 2), tint)
        c.detail(rect(-36, -88, -29, 0), light(tint, -0.3))
        c.detail(rect(-20, -76, 28, -54, 1), contrast(tint), 0.9)
        c.detail(blob(rng, 4, -28, 14, 12, 7), contrast(tint), 0.7)


def vase(c, rng, tint):
    c.shadow(0, -3, 30, 8)
    kind = rng.integers(3)
    if kind == 0:
        body = smooth([(-13, -88), (-10, -74), (-32, -42), (-16, 0), (16, 0), (32, -42), (10, -74), (13, -88), (0, -85)])
    elif kind == 1:
        body = smooth([(-20, -88), (-13, -60), (-22, -20), (-14, 0), (14, 0), (22, -20), (13, -60), (20, -88), (0, -85)])
    else:
        body = smooth([(-28, -86), (-22, -40), (-14, 0), (14, 0), (22, -40), (28, -86), (0, -83)])
    top = (13, 20, 28)[kind]
    c.fill(body, tint)
    pattern(c, rng, tint, body, (-30, -86, 30, 0))
    c.fill(oval(0, -87, top, top * 0.22), light(tint, -0.3))
    glint(c, 12, -44, 3.5, 13)


def lamp(c, rng, tint):
    c.shadow(0, -1, 26, 6)
    foot = ((0.25, 0.22, 0.2), (0.75, 0.6, 0.3), (0.85, 0.85, 0.85))[rng.integers(3)]
    c.fill(oval(0, -4, 22, 6), foot)
    c.wire([(0, -4), (0, -62)], foot, 6)
    if rng.random() < 0.6:
        c.glow(0, -62, 78, (1, 0.93, 0.6), 0.35)
    wide = rng.uniform(14, 26)
    shade = smooth([(-wide, -108), (wide, -108), (wide + 2, -106), (40, -60), (38, -57), (-38, -57), (-40, -60), (-wide - 2, -106)])
    c.fill(shade, tint)
    c.mark([(-37, -62), (37, -62)], contrast(tint), 3, 0.6, shade)


def clock(c, rng, tint):
    """Its middle is the origin."""
    if rng.random() < 0.65:
        rim, face = oval(0, 0, 48, 48), oval(0, 0, 39, 39)
    else:
        rim, face = rect(-46, -46, 46, 46, 8), rect(-37, -37, 37, 37, 4)
    c.fill(rim, tint)
    c.detail(face, (0.98, 0.97, 0.93) if sum(tint) < 2.6 or rng.random() < 0.5 else (0.2, 0.2, 0.25))
    dark = (0.15, 0.15, 0.18) if sum(tint) < 2.6 else (0.45, 0.4, 0.4)
    for i in range(12):
        a = math.pi * i / 6
        c.mark([(33 * math.sin(a), -33 * math.cos(a)), (29 * math.sin(a), -29 * math.cos(a))], dark, 2.5)
    for length, width in ((18, 4), (27, 2.6)):
        a = rng.uniform(0, 2 * math.pi)
        c.mark([(0, 0), (length * math.sin(a), -length * math.cos(a))], dark, width)


def chair(c, rng, tint):
    c.shadow(0, -2, 38, 8)
    leg = light(tint, -0.15)
    kind = rng.random()
    for x in (-22, 26):
        c.wire([(x, -44), (x, -8)], light(leg, -0.2), 5)
    if kind < 0.5:  # slats
        for x in (-28, 28):
            c.wire([(x, -46), (x, -108)], tint, 6)
        for y in (-104, -88, -72):
            c.fill(rect(-29, y - 5, 29, y + 5, 2), tint)
    else:
        c.fill(rect(-31, -112, 31, -48, 12), tint)
    c.fill(poly([(-32, -52), (32, -52), (37, -40), (-37, -40)]), light(tint, 0.1))
    c.fill(rect(-37, -41, 37, -35), light(tint, -0.12), 0)
    for x in (-33, 33):
        c.wire([(x, -38), (x, 0)], leg, 6)


def table(c, rng, tint):
    """Seen from the side: a hundred wide, its top at −62."""
    top = wood(rng) if rng.random() < 0.7 else sample_colour(("white", "gray", "black")[rng.integers(3)], rng)
    c.shadow(0, -2, 58, 8)
    for x in (-42, 42):
        c.fill(poly([(x - 4, -60), (x + 4, -60), (x + 3, 0), (x - 3, 0)]), light(top, -0.2))
    if rng.random() < 0.4:
        c.fill(rect(-40, -58, 40, -48), light(top, -0.12))
    c.fill(rect(-52, -64, 52, -57, 2), top)


def picture(c, rng, tint):
    """Hangs: its middle is the origin."""
    w, h = (50, rng.uniform(30, 42)) if rng.random() < 0.6 else (rng.uniform(30, 40), 50)
    c.shadow(0, 4, w * 1.1, h * 1.1, 0.25)
    c.fill(rect(-w, -h, w, h), wood(rng) if rng.random() < 0.6 else (0.85, 0.7, 0.35))
    inner = rect(-w + 6, -h + 6, w - 6, h - 6)
    c.detail(inner, hsv(rng.uniform(180, 230), rng.uniform(0.1, 0.4), rng.uniform(0.7, 0.95)))
    for y in (0.1, 0.4):
        c.detail(smooth([(-w, h * y), (-w / 2, h * y - rng.uniform(0, 18)), (0, h * y), (w / 2, h * y - rng.uniform(0, 18)), (w, h * y), (w, h), (-w, h)]),
                 hsv(rng.uniform(20, 140), rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.8)), 1, inner)
