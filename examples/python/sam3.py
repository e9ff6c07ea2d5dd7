"""SAM 3 on qkv: words find objects in a picture, and the three attentions that found them are seen.

    python examples/python/sam3.py [--html sam3.html]                # random weights, held to eager attention
    python examples/python/sam3.py --model DIR --picture street.jpg --prompt "red car" [--html sam3.html] [--check]

The picture attends to itself, object queries attend to the words, object queries attend to the picture. Without --model the weights
are random: what is read then means nothing, but that every attention ran on qkv and gave what eager attention gives.

With real weights: facebook/sam3 is gated. Accept its licence on its page at Hugging Face, log in (`hf auth login`), and
`hf download facebook/sam3 --local-dir DIR`, or give the name itself as DIR. It has 840 million parameters, and needs Pillow.
"""
import argparse

import numpy as np
import torch
import transformers

import qkv
import qkv.huggingface

SPREAD = 0.2  # of random weights: enough for heads that choose
SHOWN = 3  # objects, and words and patches of each
TOLERANCE = 1e-4  # of the largest number of an output
OUTPUTS = ("pred_logits", "presence_logits", "pred_boxes", "pred_masks", "semantic_seg")


def tiny(patches=8):
    """SAM 3's shape, small: a layer that sees windows, one that sees the whole picture, two layers of everything after."""
    head = {"hidden_size": 32, "num_attention_heads": 2, "dropout": 0.0, "initializer_range": SPREAD}
    part = {**head, "intermediate_size": 64, "num_layers": 2}
    vision = {"model_type": "sam3_vit_model", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 14 * patches, "pretrain_image_size": 56, "patch_size": 14, "window_size": 4, "global_attn_indexes": [1],
              "initializer_range": SPREAD}
    text = {"model_type": "clip_text_model", "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 32, "projection_dim": 32, "bos_token_id": 1, "eos_token_id": 2}
    return transformers.Sam3Config(
        vision_config={"backbone_config": vision, "fpn_hidden_size": 32, "initializer_range": SPREAD,
                       "backbone_feature_sizes": [[patches * scale, patches * scale] for scale in (4, 2, 1)]},
        text_config=text, geometry_encoder_config={**part, "roi_size": 3}, detr_encoder_config=part,
        detr_decoder_config={**part, "num_queries": 5}, mask_decoder_config={**head, "num_upsampling_stages": 2}, initializer_range=SPREAD)


def tiny_inputs(prompt, size):
    """A drawn picture, a number for each word of the prompt, and padding behind it, as the real tokenizer pads."""
    pixels = torch.linspace(-1, 1, size).expand(1, 3, size, size).clone()
    pixels[:, 0, size // 4:size // 2, size // 8:size // 2] = 1
    words = ["<start>", *prompt.split()[:6], "<end>"]
    ids = [1, *(3 + sum(word.encode()) % 90 for word in words[1:-1]), 2]
    padding = [0] * (8 - len(ids))
    mask = torch.tensor([[1] * len(ids) + padding])
    return {"pixel_values": pixels, "input_ids": torch.tensor([ids + padding]), "attention_mask": mask}, words


def real_inputs(folder, picture, prompt, size):
    """What Sam3Processor makes of a picture and a prompt; that class also needs torchvision."""
    from PIL import Image, ImageOps

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = tokenizer(prompt, padding="max_length", max_length=32, truncation=True, return_tensors="pt")
    with Image.open(picture) as opened:
        levels = np.array(ImageOps.exif_transpose(opened).convert("RGB"))  # [height, width, 3], 0 to 255
    pixels = torch.from_numpy(levels).permute(2, 0, 1)[None]
    pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    words = tokenizer.convert_ids_to_tokens(text["input_ids"][0, :int(text["attention_mask"].sum())].tolist())
    return {"pixel_values": pixels / 127.5 - 1, **text}, [word.removesuffix("</w>") for word in words]


def compare(model, inputs, outputs):
    """The largest difference from eager attention, each output's in parts of its largest number."""
    model.set_attn_implementation("eager")
    expected = model(**inputs)
    return max(float((outputs[name] - expected[name]).abs().max() / expected[name].abs().max()) for name in OUTPUTS)


def name_places(seen, words, queries, side):
    """What the queries and keys of each attention are, for the page. Layers that see windows count within their window."""
    patch = [f"row {i // side} column {i % side}" for i in range(side * side)]
    seen.texts |= {"word": words, "patch": patch, "object": ["is it there?", *(f"object {i}" for i in range(queries))]}
    seen.streams |= {"*.text_cross_attn": ("object", "word"), "*.vision_cross_attn": ("object", "patch"),
                     "detr_decoder.*": ("object", "object"), "detr_encoder.*.self_attn": ("patch", "patch"),
                     "detr_encoder.*.cross_attn": ("patch", "word"), "mask_decoder.*": ("patch", "word"), "text_encoder.*": ("word", "word")}
    for layer in seen.layers:
        if layer.name.startswith("vision_encoder.") and layer.queries == side * side:
            seen.streams[layer.name] = "patch", "patch"


def read(layer, query, names):
    """What a query read most: exact weights, the mean of the layer's heads."""
    weights = torch.stack([head.weights(slice(query, query + 1))[0] for head in layer.heads]).mean(0)
    best = weights.topk(min(SHOWN, len(names)))
    return ", ".join(f"{names[key]} {weight:.0%}" for key, weight in zip(best.indices.tolist(), best.values.tolist()))


def show(seen, outputs, side):
    """The best objects, and what each of them read in the last layer of each of the three attentions."""
    last = {layer.name.split(".")[-1]: layer for layer in seen.layers if layer.name.startswith("detr_decoder.")}
    sight = [layer for layer in seen.layers if layer.name.startswith("vision_encoder.") and layer.queries == side * side][-1]
    presence = outputs.presence_logits.sigmoid().item()
    print(f"it is in the picture with probability {presence:.2f}")
    scores = outputs.pred_logits[0].sigmoid() * presence
    for index in scores.topk(SHOWN).indices.tolist():
        left, top, right, bottom = (outputs.pred_boxes[0, index].clamp(0, 1) * side).tolist()  # in patches
        covers = (outputs.pred_masks[0, index] > 0).float().mean()
        print(f"object {index}: score {scores[index]:.2f}, rows {top:.1f} to {bottom:.1f}, columns {left:.1f} to {right:.1f}, "
              f"its mask is {covers:.0%} of the picture")
        query = index + 1  # query 0 is the one that says whether anything is there
        print("  of the words it read    ", read(last["text_cross_attn"], query, seen.texts["word"]))
        print("  of the picture it read  ", read(last["vision_cross_attn"], query, seen.texts["patch"]))
        middle = min(int((top + bottom) / 2), side - 1) * side + min(int((left + right) / 2), side - 1)
        print(f"  the patch in its middle, {seen.texts['patch'][middle]}, read", read(sight, middle, seen.texts["patch"]))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description="SAM 3 on qkv: what the objects that it finds read.")
    parser.add_argument("--model", metavar="DIR", help="real weights: facebook/sam3 as downloaded")
    parser.add_argument("--picture", metavar="FILE", help="with --model: PNG, JPEG, …")
    parser.add_argument("--prompt", default="a red car", metavar="TEXT")
    parser.add_argument("--html", metavar="FILE", help="also write a page to look around in")
    parser.add_argument("--check", action="store_true", help="with --model: compare with eager attention too")
    arguments = parser.parse_args()
    if bool(arguments.model) != bool(arguments.picture):
        parser.error("expected --model and --picture together, or neither")
    if not hasattr(transformers, "Sam3Model"):
        print(f"transformers {transformers.__version__} has no Sam3Model; expected a later one, such as 5.23")
        return 0
    transformers.logging.set_verbosity_error()  # it warns that the geometry encoder, a plain module, is not checked for qkv
    if arguments.model:
        # All parts or none: the constructor overwrites attn_implementation={"detr_decoder_config": "qkv"} for the parts that are made last.
        # model.set_attn_implementation({...}) afterwards is heard.
        model = transformers.Sam3Model.from_pretrained(arguments.model, attn_implementation="qkv", dtype=torch.float32).eval()
        inputs, words = real_inputs(arguments.model, arguments.picture, arguments.prompt, model.config.image_size)
    else:
        torch.manual_seed(0)
        model = transformers.Sam3Model._from_config(tiny(), attn_implementation="qkv").eval()
        inputs, words = tiny_inputs(arguments.prompt, model.config.image_size)
    vision = model.config.vision_config.backbone_config
    side = vision.image_size // vision.patch_size

    with qkv.watch(model, keep_bytes=2 << 30) as seen:  # q and k of all layers of the real model are 1.7 GB
        outputs = model(**inputs)
    name_places(seen, words, model.config.detr_decoder_config.num_queries, side)

    # The geometry encoder reads boxes that a person drew, and there are none.
    attentions = {name for name, module in model.named_modules() if hasattr(module, "q_proj") and not name.startswith("geometry_encoder.")}
    missed = attentions - {layer.name for layer in seen.layers}
    print(f"{len(attentions) - len(missed)} of {len(attentions)} attentions ran on qkv")
    wrong = bool(missed)
    if arguments.check or not arguments.model:
        difference = compare(model, inputs, outputs)
        print(f"masks, boxes and scores are within {difference:.0e} of eager attention's; {TOLERANCE:.0e} is allowed")
        wrong |= not difference <= TOLERANCE
    show(seen, outputs, side)
    if arguments.html:
        seen.save(arguments.html)
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
