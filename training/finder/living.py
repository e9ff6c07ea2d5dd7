"""People and animals, in the units of outdoors.py."""

from .canvas import Canvas, blob, light, mix, oval, poly, rect, smooth
from .lexicon import hsv
from .outdoors import DARK

SKINS = ((1.0, 0.86, 0.74), (0.96, 0.78, 0.62), (0.85, 0.64, 0.46), (0.66, 0.46, 0.31), (0.42, 0.28, 0.2))
HAIR = ((0.1, 0.08, 0.08), (0.25, 0.15, 0.09), (0.5, 0.3, 0.14), (0.82, 0.66, 0.34), (0.6, 0.58, 0.58))


def person(c: Canvas, rng, tint):
    """A hundred high; `tint` is the colour of the clothes."""
    c.shadow(0, -1, 24, 5)
    skin, hair = SKINS[rng.integers(5)], HAIR[rng.integers(5)]
    wide, step = rng.uniform(11, 15), rng.uniform(2, 9)
    dress = rng.random() < 0.35
    lower = light(tint, rng.uniform(-0.35, -0.15))
    if dress:
        for x in (-4, 4):
            c.wire([(x, -30), (x + x * 0.2, -3)], skin, 5)
            c.fill(oval(x + x * 0.3 + 1.5, -1.5, 4.5, 2.5), DARK, 0, False)
    else:
        for s in (-1, 1):
            c.wire([(s * 4, -44), (s * (step * 0.5 + 3), -22), (s * step, -4)], lower, 8)
            c.fill(oval(s * step + 2, -2, 6, 3), DARK, 0, False)
    swing = rng.uniform(-16, 14)
    up = rng.random() < 0.18
    for s in (-1, 1):
        hand = (s * (wide + 14), -84) if up and s > 0 else (s * (wide + 4) + swing * s * 0.4, -42)
        elbow = ((s * wide + hand[0]) / 2 + s * 3, (-70 + hand[1]) / 2)
        c.wire([(s * (wide - 4), -71), elbow, hand], light(tint, -0.1), 6.5)
        c.fill(oval(*hand, 3.4, 3.4), skin, 0)
    if dress:
        body = smooth([(-wide + 3, -75), (wide - 3, -75), (wide - 3, -56), (wide + 7, -24), (0, -21), (-wide - 7, -24), (-wide + 3, -56)])
    else:
        body = smooth([(-wide + 2, -75), (0, -77), (wide - 2, -75), (wide, -58), (wide - 2, -41), (0, -39), (-wide + 2, -41), (-wide, -58)])
    long = rng.random() < 0.4
    if long:
        c.fill(smooth([(-11, -92), (0, -102), (11, -92), (12, -72), (0, -68), (-12, -72)]), hair)
    c.fill(body, tint)
    if rng.random() < 0.3:
        for y in range(-70, -42, 8):
            c.mark([(-20, y), (20, y)], light(tint, 0.4) if sum(tint) < 2 else light(tint, -0.3), 2, 0.7, body)
    c.fill(rect(-3, -80, 3, -73), light(skin, -0.12), 0, False)
    c.fill(oval(0, -88, 9.5, 11), skin)
    if rng.random() < 0.25:  # a hat
        c.fill(oval(0, -95, 15, 3), light(tint, -0.2))
        c.fill(rect(-9, -106, 9, -95, 4), light(tint, -0.15))
    else:
        c.fill(smooth([(-10, -90), (-8, -99), (0, -102), (8, -99), (10, -90), (5, -95), (-4, -95)]), hair)
    if rng.random() < 0.75:
        for x in (-3.5, 3.5):
            c.detail(oval(x + c.sun, -88, 1.2, 1.5), DARK)
        c.mark([(-3, -82.5), (0, -81.5), (3, -82.5)], (0.6, 0.2, 0.2), 1.2, 1, curved=True)


