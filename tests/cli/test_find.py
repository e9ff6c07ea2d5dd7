"""qkv find: the same objects as the PyTorch twin finds, in the picture's own pixels; files of every kind; bad input by name."""
import json
import os
import re
import struct
import sys
import zlib

import jsonschema
import numpy as np
import pytest

from conftest import ROOT, Qkv

sys.path.insert(0, str(ROOT))
PICTURES = ROOT / "examples" / "pictures"
TRAINED = ROOT / "models" / "finder"
SCHEMA = json.loads((ROOT / "docs/schema/find.json").read_text())


def random_finder(folder, seed=0, presence=4.0, score=1.0, **changes):
    """A folder with random weights and the bundled vocabulary; biases make it believe in what it is asked for, or not."""
    import torch

    from training.finder.export import write
    from training.finder.model import Finder, Shape

    torch.manual_seed(seed)
    model = Finder(Shape(**{"fine": 16, "middle": 24, "width": 48, "heads": 2, "picture_layers": 1, "picture_ffn": 64, "piece": 8, "text_layers": 1,
                            "text_ffn": 64, "decoder_layers": 2, "decoder_ffn": 64, "queries": 6, "pixel": 16, **changes})).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() < 2:
                p.add_(torch.randn_like(p) * 0.2)
            elif "position" not in name:
                p.mul_(2)
        model.presence.bias.fill_(presence)
        model.score.bias.fill_(score)
    write(model, folder, torch.float32)
    return model


class Find(Qkv):
    def __call__(self, *arguments, model=None, **options):
        return super().__call__("find", *arguments, "--model", model or self.model, **options)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finder") / "believes"
    return random_finder(folder), Find(folder)


@pytest.fixture(scope="module")
def find(twin):
    return twin[1]


@pytest.fixture(scope="module")
def finds_nothing(tmp_path_factory):
    """Its overlay is the picture as it was decoded."""
    folder = tmp_path_factory.mktemp("finder") / "doubts"
    random_finder(folder, presence=-9.0)
    return Find(folder)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x, y, dx, dy of each pass


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels, kind=2, depth=8, chunks=(), width=None, interlaced=False):
    """A PNG file; pixels [h, w, bytes of a pixel] uint8 in the order of the format, or [h, bytes of a row] with the width beside it."""
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", width or pixels.shape[1], len(pixels), depth, kind, 0, 0, interlaced)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(path):
    from PIL import Image
    return np.asarray(Image.open(path).convert("RGB"))


def mask_of(segmentation):
    """The mask by the reference decoder of COCO's run lengths."""
    from pycocotools import mask
    return mask.decode(segmentation).astype(bool)


# ---- what is found

