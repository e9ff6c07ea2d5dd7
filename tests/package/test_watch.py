"""qkv.watch: what it records is what eager attention would have shown, of any model, and it leaves the model as it was."""
import json
import re

import pytest
import torch
import transformers
from tiny_models import DECODERS, ENCODERS, IMAGES, TRANSLATORS, made, padded_ids
from torch import nn

import qkv
import qkv.seen
from qkv.huggingface import watched

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()


def eager_weights(model, call, field="attentions"):
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return call(output_attentions=True)[field]


def close(got, expected):
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS, "vit"])
def test_every_head_of_a_forward_pass(name):
    model = made(name)
    ids, real = padded_ids((13, 13))
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32)} if name in IMAGES else {"input_ids": ids, "attention_mask": real}
    expected = eager_weights(model, lambda **more: model(**inputs, **more))
    with torch.no_grad(), qkv.watch(model, top=3, block=4) as seen:
        model(**inputs)
    assert model.config._attn_implementation == "eager" and not watched
    assert len(seen.layers) == len(expected)
    for layer, p in zip(seen.layers, expected):
        assert len(layer.heads) == p.shape[1] == 4
        for head in layer.heads:
            for batch in (0, 1):
                mine = p[batch, head.index]
                close(head.weights(batch=batch), mine)
                close(head.received(batch), mine.sum(0))
                close(head.entropy(batch)[3], -(mine[3] * mine[3].clamp(min=1e-30).log()).sum()) if name != "gpt_oss" else None
                read, rest = head.top(9, batch=batch)
                assert [k for k, _ in read] == mine[9].topk(3).indices.tolist()
                close(torch.tensor([*(w for _, w in read), rest]), torch.cat([mine[9].topk(3).values, (1 - mine[9].topk(3).values.sum())[None]]))
                one, others = head.top(9, n=1, batch=batch)
                assert one == read[:1] and others == pytest.approx(rest + read[1][1] + read[2][1])
        close(layer.heads[1].blocks()[0].sum(), layer.heads[1].received().sum())


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "gpt_oss"])
def test_generation_step_by_step(name):
    model = made(name)
    ids, _ = padded_ids((8,))
    with torch.no_grad(), qkv.watch(model, top=4) as seen:
        out = model.generate(ids, max_new_tokens=7, do_sample=False, eos_token_id=None)
    expected = eager_weights(model, lambda **more: model(out[:, :-1], **more))
    assert seen.tokens() == [str(i) for i in out[0, :-1].tolist()]
    for layer, p in zip(seen.layers, expected):
        assert layer.queries == 14 and len(layer.calls) in (2, 7)  # a window's steps are traced one by one, others together
        for head in layer.heads:
            for query in (0, 7, 8, 13, -1):
                mine = p[0, head.index, query]
                read, _ = head.top(query)
                assert [k for k, _ in read] == [k for k in mine.topk(4).indices.tolist() if mine[k] > 0]
            close(head.weights(slice(12, 13), slice(9, 13))[0, -4:], p[0, head.index, 12, 9:13])
            close(head.received()[5:14], p[0, head.index].sum(0)[5:14])


@pytest.mark.parametrize("name", TRANSLATORS)
def test_cross_attention(name):
    model = made(name)
    ids, real = padded_ids((11, 11))
    targets, _ = padded_ids((6, 6), seed=1)
    call = lambda **more: model(input_ids=ids, attention_mask=real, decoder_input_ids=targets, **more)  # noqa: E731
    expected = {field: eager_weights(model, call, field) for field in ("encoder_attentions", "decoder_attentions", "cross_attentions")}
    with torch.no_grad(), qkv.watch(model) as seen:
        call()
    streams = [seen.streams_of(layer) for layer in seen.layers]
    assert streams == [("source", "source")] * 2 + [("target", "target"), ("target", "source")] * 2
    assert [len(seen.tokens(stream)) for stream in ("source", "target")] == [11, 6]
    for stream, field in ((("source", "source"), "encoder_attentions"), (("target", "target"), "decoder_attentions"),
                          (("target", "source"), "cross_attentions")):
        for layer, p in zip([layer for layer in seen.layers if seen.streams_of(layer) == stream], expected[field]):
            for head in layer.heads:
                close(head.weights(batch=1), p[1, head.index])


