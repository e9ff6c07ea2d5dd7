"""The built `qkv`, and small random Marian models to run it on."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
BUNDLED = ROOT / "models" / "translate-en-zh"

SENTENCES = """The cat sat on the mat because it was tired.
The dog ran after the ball and it was happy.
She gave him the book because he likes it.
They eat red apples with their friends.
那个红色的苹果看起来很好吃，我想吃掉它。
猫坐在垫子上，因为它累了。
我爱吃苹果。
他把书给了她，因为她喜欢它。""".splitlines()


class Qkv:
    """Runs the command; `model` is the folder for --model, None for commands without one."""

    def __init__(self, model=None):
        self.model = model

    def __call__(self, *arguments, model=None, stdin=None, timeout=120, **environment):
        command = [BUILD / "bin" / "qkv", *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        folder = model if model is not None else self.model
        if folder is not None and arguments and arguments[0] in ("look", "translate"):
            command += ["--model", folder]
        given = stdin.encode() if isinstance(stdin, str) else stdin
        # Without the variables that change what is printed, unless a test sets them.
        inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "QKV_ISA")}
        done = subprocess.run(command, input=given, stdin=subprocess.DEVNULL if given is None else None, capture_output=True,
                              timeout=timeout, env={**inherited, **environment})
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    def ok(self, *arguments, **options):
        done = self(*arguments, **options)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments, **options):
        return json.loads(self.ok(*arguments, "--json", **options))

    def fails(self, code, *arguments, **options):
        """The message on standard error of a command that must end with `code` and print nothing else."""
        done = self(*arguments, **options)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.stderr.startswith("qkv: ") and done.stderr.endswith("\n"), done.stderr
        return done.stderr


def make_model(folder, byte_fallback=True):
    """A Marian folder with random weights: 2 + 2 layers of 4 heads, pieces learned from SENTENCES."""
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_prefix=str(folder / "source"), vocab_size=400 if byte_fallback else 140,
        hard_vocab_limit=False, model_type="unigram", character_coverage=1.0, byte_fallback=byte_fallback, pad_id=-1, bos_id=-1,
        eos_id=0, unk_id=1, num_threads=1, minloglevel=2)
    (folder / "source.model").rename(folder / "source.spm")
    (folder / "source.vocab").unlink()
    shutil.copy(folder / "source.spm", folder / "target.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    vocabulary = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    for token in (">>en<<", ">>zh<<", "<pad>"):
        vocabulary[token] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    pad = vocabulary["<pad>"]
    torch.manual_seed(1)
    model = MarianMTModel(MarianConfig(
        vocab_size=len(vocabulary), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=128, pad_token_id=pad,
        decoder_start_token_id=pad, eos_token_id=0, forced_eos_token_id=0, scale_embedding=True, init_std=0.3))
    model.generation_config.update(max_length=24, num_beams=2, bad_words_ids=[[pad]])
    model.save_pretrained(folder)
    roles = [("encoder", 1, 2, "coreference", 0.91, 0.23, True), ("encoder", 0, 1, "previous", 0.98, 0.11, False),
             ("encoder", 1, 0, "syntax", 0.61, 0.2, False), ("decoder_cross", 1, 0, "alignment", 0.83, 0.12, True)]
    names = ("block", "layer", "head", "role", "score", "chance", "guided")
    (folder / "roles.json").write_text(json.dumps({"schema": 1, "heads": [dict(zip(names, role)) for role in roles]}))
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def model_without_bytes(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "characters", byte_fallback=False)


@pytest.fixture
def qkv(model):
    return Qkv(model)


@pytest.fixture
def bundled():
    """The command with the model that ships."""
    if not (BUNDLED / "config.json").exists():
        pytest.skip("models/translate-en-zh is not there")
    return Qkv(BUNDLED)
