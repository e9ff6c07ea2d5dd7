"""The C++ Marian against transformers in eager fp32: logits within 1e-4, greedy and beam output id for id."""

import random

import pytest
import torch
from marian import ROOT, Probe, random_model
from transformers import MarianMTModel, MarianTokenizer

VARIANTS = {
    "plain": {},
    "scaled": {"scale_embedding": True},
    "relu": {"activation_function": "relu"},
    "gelu": {"activation_function": "gelu"},
    "gelu_new": {"activation_function": "gelu_new"},
    "swish": {"activation_function": "swish", "scale_embedding": True},
    "tanh": {"activation_function": "tanh"},
    "one head": {"encoder_attention_heads": 1, "decoder_attention_heads": 4},
    "odd sizes": {"d_model": 27, "encoder_attention_heads": 3, "decoder_attention_heads": 9, "encoder_ffn_dim": 33,
                  "decoder_ffn_dim": 41, "vocab_size": 131},
    "deep": {"encoder_layers": 4, "decoder_layers": 3, "encoder_ffn_dim": 64},
    "no encoder layers": {"encoder_layers": 0, "decoder_layers": 1},
    "untied output": {"tie_word_embeddings": False},
    "two vocabularies": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 53},
    "two vocabularies, untied": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 53,
                                 "tie_word_embeddings": False},
    "half": {"half": True, "d_model": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.2},
}

GENERATION = {
    "defaults": {},
    "short": {"length_penalty": 0.6},
    "long": {"length_penalty": 2.0},
    "no penalty": {"length_penalty": 0.0},
    "negative penalty": {"length_penalty": -1.0},
    "stop when full": {"early_stopping": True},
    "never stop early": {"early_stopping": "never", "max_length": 12},
    "never, no penalty": {"early_stopping": "never", "length_penalty": 0.0, "max_length": 12},
    "without forced end": {"forced_eos_token_id": None, "max_length": 8},
    "two ends": {"eos_token_id": [0, 5, 9]},
    "many ends": {"eos_token_id": list(range(12)), "early_stopping": True},
    "least length": {"min_length": 7},
    "new tokens": {"max_new_tokens": 6, "min_new_tokens": 4},
    "no repeats": {"no_repeat_ngram_size": 2},
    "repetition penalty": {"repetition_penalty": 1.3},
    "bad words": {"bad_words_ids": [[66], [1, 2], [3], [0]]},
    "forced first": {"forced_bos_token_id": 7, "begin_suppress_tokens": [4, 5]},
    "suppressed": {"suppress_tokens": [10, 11, 12], "begin_suppress_tokens": [4, 5], "renormalize_logits": True},
}


def sentences(generator: random.Random, vocabulary: int, lengths: list[int]) -> list[list[int]]:
    return [[generator.randrange(1, vocabulary - 1) for _ in range(length - 1)] + [0] for length in lengths]


def ids_of_row(row: torch.Tensor, ends: set[int]) -> list[int]:
    """What generate() returned for one sentence, without the start id and the padding after the end."""
    ids = row.tolist()[1:]
    for place, id in enumerate(ids):
        if id in ends:
            return ids[: place + 1]
    return ids


def generate(model, source: list[int], beams: int) -> tuple[list[int], float]:
    ends = model.generation_config.eos_token_id
    with torch.no_grad():
        out = model.generate(torch.tensor([source]), num_beams=beams, return_dict_in_generate=True, output_scores=True)
    return ids_of_row(out.sequences[0], set(ends if isinstance(ends, list) else [ends])), getattr(out, "sequences_scores", None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits(tmp_path, variant):
    model = random_model(tmp_path, seed=len(variant), **VARIANTS[variant])
    probe = Probe(tmp_path)
    generator = random.Random(1)
    for length in (1, 2, 9, 33, 64):
        source = sentences(generator, model.config.vocab_size, [length])[0]
        target = [model.config.decoder_start_token_id] + sentences(generator, model.lm_head.out_features, [1 + length % 11])[0][:-1]
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]
        got = torch.tensor(probe(source=source, target=target)["logits"])
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-4
    probe.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_of_every_variant(tmp_path, variant):
    model = random_model(tmp_path, seed=3, **VARIANTS[variant])
    compare_outputs(tmp_path, model, [1, 4])