def test_keys_of_a_growing_cache_are_kept_once():
    model = made("llama")
    with torch.no_grad(), qkv.watch(model) as seen:
        model.generate(padded_ids((30,))[0], max_new_tokens=20, do_sample=False, eos_token_id=None)
    storages = {call.key.untyped_storage().data_ptr() for call in seen.layers[0].calls}
    assert len(storages) == 1


def test_steps_that_are_traced_together_are_those_alone(monkeypatch):
    """Long generation, more steps than are held back, beams that change places, cross-attention: as if traced one by one."""
    for name, options in (("llama", {}), ("llama", {"num_beams": 3}), ("gpt_oss", {}), ("marian", {}), ("marian", {"num_beams": 2})):
        model = made(name)
        ids = padded_ids((9,))[0]
        results = []
        for together in (True, False):
            monkeypatch.setattr(qkv.seen.Steps, "MOST", 5)
            if not together:
                monkeypatch.setattr(qkv.seen.Steps, "can_wait", lambda *_: False)
            with torch.no_grad(), qkv.watch(model, block=0) as seen:
                model.generate(ids, max_new_tokens=13, do_sample=False, eos_token_id=None, **options)
            results.append(seen)
        monkeypatch.undo()
        for together, alone in zip(results[0].layers, results[1].layers):
            assert together.queries == alone.queries
            for head in range(4):
                for query in range(together.queries):
                    assert together.heads[head].top(query) == alone.heads[head].top(query)
                assert torch.equal(together.heads[head].entropy(), alone.heads[head].entropy())


def test_packed_sequences():
    model = made("llama")
    ids, _ = padded_ids((17,))
    position_ids = torch.cat([torch.arange(6), torch.arange(3), torch.arange(8)])[None]
    with torch.no_grad(), qkv.watch(model) as seen:
        model(input_ids=ids, position_ids=position_ids, use_cache=False)
    with torch.no_grad(), qkv.watch(model) as alone:
        model(input_ids=ids[:, 9:], use_cache=False)
    mine, theirs = seen.layers[1].heads[0].top(12)[0], alone.layers[1].heads[0].top(3)[0]
    assert [k - 9 for k, _ in mine] == [k for k, _ in theirs]
    with pytest.raises(ValueError, match="packed sequences"):
        seen.layers[0].heads[0].weights()


def test_what_is_asked_for():
    model = made("llama")
    ids, _ = padded_ids((9,))
    with torch.no_grad(), qkv.watch(model, layers=[1], received=False, block=0, keep=None) as seen:
        model(ids)
    assert not seen.layers[0].heads and len(seen.layers[1].heads) == 4
    head = seen.layers[1].heads[0]
    for call, message in ((head.weights, "are not there: watched with keep=None"), (head.received, "expected received=True"),
                          (head.blocks, "expected block=64"), (lambda: head.top(3, n=20), "expected at most top=8")):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(IndexError, match="query 9 of layer 1, which had 9"):
        head.top(9)
    with torch.no_grad(), qkv.watch(model, keep_bytes=3000) as seen:
        model(ids)
    assert seen.layers[0].calls[0].key is not None and seen.layers[1].calls[0].key is None
    with pytest.raises(ValueError, match="larger than keep_bytes; watch fewer layers"):
        seen.layers[1].heads[0].weights()
    with pytest.raises(ValueError, match="keep is 'all'"):
        qkv.watch(model, keep="all")


@pytest.mark.parametrize("name", ["llama", "gpt_oss", "marian"])
def test_what_was_not_kept_is_run_again(name):
    model = made(name)
    ids, _ = padded_ids((9,))
    run = lambda: model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None)  # noqa: E731
    with torch.no_grad(), qkv.watch(model) as kept:
        run()
    with torch.no_grad(), qkv.watch(model, keep=None) as seen:
        run()
    seen.run_again(run, layers=[0, len(seen.layers) - 1])
    assert not watched
    for index in (0, -1):
        for mine, theirs in zip(seen.layers[index].calls, kept.layers[index].calls):
            assert torch.equal(mine.query, theirs.query) and torch.equal(mine.key, theirs.key)
        first = seen.layers[index].calls[0].queries
        assert torch.equal(seen.layers[index].heads[2].weights(slice(0, first)), kept.layers[index].heads[2].weights(slice(0, first)))
    if len(seen.layers) > 2:
        with pytest.raises(ValueError, match="are not there"):
            seen.layers[1].heads[0].weights(slice(0, 1))