@pytest.mark.parametrize(("file", "prompt"), [("street.png", "red car"), ("street.png", "红色的车"), ("table.png", "Find all the apples!")])
def test_objects_are_those_of_the_twin(twin, file, prompt):
    import torch

    from training.finder.answers import answers
    from training.finder.batches import Pieces

    model, find = twin
    rgb = torch.tensor(opened(PICTURES / file)).float()[None] / 255
    ids = Pieces()(prompt, model.shape.words)
    with torch.no_grad():
        want = answers(model(rgb, torch.tensor([ids]), torch.tensor([len(ids)])), 1, 256)[0]
    got = find.json(prompt, PICTURES / file)
    jsonschema.validate(got, SCHEMA)
    assert len(want.scores) > 0, "the weights say nothing: choose another seed"
    assert got["size"] == [256, 256] and got["present"] is True and got["presence"] == pytest.approx(want.presence, abs=1e-4)
    assert [o["score"] for o in got["objects"]] == pytest.approx(want.scores, abs=1e-4)
    for mine, mask, (x, y, w, h) in zip(got["objects"], want.masks.numpy(), (want.boxes * 256).tolist()):
        found = mask_of(mine["segmentation"])
        assert found.sum() == mine["area"]
        assert (found != mask).sum() <= 4  # logits within 1e-4 of zero
        left, top, right, bottom = (min(max(v, 0), 256) for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        assert mine["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.05)


def test_several_prompts_are_several_answers(find):
    together = find.ok("red car", "tree", PICTURES / "street.png", "--json").splitlines()
    alone = [find.ok(prompt, PICTURES / "street.png", "--json").strip() for prompt in ("red car", "tree")]
    assert together == alone
    assert find.ok("red car", PICTURES / "street.png", "--threads", 1) == find.ok("red car", PICTURES / "street.png", "--threads", 2)


def test_text(find, finds_nothing):
    lines = find.ok("red car", PICTURES / "street.png").splitlines()
    objects = find.json("red car", PICTURES / "street.png")["objects"]
    assert "street.png, 256×256 pixels" in lines[0] and f"red car: {len(objects)} found, present 9" in lines[1]
    assert len(lines) == 2 + len(objects) and all("score" in line and "of the picture" in line for line in lines[2:])
    assert "\x1b" not in "".join(lines)
    both = find.ok("red car", "red car", PICTURES / "street.png").splitlines()
    assert both == lines + lines[1:]
    said = {"red car": "nothing here is a red car (probability that something is: ", "apple": "nothing here is an apple (", "unicorn": "nothing here is a unicorn (",
            "red cars": "nothing here is “red cars” (", "where is the car?": "nothing here is “where is the car?” (", "红色的车": "图里没有“红色的车”（有的概率："}
    for prompt, sentence in said.items():
        answer = finds_nothing.json(prompt, PICTURES / "street.png")
        jsonschema.validate(answer, SCHEMA)
        assert answer["objects"] == [] and answer["presence"] < 0.5 and answer["present"] is False and answer["sentence"].startswith(sentence), answer["sentence"]
        assert finds_nothing.ok(prompt, PICTURES / "street.png").splitlines()[1] == answer["sentence"]


def test_present_but_nothing_stands_out(tmp_path):
    random_finder(tmp_path / "m", presence=4.0, score=-9.0)
    find = Find(tmp_path / "m")
    answer = find.json("red car", PICTURES / "street.png")
    assert answer["present"] is True and answer["objects"] == [] and answer["sentence"].startswith("something here may be a red car (probability: 9")
    assert "认不出是哪一个" in find.ok("红色的车", PICTURES / "street.png")


def test_masks_are_in_the_pictures_own_pixels(find, tmp_path):
    """A picture twice as large shows the same objects, twice as large; one beside grey, the same objects where it lies."""
    street = opened(PICTURES / "street.png")
    (tmp_path / "large.png").write_bytes(png(street.repeat(2, 0).repeat(2, 1)))
    small, large = (find.json("red car", path)["objects"] for path in (PICTURES / "street.png", tmp_path / "large.png"))
    assert len(small) == len(large) > 0
    for a, b in zip(small, large):
        assert b["segmentation"]["size"] == [512, 512]
        one, two = mask_of(a["segmentation"]), mask_of(b["segmentation"])
        differ = (two != one.repeat(2, 0).repeat(2, 1)).sum()
        outline = (np.diff(one, axis=0).sum() + np.diff(one, axis=1).sum()) * 4  # enlarging moves an edge by a pixel at most
        assert differ <= outline, (differ, outline)
        assert b["bbox"] == pytest.approx([2 * v for v in a["bbox"]], abs=0.1)
    (tmp_path / "wide.png").write_bytes(png(street[64:192]))
    for o in find.json("red car", tmp_path / "wide.png")["objects"]:
        assert o["segmentation"]["size"] == [128, 256] and mask_of(o["segmentation"]).shape == (128, 256) and o["area"] > 0
        x, y, w, h = o["bbox"]
        assert x >= 0 and y >= 0 and x + w <= 256.01 and y + h <= 128.01


def test_overlay(find, tmp_path):
    find.ok("red car", PICTURES / "street.png", "--out", tmp_path / "found.png")
    before, after = opened(PICTURES / "street.png"), opened(tmp_path / "found.png")
    objects = find.json("red car", PICTURES / "street.png")["objects"]
    anywhere = np.any([mask_of(o["segmentation"]) for o in objects], axis=0)
    changed = (before != after).any(-1)
    assert after.shape == before.shape and changed[anywhere].mean() > 0.95
    labels = (changed & ~anywhere).sum()
    assert labels <= len(objects) * 35 * 14  # four characters of 3×5 dots, two pixels a dot, and a margin
    find.ok("red car", PICTURES / "street.png", "--out", tmp_path / "found.jpg")
    assert (tmp_path / "found.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    lost = np.abs(opened(tmp_path / "found.jpg").astype(int) - after)
    assert lost.mean() < 6, lost.mean()


# ---- files of every kind, against Pillow

def decoded(finds_nothing, path, tmp_path):
    finds_nothing.ok("car", path, "--out", tmp_path / "decoded.png")
    return opened(tmp_path / "decoded.png").astype(int)


def test_png_of_every_kind(finds_nothing, tmp_path):
    rgb = noise(23, 37)
    palette = noise(1, 256, 1).reshape(256, 3)
    rng = np.random.default_rng(2)
    grey, alpha, index = (rng.integers(0, 256, (23, 37, 1), dtype=np.uint8) for _ in range(3))
    sixteen = rng.integers(0, 65536, (23, 37, 3)).astype(">u2")
    kinds = {
        "rgb": (png(rgb), rgb, 0),
        "interlaced": (png(rgb, interlaced=True), rgb, 0),
        "grey": (png(grey, 0), grey.repeat(3, 2), 0),
        "palette": (png(index, 3, chunks=[(b"PLTE", palette.tobytes())]), palette[index[..., 0]], 0),
        "one bit": (png(np.packbits(index[..., 0] > 127, axis=1), 0, 1, width=37), np.where(index > 127, 255, 0).repeat(3, 2), 0),
        "sixteen bits": (png(np.frombuffer(sixteen.tobytes(), np.uint8).reshape(23, 37, 6), 2, 16), np.rint(sixteen.astype(float) / 257), 1),
        "opaque": (png(np.concatenate([rgb, np.full_like(alpha, 255)], 2), 6), rgb, 0),
        "clear": (png(np.concatenate([rgb, np.zeros_like(alpha)], 2), 6), np.full_like(rgb, 255), 0),
        "sRGB": (png(rgb, chunks=[(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))]), rgb, 0),
        "one colour is clear": (png(grey, 0, chunks=[(b"tRNS", struct.pack(">H", int(grey[0, 0, 0])))]),
                                np.where(grey == grey[0, 0, 0], 255, grey).repeat(3, 2), 0),
    }
    for kind, (data, want, off) in kinds.items():
        (tmp_path / "a.png").write_bytes(data)
        got = decoded(finds_nothing, tmp_path / "a.png", tmp_path)
        assert got.shape == want.shape and np.abs(got - want).max() <= off, kind
    half = np.concatenate([rgb, np.full_like(alpha, 128)], 2)
    (tmp_path / "a.png").write_bytes(png(half, 6))  # mixed with white, in light or in numbers: between the two
    got = decoded(finds_nothing, tmp_path / "a.png", tmp_path)
    in_numbers = np.rint(rgb * (128 / 255) + 255 * (1 - 128 / 255))
    assert (got >= in_numbers - 1).all() and (got <= 255).all()


def test_jpeg_of_every_kind(finds_nothing, tmp_path):
    from PIL import Image
    smooth = np.stack([*np.meshgrid(np.linspace(20, 230, 61), np.linspace(30, 220, 47)), np.full((47, 61), 90.0)], -1).astype(np.uint8)
    image = Image.fromarray(smooth)
    for mode, options in (("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"subsampling": 2}), ("CMYK", {"progressive": True})):
        path = tmp_path / "a.jpg"
        image.convert(mode).save(path, quality=92, **options)
        assert np.abs(decoded(finds_nothing, path, tmp_path) - opened(path)).max() <= 2, (mode, options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_exif_orientation(finds_nothing, tmp_path, orientation, kind):
    from PIL import Image, ImageOps
    image = Image.fromarray(noise(16, 24).repeat(4, 0).repeat(4, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    image.save(path, exif=exif, quality=95)
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    got = decoded(finds_nothing, path, tmp_path)
    assert got.shape == want.shape and np.abs(got - want).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 1), (3, 2), (255, 257)])
def test_sizes(find, tmp_path, size):
    (tmp_path / "a.png").write_bytes(png(noise(*size)))
    answer = find.json("red car", tmp_path / "a.png", "--out", tmp_path / "out.png", "--html", tmp_path / "page.html")
    jsonschema.validate(answer, SCHEMA)
    shown = [int(re.search(rf'"{side}":(\d+)', (tmp_path / "page.html").read_text())[1]) for side in ("height", "width")]
    assert shown == [max(1, s * 1024 // max(1024, *size)) for s in size]  # the page's own copy
    assert answer["size"] == list(size) and opened(tmp_path / "out.png").shape[:2] == size
    for o in answer["objects"]:
        assert mask_of(o["segmentation"]).sum() == o["area"] > 0


# ---- what is wrong

def test_bad_pictures(find, tmp_path):
    street = (PICTURES / "street.png").read_bytes()
    park = (PICTURES / "park.jpg").read_bytes()
    huge = bytearray(png(noise(1, 1)))
    huge[16:24] = struct.pack(">II", 100_000, 100_000)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    large = bytearray(png(noise(1, 1)))
    large[16:24] = struct.pack(">II", 4097, 1)
    large[29:33] = struct.pack(">I", zlib.crc32(large[12:29]))
    for name, data, message in [
            ("empty.png", b"", "is empty"), ("text.png", b"a red car\n", "is neither PNG nor JPEG"), ("a.gif", b"GIF89a" + bytes(20), "it looks like a GIF"),
            ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "it looks like a WebP"), ("cut.png", street[: len(street) // 2], "is a damaged or truncated PNG"),
            ("cut.jpg", park[: len(park) // 2], "is a truncated JPEG: it ends before its pixels do"), ("start.jpg", park[:3], "JPEG"),
            ("start.png", street[:20], "PNG"), ("huge.png", bytes(huge), "has 100000×100000 pixels; expected 1×1 to 4096×4096"),
            ("large.png", bytes(large), "has 4097×1 pixels; expected 1×1 to 4096×4096")]:
        (tmp_path / name).write_bytes(data)
        said = find.fails(3, "car", tmp_path / name)
        assert str(tmp_path / name) in said and message in said, said
    assert "No such file" in find.fails(1, "car", tmp_path / "nowhere.png")
    assert "directory" in find.fails(1, "car", tmp_path)


def test_a_damaged_jpeg_is_used_and_said(finds_nothing, tmp_path):
    data = bytearray((PICTURES / "park.jpg").read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 400):
        data[at] = 0x55
    (tmp_path / "a.jpg").write_bytes(data)
    done = finds_nothing("car", tmp_path / "a.jpg")
    assert done.returncode == 0 and "a.jpg is damaged; what could be read of it is used" in done.stderr


def test_bad_prompts(find):
    street = PICTURES / "street.png"
    for empty in ("", "   ", "\u3000"):
        assert "PROMPT is empty; expected what to find" in find.fails(3, empty, street)
    assert "PROMPT is not valid UTF-8: byte 4 is 0xFF" in find.fails(3, b"red\xff", street)
    assert "PROMPT is empty" in find.fails(3, "car", "", street)
    done = find("the red car " * 20, street)
    assert done.returncode == 0 and "note: PROMPT is longer than the model reads; its end was not read" in done.stderr
    done = find("𓀀𓀁 xyzzy", street)  # the bundled vocabulary spells what it does not know in bytes
    assert done.returncode == 0 and done.stderr == ""


def test_usage(find):
    assert "PICTURE" in find.fails(2, "car")
    find.fails(2, "car", PICTURES / "street.png", "--threads", 0)
    assert "cannot write" in find.fails(1, "car", PICTURES / "street.png", "--out", "/nowhere/a.png")
    assert "expected a name that ends in .png, .jpg or .jpeg, got a.webp" in find.fails(2, "car", PICTURES / "street.png", "--out", "a.webp")
    for word in ("PROMPT", "--json", "--out", "--model"):
        assert word in Qkv().ok("find", "--help")


def test_bad_models(find, tmp_path):
    street = PICTURES / "street.png"
    assert "does not exist" in find.fails(4, "car", street, model="/nowhere/finder")
    assert "no-such-model" in find.fails(4, "car", street, model="no-such-model")
    (tmp_path / "empty").mkdir()
    assert "config.json" in find.fails(4, "car", street, model=tmp_path / "empty")
    assert "qkv-finder" in find.fails(4, "car", street, model=ROOT / "models/translate-en-zh")
    random_finder(tmp_path / "few", vocabulary=50)
    assert "it knows 50 pieces" in find.fails(4, "red car", street, model=tmp_path / "few")
    weights = find.model / "model.safetensors"
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/config.json").write_bytes((find.model / "config.json").read_bytes())
    (tmp_path / "cut/model.safetensors").write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert "model.safetensors" in find.fails(4, "car", street, model=tmp_path / "cut")


def test_a_vocabulary_of_its_own(find, tmp_path):
    for file in find.model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for name in ("source.spm", "target.spm", "vocab.json", "tokenizer_config.json"):
        os.symlink(ROOT / "models/translate-en-zh" / name, tmp_path / name)
    ours, bundled = (find.json("red car", PICTURES / "street.png", model=m)["objects"] for m in (tmp_path, find.model))
    assert ours == bundled
    (tmp_path / "vocab.json").unlink()
    assert "vocab.json" in find.fails(4, "car", PICTURES / "street.png", model=tmp_path)


# ---- the weights that ship

@pytest.fixture
def trained():
    return Find(TRAINED)


def test_the_red_car_and_no_other(trained):
    for prompt in ("red car", "红色的车"):
        answer = trained.json(prompt, PICTURES / "street.png")
        assert answer["presence"] > 0.5 and len(answer["objects"]) == 1, (prompt, answer["presence"], len(answer["objects"]))
        mask = mask_of(answer["objects"][0]["segmentation"])
        red = opened(PICTURES / "street.png")[mask].astype(int)
        assert (red[:, 0] - red[:, 1] > 60).mean() > 0.5


def test_what_is_not_there(trained):
    for prompt in ("blue car", "蓝色的车", "elephant", "zebra", "unicorn", "bla bla", "xyzzy", "恐龙", "机器人", "red dragon"):
        assert trained.json(prompt, PICTURES / "street.png")["objects"] == [], prompt


def test_orientation_turns_what_is_found(trained, tmp_path):
    """A picture stored lying on its side, with the note that says so, is found in as if it stood."""
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right to see it
    Image.open(PICTURES / "street.png").transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    assert trained.json("red car", tmp_path / "lying.png")["objects"] == trained.json("red car", PICTURES / "street.png")["objects"]