@pytest.mark.parametrize("generation", GENERATION)
def test_output_of_every_generation_setting(tmp_path, generation):
    model = random_model(tmp_path, seed=4, generation=GENERATION[generation])
    compare_outputs(tmp_path, model, [1, 3, 4])


def compare_outputs(folder, model, all_beams):
    probe = Probe(folder)
    sources = sentences(random.Random(5), model.config.vocab_size, [1, 5, 5, 14])
    for beams in all_beams:
        together = probe(sources=sources, beams=beams, alignment=True)
        for place, source in enumerate(sources):
            expected, score = generate(model, source, beams)
            alone = probe(sources=[source], beams=beams, alignment=True)
            assert alone["outputs"][0] == expected
            if score is not None:
                assert alone["scores"][0] == pytest.approx(score.item(), rel=1e-5, abs=1e-4)
            # a sentence's result has the same bits in any company
            for field in ("outputs", "scores", "alignments"):
                assert together[field][place] == alone[field][0]
            rows = torch.tensor(alone["alignments"][0]).reshape(len(expected), len(source))
            assert torch.allclose(rows.sum(1), torch.ones(len(expected)), atol=1e-5)
    probe.close()


def test_alignment_is_the_cross_attention(tmp_path):
    model = random_model(tmp_path, seed=6)
    source = sentences(random.Random(7), model.config.vocab_size, [11])[0]
    probe = Probe(tmp_path)
    for beams in (1, 4):
        answer = probe(sources=[source], beams=beams, alignment=True)
        target = [model.config.decoder_start_token_id] + answer["outputs"][0][:-1]
        with torch.no_grad():
            out = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target]), output_attentions=True)
        expected = out.cross_attentions[-1][0, 0]  # last layer, head 0: the probe watches it
        got = torch.tensor(answer["alignments"][0]).reshape(expected.shape)
        assert torch.allclose(got, expected, atol=1e-5)
    probe.close()


BUNDLED = ROOT / "models/translate-en-zh"
SENTENCES = ["The cat sits on the mat", "The cat sat on the mat because it was tired.", "That red apple looks delicious; I want to eat it.",
             "Where is the nearest library?", "I have never seen such a beautiful sunset in my life!", "Tom", "He said nothing, did he?",
             "那个红色的苹果看起来很好吃，我想吃掉它", "我爱吃苹果。", "猫坐在垫子上。", "你昨天为什么没有来学校？", "这本书是关于量子物理的，我看不懂。", "好！"]


@pytest.mark.skipif(not (BUNDLED / "model.safetensors").exists(), reason="the bundled model is not there yet")
def test_the_bundled_model():
    model = MarianMTModel.from_pretrained(BUNDLED, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = MarianTokenizer.from_pretrained(BUNDLED)
    probe = Probe(BUNDLED)
    sources = []
    for text in SENTENCES:
        token = ">>en<<" if any("\u3400" <= c <= "\u9fff" for c in text) else ">>zh<<"
        sources.append(tokenizer.encode(token + text))
        assert [piece["id"] for piece in probe(text=text, to=token[2:4])["pieces"]] == sources[-1]
    for beams in (1, 4):
        outputs = probe(sources=sources, beams=beams)["outputs"]
        for source, output in zip(sources, outputs):
            assert output == generate(model, source, beams)[0]
            if beams == 1:
                target = [model.config.decoder_start_token_id, *output]
                with torch.no_grad():
                    expected = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]
                assert (torch.tensor(probe(source=source, target=target)["logits"]) - expected).abs().max() <= 1e-4
    probe.close()