def _face(c, x, y, r, fur, rng):
    dark = DARK if sum(fur) > 0.75 else (0.85, 0.8, 0.3)
    for s in (-1, 1):
        c.detail(oval(x + s * r * 0.4, y - r * 0.12, r * 0.16, r * 0.2), dark)
    c.detail(oval(x, y + r * 0.3, r * 0.17, r * 0.13), (0.75, 0.4, 0.42) if sum(fur) < 0.9 else DARK)


def _patches(c, rng, body, fur, tabby):
    if tabby:
        for x in range(-30, 31, 10):
            c.mark([(x, -70), (x + 3, -30)], light(fur, -0.35), 3, 0.6, body)
    else:
        c.detail(blob(rng, rng.uniform(-20, 15), rng.uniform(-45, -30), 12, 9), light(fur, -0.2), 0.6, body)


def cat(c, rng, tint):
    c.shadow(0, -1, 34, 6)
    pale, tabby = light(tint, 0.25), rng.random() < 0.45
    if rng.random() < 0.5:  # sits
        c.wire([(20, -6), (36, -10), (42, -28), (36, -42)], light(tint, -0.1), 7, curved=True)
        body = smooth([(-18, -2), (-22, -24), (-13, -52), (4, -54), (20, -26), (22, -4), (0, 0)])
        c.fill(body, tint)
        _patches(c, rng, body, tint, tabby)
        for x in (-9, 3):
            c.fill(rect(x - 4.5, -26, x + 4.5, 0, 4), light(tint, 0.06))
        x, y, r = -5, -66, 19
    else:  # stands
        c.wire([(34, -40), (48, -52), (46, -74), (52, -82)], light(tint, -0.1), 6, curved=True)
        for x in (-24, -14, 20, 30):
            c.fill(rect(x - 4, -26, x + 4, 0, 3), light(tint, -0.1))
        body = smooth([(-34, -40), (-20, -48), (10, -46), (34, -46), (40, -32), (30, -18), (0, -16), (-28, -20)])
        c.fill(body, tint)
        _patches(c, rng, body, tint, tabby)
        x, y, r = -36, -52, 17
    for s in (-1, 1):
        c.fill(poly([(x + s * r * 0.95, y - r * 0.25), (x + s * r * 0.85, y - r * 1.35), (x + s * r * 0.15, y - r * 0.8)]), tint)
        c.detail(poly([(x + s * r * 0.8, y - r * 0.6), (x + s * r * 0.78, y - r * 1.1), (x + s * r * 0.4, y - r * 0.78)]), (0.9, 0.6, 0.6), 0.8)
    c.fill(oval(x, y, r, r * 0.88), tint)
    c.detail(oval(x, y + r * 0.38, r * 0.42, r * 0.3), pale, 0.7)
    _face(c, x, y, r, tint, rng)
    for s in (-1, 1):
        for d in (-2, 3):
            c.mark([(x + s * 5, y + 6), (x + s * 21, y + 5 + d)], light(tint, 0.6) if sum(tint) < 1 else DARK, 0.8, 0.7)


