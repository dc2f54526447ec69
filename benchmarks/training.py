"""Training: our default against a plain PyTorch SASRec of the same width, depth, heads and length.

The peer is what one finds in most repositories: tied title embeddings, learned places, pre-norm blocks,
cross-entropy over all titles, Adam at 1e-3, batches of 128 windows padded to one length, a pass over every
window an epoch. Both learn from the same tokens on the same threads and answer the same leave-one-out
questions (full ranking, seen titles left out). Reported are real tokens per second, padding not
counted, and the quality of each after `--seconds` of training at most. The floors are popularity and item-kNN.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/training.py LAKE --seconds 300
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import FoundationConfig, NetworkConfig
from embeddings.foundation.evaluation import train_and_evaluate
from embeddings.foundation.lesson import Lesson
from embeddings.foundation.metrics import Ranking, of_vectors, rank
from embeddings.foundation.protocols import Exam, leave_one_out
from embeddings.foundation.queries import Queries
from embeddings.foundation.tokens import Tokens
from embeddings.histories import HistoriesConfig, read_histories
from stores.lake.contract import Lake

BATCH, RATE, PATIENCE = 128, 1e-3, 10


class SASRec(nn.Module):
    """Kang and McAuley 2018, pre-norm, with the softmax loss of Klenitskiy and Vasilev 2023."""

    def __init__(self, config: NetworkConfig, titles: int, length: int) -> None:
        super().__init__()
        self.titles = nn.Embedding(titles + 1, config.width, padding_idx=0)
        self.places = nn.Embedding(length, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.width, config.dropout, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, config.blocks, nn.LayerNorm(config.width), enable_nested_tensor=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.titles.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, titles: torch.Tensor) -> torch.Tensor:
        """(b, l) rows, padded on the right, to (b, l, width)."""
        length = titles.shape[1]
        x = self.dropout(self.titles(titles) + self.places.weight[:length])
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        return self.body(x, mask=later)


def windows(tokens: Tokens, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the inputs and of the targets, (windows, length): every history in pieces, padded with 0."""
    inputs, targets = [], []
    for start, count in zip(tokens.starts[:-1], tokens.lengths, strict=True):
        history = np.maximum(tokens.targets[start : start + count], 0)
        for end in range(len(history), 1, -length):
            piece = history[max(0, end - length - 1) : end]
            pad = length + 1 - len(piece)
            inputs.append(np.pad(piece[:-1], (0, pad)))
            targets.append(np.pad(piece[1:], (0, pad)))
    return np.stack(inputs), np.stack(targets)


def batches(inputs: np.ndarray, targets: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Epoch after epoch."""
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(inputs))
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            yield torch.from_numpy(inputs[rows]), torch.from_numpy(targets[rows])


@torch.no_grad()
def answers(model: SASRec, lesson: Lesson, queries: Queries, title_ids: pa.Array) -> Ranking:
    """How the peer ranks titles; those that it never met come last."""
    model.eval()
    tokens, length, vectors = Tokens.of(queries.histories, lesson.vocabulary), model.places.num_embeddings, []
    for start, count in zip(tokens.starts[:-1], tokens.lengths, strict=True):
        history = np.maximum(tokens.targets[start : start + count], 0)[-length:]
        vectors.append(model(torch.from_numpy(history)[None, :])[0, -1])
    rows = torch.from_numpy(lesson.vocabulary.rows(title_ids))
    unknown = (rows == 0).float()[:, None] * -1e9
    titles = torch.cat([model.titles.weight[rows], unknown], dim=1).numpy()
    members = torch.cat([torch.stack(vectors), torch.ones(len(vectors), 1)], dim=1).numpy()
    model.train()
    return rank(of_vectors(members, titles), queries, len(titles))


def step(model: SASRec, optimiser: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor) -> int:
    """One step of the plain loop; how many real tokens it learned from."""
    asked = targets > 0
    scores = model(inputs)[asked] @ model.titles.weight[1:].T
    loss = functional.cross_entropy(scores, targets[asked] - 1)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return int(asked.sum())


def run_peer(exam: Exam, lesson: Lesson, config: NetworkConfig, length: int, seconds: float) -> dict[str, Any]:
    """Train for so long, or until validation no longer improves; keep the best; answer the exam's questions."""
    torch.manual_seed(0)
    model = SASRec(config, len(lesson.vocabulary.title_ids), length)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.98))
    inputs, targets = windows(lesson.tokens, length)
    per_epoch = -(-len(inputs) // BATCH)
    best, kept, worse, seen, spent, done = 0.0, copy.deepcopy(model.state_dict()), 0, 0, 0.0, 0
    for batch in batches(inputs, targets):
        begun = time.monotonic()
        seen += step(model, optimiser, *batch)
        spent, done = spent + time.monotonic() - begun, done + 1
        if done % max(per_epoch, 20) == 0 or spent > seconds:
            gain, worse = answers(model, lesson, lesson.queries, lesson.vocabulary.title_ids).gain(), worse + 1
            if gain > best:
                best, kept, worse = gain, copy.deepcopy(model.state_dict()), 0
            if spent > seconds or worse >= PATIENCE:
                break
    model.load_state_dict(kept)
    found = answers(model, lesson, exam.queries, exam.title_ids).metrics()
    return {**found, "tokens_per_second": seen / spent, "seconds": spent, "epochs": done / per_epoch}


def main() -> None:
    """Read the lake, run both, print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake")
    parser.add_argument("--seconds", type=float, default=300.0, help="time of the peer's training at most")
    parser.add_argument("--only-peer", action="store_true", help="leave our own training out")
    args = parser.parse_args()
    data = read_histories(Lake.open(args.lake), datetime.now(UTC), HistoriesConfig())
    config, exam = FoundationConfig(), leave_one_out(*data)
    lesson = Lesson.of(exam.part, exam.catalogue, config, seed=0)
    length = lesson.model(config).length
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "length": length}
    result["sasrec"] = run_peer(exam, lesson, config.network, length, args.seconds)
    print(json.dumps(result), flush=True)
    if not args.only_peer:
        ours = train_and_evaluate(*data, config)
        training, floors = ours["training"], ours["baselines"]
        result["ours"] = {name: ours[name] for name in ("hr@10", "ndcg@10", "coverage@10")}
        result["ours"] |= {name: training[name] for name in ("tokens_per_second", "seconds", "steps", "best_step")}
        result["floors"] = floors
        result["speed"] = result["ours"]["tokens_per_second"] / result["sasrec"]["tokens_per_second"]
        print(json.dumps(result))


if __name__ == "__main__":
    main()
