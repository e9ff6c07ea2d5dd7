import copy

import pytest
import torch

from training.translate.model import DropoutPool, Marian, Shape, SmoothedLoss

SHAPE = Shape(vocab_size=50, d_model=16, ffn=32, heads=4, encoder_layers=2, decoder_layers=2, max_positions=40)


def lean(seed=1):
    torch.manual_seed(seed)
    model = Marian(SHAPE)
    for p in model.parameters():
        p.data.normal_(std=0.3)
    return model.eval()


def batch():
    source = torch.tensor([[5, 6, 7, 8, 0], [9, 10, 0, SHAPE.pad, SHAPE.pad]])
    target = torch.tensor([[SHAPE.pad, 11, 12, 13], [SHAPE.pad, 14, 15, 0]])
    return source, target


def test_logits_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    model, (source, target) = lean(), batch()
    config = {k: v for k, v in SHAPE.marian_config().items() if k not in ("num_beams", "max_length", "bad_words_ids", "architectures")}
    other = transformers.MarianMTModel(transformers.MarianConfig(**config)).eval()
    missing, unexpected = other.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and not [m for m in missing if "layers" in m]
    with torch.no_grad():
        want = other(input_ids=source, attention_mask=(source != SHAPE.pad).long(), decoder_input_ids=target).logits
        memory, hidden = model.encode(source)
        got = model.logits(model.decode(target, memory, hidden))
    assert (want - got).abs().max() < 1e-4


def test_decoding_step_by_step_is_decoding_at_once():
    model, (source, target) = lean(), batch()
    with torch.no_grad():
        memory, hidden = model.encode(source)
        whole = model.decode(target, memory, hidden)
        past, steps = model.no_past(), []
        for n in range(target.shape[1]):
            steps.append(model.decode(target[:, n:n + 1], memory, hidden, past=past))
    assert (whole - torch.cat(steps, 1)).abs().max() < 1e-5


def test_chunked_loss_is_the_smoothed_cross_entropy():
    torch.manual_seed(2)
    x, e = torch.randn(13, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    y = torch.randint(0, 20, (13,))
    x2, e2 = (copy.deepcopy(t.detach()).requires_grad_() for t in (x, e))
    loss, plain = SmoothedLoss.apply(x, e, y, 0.1, 5)
    loss.backward()
    want = torch.nn.functional.cross_entropy(x2 @ e2.t(), y, label_smoothing=0.1, reduction="sum")
    want.backward()
    assert torch.allclose(loss, want, rtol=1e-5)
    assert torch.allclose(x.grad, x2.grad, atol=1e-5) and torch.allclose(e.grad, e2.grad, atol=1e-5)
    assert torch.allclose(plain, torch.nn.functional.cross_entropy(x2 @ e2.t(), y, reduction="sum"), rtol=1e-5)


def test_dropout_masks_keep_the_mean():
    pool = DropoutPool(0.25, 1, torch.float32, torch.device("cpu"), size=1 << 16)
    mask = pool.mask(torch.zeros(200, 200))
    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.75]) and abs(mask.mean() - 1) < 0.02
