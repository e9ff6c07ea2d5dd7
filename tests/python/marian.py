"""Small random Marian folders made by transformers, and a door to the C++ program that answers for the same folder."""

import json
import os
import subprocess
from pathlib import Path

import torch
from transformers import MarianConfig, MarianMTModel

torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other

ROOT = Path(__file__).resolve().parents[2]


def probe_program() -> Path:
    """tests/models/marian_probe.cc as built: named by QKV_MARIAN_PROBE, or the newest one under build/."""
    named = os.environ.get("QKV_MARIAN_PROBE")
    if named:
        return Path(named)
    built = sorted(ROOT.glob("build/*/tests/marian_probe"), key=lambda path: path.stat().st_mtime)
    return built[-1] if built else ROOT / "build/release/tests/marian_probe"


class Probe:
    """Asks the program; one request and one answer at a time."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen([probe_program(), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, "QKV_NUM_THREADS": "1"})

    def __call__(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


def random_model(folder: Path, seed: int = 0, generation: dict | None = None, half: bool = False, **config) -> MarianMTModel:
    """A model with weights large enough that its outputs vary, saved to `folder` and read back from there."""
    torch.manual_seed(seed)
    vocabulary = config.setdefault("vocab_size", 67)
    targets = vocabulary if config.get("share_encoder_decoder_embeddings", True) else config.get("decoder_vocab_size", vocabulary)
    pad = min(vocabulary, targets) - 1
    settings = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
                "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64, "pad_token_id": pad,
                "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": None, "init_std": 0.4, **config}
    model = MarianMTModel(MarianConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter += 0.1 * torch.randn_like(parameter)
        model.final_logits_bias += 0.3 * torch.randn_like(model.final_logits_bias)
    if half:
        model = model.half()
    # generate() refuses to save the settings of beam search where the default is greedy
    model.generation_config.update(**{"num_beams": 4, "bad_words_ids": [[pad]], "max_length": 20, "forced_eos_token_id": 0, **(generation or {})})
    model.save_pretrained(folder)
    return MarianMTModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
