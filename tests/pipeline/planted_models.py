"""Models that need no training: a title's vector follows from its id, a member's is the mean of what was played."""

import numpy as np

DIM = 8


class First:
    model_id, dim, seed = "first", DIM, 0
    basis = np.eye(DIM)

    def _vectors(self, ids):
        rows = [np.random.default_rng([self.seed, int(one)]).normal(size=DIM) for one in ids]
        return np.array(rows).reshape(-1, DIM) * np.geomspace(2, 0.5, DIM)

    def encode_titles(self, titles):
        return (self._vectors(titles["title_id"].to_pylist()) @ self.basis).astype(np.float32)

    def encode_members(self, histories):
        means = [self._vectors(ids).mean(axis=0) for ids in histories["title_id"].to_pylist()]
        return (np.array(means).reshape(-1, DIM) @ np.linalg.inv(self.basis).T).astype(np.float32)


class Retrained(First):
    """The same scores in another basis."""

    model_id = "retrained"
    basis = np.random.default_rng(1).normal(size=(DIM, DIM))


class Unrelated(First):
    """What another lake would give."""

    model_id, seed = "unrelated", 1


class UnrelatedAgain(Unrelated):
    model_id = "unrelated-again"
    basis = np.random.default_rng(2).normal(size=(DIM, DIM))
