"""What the student is taught, for a batch of pairs: e, z [batch, dim] the student's vectors of the English and Chinese sides,
t [batch, dim] the teacher's vector of the English side; all of unit length.

distance      1 − cos(e, t) + 1 − cos(z, t)
distribution  cross-entropy of softmax(a·bᵀ/τ) against softmax(t·tᵀ/τ), over (a, b) = (e, t), (z, t), (z, e), (e, z)
answers       the same between questions q and titles u that name the topics of a batch, one of each a topic, in whatever languages:
              softmax(q·uᵀ/τ) and softmax(u·qᵀ/τ) against softmax(c·cᵀ/τ), c the teacher's vectors of the bare topics

The distribution is InfoNCE whose targets come from the teacher: another pair of the batch that means the same is no negative.
The answers are what a search is for: a title is near a question because of its topic, not because both speak of books.
"""

TEMPERATURE = 0.05


def distance(e, z, t):
    return 2 - (e * t).sum(1).mean() - (z * t).sum(1).mean()


def alike(t, *sides):
    """Mean cross-entropy of the similarities a·bᵀ of every (a, b) against the teacher's t·tᵀ."""
    target = (t @ t.T / TEMPERATURE).softmax(1)
    return sum(-(target * (a @ b.T / TEMPERATURE).log_softmax(1)).sum(1).mean() for a, b in sides) / len(sides)


def distribution(e, z, t):
    return alike(t, (e, t), (z, t), (z, e), (e, z))


def answers(q, u, c):
    return alike(c, (q, u), (u, q))