def dog(c, rng, tint):
    c.shadow(0, -1, 44, 6)
    ear = light(tint, -0.35) if sum(tint) > 0.8 else light(tint, 0.2)
    tail = rng.uniform(-10, 12)
    sits = rng.random() < 0.3
    if sits:
        c.wire([(16, -4), (36, -6), (44, -18 + tail)], tint, 6, curved=True)
        body = smooth([(-20, -30), (-22, -58), (-4, -62), (22, -26), (24, -2), (0, 0), (-12, -4)])
        c.fill(body, tint)
        for x in (-16, -6):
            c.fill(rect(x - 4.5, -34, x + 4.5, 0, 4), light(tint, 0.05))
    else:
        c.wire([(34, -46), (46, -58), (50 + tail, -70)], tint, 6, curved=True)
        for x in (-26, -15, 20, 31):
            c.fill(rect(x - 4.5, -30, x + 4.5, 0, 3), light(tint, -0.1 if x in (-15, 20) else 0.0))
        body = smooth([(-32, -44), (-22, -54), (12, -50), (36, -50), (39, -34), (28, -24), (-6, -24), (-28, -26)])
        c.fill(body, tint)
    if rng.random() < 0.5:
        c.detail(blob(rng, rng.uniform(-5, 18), -42, 12, 8), ear, 0.9, body)
    x, y = (-14, -68) if sits else (-36, -62)
    c.fill(smooth([(x - 10, y + 2), (x - 26, y + 4), (x - 28, y + 11), (x - 10, y + 16), (x + 8, y + 8)]), light(tint, 0.08))  # muzzle
    c.fill(oval(x, y, 16, 15), tint)
    c.fill(smooth([(x + 5, y - 12), (x + 16, y - 6), (x + 17, y + 14), (x + 9, y + 17), (x + 5, y + 4)]), ear)
    c.detail(oval(x - 27, y + 5, 4, 3.4), DARK)
    c.detail(oval(x - 7, y - 3, 2.4, 2.8), DARK if sum(tint) > 0.75 else (0.9, 0.85, 0.7))
    c.mark([(x - 23, y + 11), (x - 12, y + 12)], DARK, 1.2, 0.8)
    if rng.random() < 0.4:
        c.mark([(x + 3, y + 15), (x + 12, y + 17)], (0.85, 0.15, 0.15), 4)


def bird(c, rng, tint):
    wing = light(tint, -0.25) if sum(tint) > 0.7 else light(tint, 0.25)
    if rng.random() < 0.55:  # sits
        for x in (-4, 6):
            c.wire([(x, -16), (x, 0)], (0.75, 0.5, 0.15), 3)
        c.fill(poly([(26, -38), (58, -26), (54, -16), (22, -24)]), wing)
        c.fill(smooth([(-30, -46), (-14, -52), (16, -46), (36, -28), (10, -10), (-16, -16)]), tint)
        c.fill(oval(-22, -54, 16, 15), tint)
        c.fill(smooth([(-6, -42), (18, -42), (34, -26), (8, -22)]), wing)
        c.fill(poly([(-37, -58), (-52, -52), (-37, -49)]), (0.95, 0.65, 0.15))
        c.detail(oval(-27, -57, 2.8, 2.8), DARK if sum(tint) > 0.6 else (1, 1, 1))
        c.detail(oval(-8, -20, 12, 7), light(tint, 0.35), 0.5)
    else:  # flies
        lift = rng.uniform(20, 42)
        c.fill(smooth([(6, -26), (-4, -30 - lift), (16, -36 - lift), (26, -28)]), wing)
        c.fill(smooth([(-36, -24), (-14, -34), (20, -28), (52, -22), (14, -14), (-14, -14)]), tint)
        c.fill(oval(-32, -28, 12, 11), tint)
        c.fill(smooth([(0, -26), (16, -28 - lift), (40, -34 - lift), (24, -22)]), light(wing, -0.08))
        c.fill(poly([(-43, -31), (-56, -26), (-43, -23)]), (0.95, 0.65, 0.15))
        c.detail(oval(-35, -31, 2.3, 2.3), DARK if sum(tint) > 0.6 else (1, 1, 1))


def butterfly(c, rng, tint):
    low = light(tint, rng.uniform(-0.2, 0.25))
    for s in (-1, 1):
        upper = smooth([(s * 3, -50), (s * 22, -84), (s * 46, -78), (s * 42, -48), (s * 12, -42)])
        c.fill(smooth([(s * 3, -44), (s * 34, -42), (s * 36, -18), (s * 18, -8), (s * 4, -30)]), low)
        c.fill(upper, tint)
        c.detail(oval(s * 30, -66, 6, 6), light(tint, 0.7), 0.9)
        c.detail(oval(s * 23, -26, 4, 4), light(tint, -0.5), 0.9)
        c.mark([(s * 2, -66), (s * 9, -84)], DARK, 1.6)
    c.fill(oval(0, -44, 4, 24), mix(DARK, hsv(25, 0.6, 0.4), 0.5), 0)


