"""The trained finder as a folder that src/models/finder reads.

    python -m training.finder.export --work DIR --out models/finder
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .model import Finder, shape_dict


def write(model: Finder, folder: Path, dtype=torch.float16) -> None:
    """model.safetensors and config.json. Buffers that follow from the shape are not stored."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to("cpu", dtype).reshape(value.shape or (1,)).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "qkv-finder", **shape_dict(model.shape)}, indent=2) + "\n")


def main():
    from .evaluate import load

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--out", required=True, type=Path)
    a = p.parse_args()
    model = load(a.work)
    write(model, a.out)
    print(f"{a.out / 'model.safetensors'}: {(a.out / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
