"""How near the answers come to the top of a ranking of all known titles, those seen before left out."""

import numpy as np
import torch

from embeddings.foundation.metrics import gains, of_vectors, rank
from embeddings.foundation.tasks.questions import Questions


def gain(members: torch.Tensor, titles: torch.Tensor, questions: Questions) -> float:
    """Mean of the `gains` over the questions asked: (asked, dim) vectors against (n, dim) ones.

    NDCG without a cut, as `metrics.Ranking.gain`.
    """
    everyone = np.zeros((len(questions.queries), titles.shape[1]), np.float32)
    everyone[questions.asked] = members.numpy()
    ranks = rank(of_vectors(everyone, titles.numpy()), questions.queries, len(titles)).ranks[questions.asked]
    return float(gains(ranks).mean()) if len(ranks) else 0.0
