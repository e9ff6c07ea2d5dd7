"""What the student is taught, for a batch of pairs: e, z [batch, dim] the student's vectors of the English and Chinese sides,
t [batch, dim] the teacher's vector of the English side; all of unit length.

distance      1 − cos(e, t) + 1 − cos(z, t)
distribution  cross-entropy of softmax(a·bᵀ/τ) against softmax(t·tᵀ/τ), over (a, b) = (e, t), (z, t), (z, e), (e, z)

The distribution is InfoNCE whose targets come from the teacher: another pair of the batch that means the same is no negative.
"""

TEMPERATURE = 0.05


def distance(e, z, t):
    return 2 - (e * t).sum(1).mean() - (z * t).sum(1).mean()


def distribution(e, z, t):
    target = (t @ t.T / TEMPERATURE).softmax(1)
    return sum(-(target * (a @ b.T / TEMPERATURE).log_softmax(1)).sum(1).mean() for a, b in ((e, t), (z, t), (z, e), (e, z))) / 4
