"""A picture and, drawn by the same calls, the map of which pixel belongs to which object.

Colours are drawn with antialiasing; the map takes each shape's pixels whole, the last one drawn wins, so occlusion needs no
further thought and an object's mask is `ids == number`. What is not an object (shadows, light, grain) goes to the colours only.
"""

import math
from contextlib import contextmanager

import numpy as np
import skia

RGB = tuple[float, float, float]


def mix(a: RGB, b: RGB, t: float) -> RGB:
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def light(c: RGB, t: float) -> RGB:
    """Towards white for t > 0, towards black for t < 0."""
    return mix(c, (1.0, 1.0, 1.0), t) if t >= 0 else mix(c, (0.02, 0.02, 0.06), -t)


def argb(c: RGB, alpha: float = 1.0) -> int:
    r, g, b = (min(255, max(0, int(v * 255 + 0.5))) for v in c)
    return int(alpha * 255 + 0.5) << 24 | r << 16 | g << 8 | b


def rect(x0, y0, x1, y1, r=0.0) -> skia.Path:
    p = skia.Path()
    box = skia.Rect(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    p.addRoundRect(box, r, r) if r else p.addRect(box)
    return p


def oval(cx, cy, rx, ry) -> skia.Path:
    p = skia.Path()
    p.addOval(skia.Rect(cx - rx, cy - ry, cx + rx, cy + ry))
    return p


def poly(points) -> skia.Path:
    p = skia.Path()
    p.addPoly([skia.Point(x, y) for x, y in points], True)
    return p


def smooth(points, close=True) -> skia.Path:
    """A curve through all points (Catmull-Rom, as cubic Béziers)."""
    p, n = skia.Path(), len(points)
    p.moveTo(*points[0])
    at = (lambda i: points[i % n]) if close else (lambda i: points[min(max(i, 0), n - 1)])
    for i in range(n if close else n - 1):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = at(i - 1), at(i), at(i + 1), at(i + 2)
        p.cubicTo(x1 + (x2 - x0) / 6, y1 + (y2 - y0) / 6, x2 - (x3 - x1) / 6, y2 - (y3 - y1) / 6, x2, y2)
    if close:
        p.close()
    return p


def blob(rng, cx, cy, rx, ry, n=9, rough=0.15) -> skia.Path:
    turn = rng.uniform(0, 2 * math.pi)
    radii = 1 + rng.uniform(-rough, rough, n)
    return smooth([(cx + rx * r * math.cos(turn + 2 * math.pi * i / n), cy + ry * r * math.sin(turn + 2 * math.pi * i / n))
                   for i, r in enumerate(radii)])


def union(*paths) -> skia.Path:
    whole = skia.Path()
    for p in paths:
        whole.addPath(p)
    return whole


class Canvas:
    """Colours [size, size, 3] and ids [size, size]; id 0 belongs to nothing."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.size, self.rng = size, rng
        self._rgba = np.zeros((size, size, 4), np.uint8)
        self.ids = np.zeros((size, size), np.uint8)
        self._surfaces = (skia.Surface.MakeRasterDirect(
            skia.ImageInfo.Make(size, size, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType), self._rgba, size * 4),
            skia.Surface.MakeRasterDirect(skia.ImageInfo.MakeA8(size, size), self.ids, size))
        self.colour, self.map = (s.getCanvas() for s in self._surfaces)
        # how this picture is made: where light comes from, how strong shapes are shaded, outlines or none
        self.sun = -1 if rng.random() < 0.5 else 1
        self.shade = rng.uniform(0.05, 0.3)
        self.outline = rng.uniform(0.8, 1.6) if rng.random() < 0.35 else 0.0
        self.id, self.scale = 0, 1.0

    @contextmanager
    def object(self, number: int, x=0.0, y=0.0, scale=1.0, turn=0.0, flip=False):
        """Inside, shapes are in the object's own units: origin at (x, y), `scale` pixels a unit, turned by degrees."""
        before = self.id, self.scale
        self.id, self.scale = number, scale
        for canvas in (self.colour, self.map):
            canvas.save()
            canvas.translate(x, y)
            if turn:
                canvas.rotate(turn)
            canvas.scale(-scale if flip else scale, scale)
        self.flipped = flip
        yield
        for canvas in (self.colour, self.map):
            canvas.restore()
        self.id, self.scale = before
        self.flipped = False

    flipped = False

    def _stamp(self, path, width=0.0):
        paint = skia.Paint(Color=self.id << 24, BlendMode=skia.BlendMode.kSrc, AntiAlias=False)
        if width:
            _as_line(paint, width)
        self.map.drawPath(path, paint)

    def fill(self, path, colour: RGB, shade: float | None = None, line: bool | None = None):
        """A shape of the object. shade: how much lighter and darker it gets from side to side (None: this picture's)."""
        s = self.shade if shade is None else shade
        paint = skia.Paint(AntiAlias=True)
        box = path.getBounds()
        if s and (box.width() + box.height()) * self.scale > 14:
            side = -self.sun if self.flipped else self.sun
            mid, dx = box.centerX(), side * box.width() / 2
            paint.setShader(skia.GradientShader.MakeLinear(
                points=[(mid + dx, box.top()), (mid - dx * 0.6, box.bottom())],
                colors=[argb(light(colour, s * 0.8)), argb(light(colour, -s))]))
        else:
            paint.setColor(argb(colour))
        self.colour.drawPath(path, paint)
        if self.id:
            self._stamp(path)
        if self.outline if line is None else line:
            pen = skia.Paint(Color=argb(light(colour, -0.55)), AntiAlias=True)
            _as_line(pen, max(self.outline, 0.8) / self.scale)
            self.colour.drawPath(path, pen)

    def stroke(self, path, colour: RGB, width: float):
        paint = skia.Paint(Color=argb(colour), AntiAlias=True)
        _as_line(paint, width)
        self.colour.drawPath(path, paint)
        if self.id:
            self._stamp(path, max(width, 1.2 / self.scale))

    def wire(self, points, colour: RGB, width: float, curved=False):
        if curved:
            return self.stroke(smooth(points, close=False), colour, width)
        p = skia.Path()
        p.addPoly([skia.Point(x, y) for x, y in points], False)
        self.stroke(p, colour, width)

    def detail(self, path, colour: RGB, alpha=1.0, inside=None):
        """Colour only, on what is already the object's (or nobody's): glints, patterns, faces."""
        if inside is not None:
            self.colour.save()
            self.colour.clipPath(inside, True)
        self.colour.drawPath(path, skia.Paint(Color=argb(colour, alpha), AntiAlias=True))
        if inside is not None:
            self.colour.restore()

    def mark(self, points, colour: RGB, width: float, alpha=1.0, inside=None, curved=False):
        """A line, colour only."""
        if inside is not None:
            self.colour.save()
            self.colour.clipPath(inside, True)
        if curved:
            p = smooth(points, close=False)
        else:
            p = skia.Path()
            p.addPoly([skia.Point(x, y) for x, y in points], False)
        paint = skia.Paint(Color=argb(colour, alpha), AntiAlias=True)
        _as_line(paint, width)
        self.colour.drawPath(p, paint)
        if inside is not None:
            self.colour.restore()

    def shadow(self, cx, cy, rx, ry, strength=0.35):
        """A soft dark ellipse, thrown a little away from the light."""
        cx -= (-self.sun if self.flipped else self.sun) * rx * 0.12
        m = skia.Matrix()
        m.setScaleTranslate(rx, ry, cx, cy)
        shader = skia.GradientShader.MakeRadial(center=(0, 0), radius=1.0, colors=[
            argb((0.03, 0.03, 0.1), strength), argb((0.03, 0.03, 0.1), strength * 0.75), 0], positions=[0.0, 0.55, 1.0], localMatrix=m)
        self.colour.drawPath(oval(cx, cy, rx, ry), skia.Paint(Shader=shader, AntiAlias=False))

    def glow(self, cx, cy, r, colour: RGB, strength=0.5):
        shader = skia.GradientShader.MakeRadial(center=(cx, cy), radius=r, colors=[argb(colour, strength), argb(colour, 0)])
        self.colour.drawPath(oval(cx, cy, r, r), skia.Paint(Shader=shader))

    def pixels(self) -> np.ndarray:
        """[size, size, 3] uint8"""
        return np.ascontiguousarray(self._rgba[:, :, :3])


def _as_line(paint, width):
    paint.setStyle(skia.Paint.kStroke_Style)
    paint.setStrokeWidth(width)
    paint.setStrokeCap(skia.Paint.kRound_Cap)
    paint.setStrokeJoin(skia.Paint.kRound_Join)
