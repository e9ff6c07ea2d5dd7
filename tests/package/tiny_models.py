"""Tiny random models of transformers, one of each kind that qkv.huggingface is tested with."""
import runpy
from pathlib import Path

import torch
import transformers as hf

SAM3 = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples/python/sam3.py"))
TEXT = {"vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
GROUPED = TEXT | {"num_key_value_heads": 2}
ENCODER = TEXT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
          "patch_size": 8, "initializer_range": 0.3, "attention_dropout": 0.0}
SEQ2SEQ = {"vocab_size": 97, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
           "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128,
           "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None,
           "init_std": 0.3, "dropout": 0.0, "attention_dropout": 0.0}


DECODERS = {
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(
        vocab_size=97, n_positions=128, n_embd=48, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=5)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=16)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED, head_dim=16, sliding_window=5, attn_logit_softcapping=2.0)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GROUPED, head_dim=16, sliding_window=5)),
    "gpt_oss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(
        **GROUPED, head_dim=16, sliding_window=5, num_local_experts=2, num_experts_per_tok=1)),
    "deepseek_v3": lambda: hf.DeepseekV3ForCausalLM(hf.DeepseekV3Config(
        **TEXT, num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2,
        n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8,
        v_head_dim=12)),
}
ENCODERS = {
    "bert": lambda: hf.BertModel(hf.BertConfig(**ENCODER)),
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**ENCODER)),
}
TRANSLATORS = {
    "marian": lambda: hf.MarianMTModel(hf.MarianConfig(**SEQ2SEQ)),
    "bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**SEQ2SEQ)),
    "t5": lambda: hf.T5ForConditionalGeneration(hf.T5Config(
        vocab_size=97, d_model=48, d_kv=12, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=0, initializer_factor=0.6)),
}
IMAGES = {
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**VISION)),
    "clip": lambda: hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=32)),
    "siglip": lambda: hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=VISION)),
}


def whisper():
    return hf.WhisperForConditionalGeneration(hf.WhisperConfig(
        **SEQ2SEQ | {"max_position_embeddings": 64}, num_mel_bins=8, max_source_positions=30, max_target_positions=64,
        suppress_tokens=None, begin_suppress_tokens=None))


def made(name, seed=0):
    torch.manual_seed(seed)
    builders = {**DECODERS, **ENCODERS, **TRANSLATORS, **IMAGES, "whisper": whisper, "sam3": lambda: hf.Sam3Model(SAM3["tiny"]())}
    model = builders[name]().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("sinks"):
                parameter.normal_()
    return model


def padded_ids(lengths=(11, 7, 3), left=False, vocabulary=97, seed=0):
    """input_ids and attention_mask of a batch of sentences."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(3, vocabulary, (len(lengths), longest), generator=generator)
    place = torch.arange(longest)[None, :]
    count = torch.tensor(lengths)[:, None]
    real = place >= longest - count if left else place < count
    return ids * real, real.long()