def test_running_again_stops_early_and_notices_other_inputs():
    model = made("llama")
    ids, _ = padded_ids((9,))
    with torch.no_grad(), qkv.watch(model, keep=None) as seen:
        model(ids)
    ran = []
    model.model.layers[1].register_forward_pre_hook(lambda *_: ran.append(1))
    seen.run_again(lambda: model(ids), layers=[0])
    assert not ran and seen.layers[0].heads[0].weights().shape == (9, 9)
    for other in (lambda: model(ids.flip(1)), lambda: model(ids[:, :5]), lambda: None):
        with pytest.raises(ValueError, match="layer 1 did not do what it did before|no attention of"):
            seen.run_again(other, layers=[1])
    assert seen.layers[1].calls[0].key is None
    with pytest.raises(ValueError, match=r"layers are \[7\]; expected some that were watched, of \[0, 1\]"):
        seen.run_again(lambda: model(ids), layers=[7])


def test_sinks():
    model = made("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.k_proj.weight.zero_()
    with torch.no_grad(), qkv.watch(model) as seen:
        model(padded_ids((12,))[0])
    share = seen.layers[0].heads[0].attention_share()  # all keys alike: the first gets 1 + 1/2 + … + 1/12 of 12 queries
    assert share[0].item() == pytest.approx(sum(1 / i for i in range(1, 13)) / 12, abs=1e-5)
    assert seen.layers[0].heads[0].sinks(share=0.25) == [(0, pytest.approx(share[0].item()))]


def test_training_goes_on_while_watched():
    model = made("llama").train()
    ids, _ = padded_ids((9,))
    with qkv.watch(model) as seen:
        model(ids).logits.pow(2).mean().backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad.abs().max() > 0
    assert not seen.layers[0].calls[0].trace.top_weights.requires_grad


class Plain(nn.Module):
    """A model of PyTorch alone."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2)

    def forward(self, x):
        return self.encoder(x, mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]), is_causal=True)


def test_any_model_of_pytorch():
    torch.manual_seed(0)
    model = Plain().eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        expected = model(x)
        with qkv.watch(model, block=0) as seen:
            torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)
    assert [layer.name for layer in seen.layers] == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    p = seen.layers[1].heads[1].weights(batch=1)
    close(p.sum(-1), torch.ones(5))
    assert torch.equal(p, p.tril())
    assert torch.backends.mha.get_fastpath_enabled() and not model._forward_hooks and not model.encoder._forward_pre_hooks


def test_models_that_cannot_be_seen():
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="BloomForCausalLM does not route its attention"), qkv.watch(bloom):
        bloom(padded_ids((5,))[0])
    with pytest.raises(ValueError, match="no attention of Linear was seen"), qkv.watch(nn.Linear(3, 3)) as seen:
        assert not seen.layers
    model = made("llama")
    with pytest.raises(ZeroDivisionError), qkv.watch(model):  # the model's own errors pass, and it is left as it was
        1 / 0  # noqa: B018
    assert model.config._attn_implementation != "qkv" and not watched


def test_json_page_and_notebook(tmp_path):
    model = made("marian")
    ids, real = padded_ids((7,))

    class Tokenizer:
        def decode(self, ids):
            return f"</script>{ids[0]}"

    with torch.no_grad(), qkv.watch(model, tokenizer=Tokenizer()) as seen:
        model(input_ids=ids, attention_mask=real, decoder_input_ids=ids[:, :4])
    told = seen.to_json()
    assert told["schema"] == 1 and len(told["tokens"]["source"]) == 7 and len(told["tokens"]["target"]) == 4
    cross = told["layers"][3]
    assert (cross["queries"], cross["keys"]) == ("target", "source") and len(cross["heads"]) == 4
    head = cross["heads"][2]
    assert len(head["top_keys"]) == 4 and len(head["received"]) == 7
    assert head["top_weights"][1][0] == pytest.approx(seen.layers[3].heads[2].top(1)[0][0][1], rel=1e-3)
    seen.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    assert json.loads(held) == json.loads(json.dumps(told))
    assert "http" not in text.replace(held, "")  # one file, complete
    assert "decoder.layers.1.encoder_attn" in seen._repr_html_() and "6 layers, 24 heads, 6 calls" in repr(seen)
