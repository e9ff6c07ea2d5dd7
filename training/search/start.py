"""Where training starts: the best bag of tokens, in closed form.

targets  t[text] = teacher's vector in the student's H - 1 dimensions: the largest singular directions of the teacher's vectors,
         turned by a random rotation, so that every dimension carries alike
solve    (XᵀX + λI) E = Xᵀ T,   X[text][token] = times it occurs / tokens of the text
so that the mean of a text's token vectors is as near as it can be to the teacher's vector, over both languages at once.

A BERT of post-norm layers divides every token by its length, which would lose the weight of a word. Dimension 0 therefore holds
one large constant: beside it normalisation is nearly linear, and an untrained stack of layers passes E through.
"""

import numpy as np
import torch
from transformers import BertConfig, BertModel

CONSTANT, TYPICAL = 32.0, 12.0  # dimension 0, and the length of a frequent token's other dimensions


def projection(vectors: np.ndarray, dim: int, seed: int) -> np.ndarray:
    """[teacher's dim, dim]: orthonormal columns over the largest singular directions, rotated."""
    _, basis = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    return (basis[:, ::-1][:, :dim] @ turn).astype(np.float32)


def bag(texts: list[list[int]], targets: np.ndarray, size: int, ridge: float) -> np.ndarray:
    """[size, dim]: the E of the formula above. texts: token ids; targets: [texts, dim]."""
    gram = np.zeros(size * size)
    right = torch.zeros(size, targets.shape[1], dtype=torch.float64)
    for length in sorted({len(t) for t in texts}):
        rows = [n for n, t in enumerate(texts) if len(t) == length]
        for begin in range(0, len(rows), 20000):
            part = rows[begin:begin + 20000]
            ids = np.array([texts[n] for n in part])
            np.add.at(gram, (ids[:, :, None] * size + ids[:, None, :]).ravel(), 1 / length**2)
            share = torch.from_numpy(targets[part]).double() / length
            for column in torch.from_numpy(ids).T:
                right.index_add_(0, column, share)
    gram = torch.from_numpy(gram.reshape(size, size)).float()
    gram.diagonal().add_(ridge)
    return torch.cholesky_solve(right.float(), torch.linalg.cholesky(gram)).numpy()


def config(size: int, hidden: int, layers: int, ffn: int) -> BertConfig:
    return BertConfig(vocab_size=size, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=ffn,
                      num_attention_heads=hidden // 32, max_position_embeddings=128, hidden_dropout_prob=0.0,
                      attention_probs_dropout_prob=0.0)


@torch.no_grad()
def model(shape: BertConfig, table: np.ndarray | None, seed: int) -> BertModel:
    """A BertModel whose mean-pooled output is the bag of `table` [vocabulary, hidden - 1], but for small random layers."""
    torch.manual_seed(seed)
    bert = BertModel(shape, add_pooling_layer=False)
    if table is None:
        return bert
    length = np.linalg.norm(table, axis=1)
    scale = TYPICAL / np.median(length[length > np.median(length)])
    e = bert.embeddings
    e.word_embeddings.weight[:, 0] = 0
    e.word_embeddings.weight[:, 1:] = torch.from_numpy(table * scale)
    e.position_embeddings.weight.mul_(2.0)[:, 0] = 0
    e.token_type_embeddings.weight.zero_()[:, 0] = CONSTANT
    deviation = ((CONSTANT**2 + TYPICAL**2) / shape.hidden_size) ** 0.5
    norms = [e.LayerNorm]
    for layer in bert.encoder.layer:
        norms += [layer.attention.output.LayerNorm, layer.output.LayerNorm]
        for reads in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value, layer.intermediate.dense):
            torch.nn.init.normal_(reads.weight, std=0.06)
            reads.weight[:, 0] = 0
        for writes in (layer.attention.output.dense, layer.output.dense):
            torch.nn.init.normal_(writes.weight, std=0.01)
    for norm in norms:
        norm.weight.fill_(deviation)
        norm.weight[0] = CONSTANT / ((CONSTANT - CONSTANT / shape.hidden_size) / deviation)
        norm.bias.fill_(CONSTANT / shape.hidden_size)[0] = 0  # what subtracting the mean takes from the others
    norms[-1].weight[0] = 0  # the constant ends here
    return bert
