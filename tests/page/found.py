"""Writes a small finder with random weights that finds something in any picture, and a wide picture, wide.png, for tests of the page.

    .venv/bin/python tests/page/found.py FOLDER
"""
import sys
from pathlib import Path

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from training.finder.export import write  # noqa: E402
from training.finder.model import Finder, Shape  # noqa: E402

# The bundled vocabulary, and otherwise as small as it goes: 16 × 16 patches, so that the page computes the encoder's weights.
SHAPE = Shape(fine=8, middle=16, width=24, heads=3, picture_layers=2, picture_ffn=24, piece=8, text_layers=1, text_ffn=24,
              decoder_layers=2, decoder_ffn=24, queries=5, pixel=8)


def main():
    torch.manual_seed(3)
    model = Finder(SHAPE)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2 and "position" not in name:
                p.mul_(2.0)  # heads that choose
        model.presence.bias.fill_(3.0)
        model.score.bias.fill_(2.0)
        model.mask.out.bias[-1] = -0.3
    folder = Path(sys.argv[1])
    write(model, folder, torch.float32)
    # Larger than the page's own copy, and not a square.
    Image.open(ROOT / "examples" / "pictures" / "park.jpg").resize((1500, 700)).save(folder / "wide.png")


if __name__ == "__main__":
    main()
