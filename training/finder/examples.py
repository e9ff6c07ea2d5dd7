"""The pictures of examples/pictures, drawn again: the same numbers of the held-out split give the same pixels.

    python -m training.finder.examples --out examples/pictures
"""

import argparse
from pathlib import Path

import numpy as np
import skia

from . import scenes

# file: kind of scene, number in the split "seen", which training never draws; none of those that evaluate.py measures with
PICTURES = {"street.png": ("street", 1143), "table.png": ("tabletop", 1021), "park.jpg": ("park", 1047), "shore.jpg": ("shore", 1027)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, type=Path)
    out = p.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, (kind, number) in PICTURES.items():
        rgb = scenes.draw("seen", number, kind).rgb
        opaque = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], -1)
        picture = skia.Image.fromarray(np.ascontiguousarray(opaque), colorType=skia.kRGB_888x_ColorType)
        picture.save(str(out / name), skia.kPNG if name.endswith(".png") else skia.kJPEG, 90)
        print(f"{out / name}: {(out / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
