"""Guided heads: a cross-entropy between one head's weights and labelled keys.

loss = - mean over labelled queries of sum_k label[q, k] * log softmax(scores[q])[k]
"""

import torch

# block, layer, head. The coreference head sits in the last encoder layer: the layers below must first bring the predicate to the
# pronoun and the properties to the nouns. The alignment head sits in the last decoder layer, where the word is being decided.
HEADS = {"coreference": ("encoder", -1, 0), "syntax": ("encoder", -1, 1), "alignment": ("decoder_cross", -1, 0)}


def placed(name: str, shape) -> tuple[str, int, int]:
    block, layer, head = HEADS[name]
    count = shape.encoder_layers if block == "encoder" else shape.decoder_layers
    return block, layer % count, head


class Watch:
    """Handed to the model as `see`; keeps the scores of the guided heads."""

    def __init__(self, shape, names):
        self.want = {}
        for name in names:
            block, layer, head = placed(name, shape)
            self.want.setdefault((block, layer), []).append((name, head))
        self.scores: dict[str, torch.Tensor] = {}

    def __call__(self, block, layer, scores, weights):
        for name, head in self.want.get((block, layer), ()):
            self.scores[name] = scores[:, head]

    def loss(self, name: str, rows) -> torch.Tensor:
        n, q, k, weight, count = rows
        device = self.scores[name].device
        logs = torch.log_softmax(self.scores[name].float(), -1)
        return -(logs[n.to(device), q.to(device), k.to(device)] * weight.to(device)).sum() / count
