"""Ablation: what each optional part of the foundation model is worth, on the slice that it is for.

Every variant trains on the same part of a lake (time split: all before a date), in as many steps, and answers
the same questions. Columns: HR@10 of fresh vectors and of vectors that are 48 hours old; of titles that nobody had
played (`cold`); of what was watched through; how often the best genre of the head is one of the next title's; and, on a
simulated lake, how many of the 20 unseen titles that a member would truly like best (planted taste and quality,
whatever was shown) are among the model's 20 best, and how many of the ten nearest titles of an unplayed title
share its planted cluster, relative to played ones.

    python benchmarks/ablation.py --out ablation.json            # on a small service of its own
    python benchmarks/ablation.py --lake LAKE --only default future_window --steps 1000
"""

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.exposure import with_propensity
from embeddings.foundation import FoundationEncoder, train
from embeddings.foundation.config import FoundationConfig, NetworkConfig, TrainingConfig
from embeddings.foundation.metrics import of_vectors, rank
from embeddings.foundation.protocols import Exam, time_split
from embeddings.foundation.queries import Events, counts
from embeddings.histories import HistoriesConfig, read_histories
from stores import columns
from stores.lake.contract import Lake
from stores.lake.simulate import SimulationConfig, simulate

SERVICE = SimulationConfig(
    members=500, titles=240, days=60, clusters=8, sessions_per_day=0.6, launching_share=0.35, seed=1
)
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "sampled_64": {"training": {"full_softmax_titles": 0, "negatives": 64}},
    "no_time_bias": {"network": {"time_bias": False}},
    "no_metadata": {"network": {"metadata": False, "content": False}},
    "no_content": {"network": {"content": False}},
    "no_spectral_start": {"training": {"spectral_start": False}},
    "no_stand_in": {"training": {"stand_in": 0.0}},
    "auxiliary": {"training": {"auxiliary": 0.2}},
    "hierarchical": {"network": {"hierarchical": True}},
    "future_window": {"training": {"future_share": 0.3, "future_hours": (0.0, 72.0)}},
    "no_engagement_weights": {"training": {"engagement_weights": False}},
    "exposure_weights": {"training": {"exposure_clip": 5.0}},
    "short_window": {"network": {"length": 16}},
    "short_window_latents": {"network": {"length": 16, "latents": 4}},
    "no_merging": {"histories": {"merge_gap_minutes": 0.0}},
}
TASTES, LIKED, NEAREST = 1.2, 20, 10
"""Weight of a title's quality beside the logarithm of the taste, as simulated; titles truly liked; neighbours."""


def config_of(variant: dict[str, dict[str, Any]], steps: int) -> FoundationConfig:
    """The default with a variant's changes and a fixed number of steps."""
    training = {"min_steps": steps, "max_steps": steps, **variant.get("training", {})}
    return FoundationConfig(network=NetworkConfig(**variant.get("network", {})), training=TrainingConfig(**training))


def exam_of(lake: Lake, variant: dict[str, dict[str, Any]], test_share: float) -> Exam:
    """The questions of a time split of the lake; histories carry what was shown."""
    config, now = HistoriesConfig(**variant.get("histories", {})), datetime.now(UTC)
    histories, catalogue = read_histories(lake, now, config)
    return time_split(with_propensity(histories, lake, now, config.scan), catalogue, test_share=test_share)


def watched_through(exam: Exam) -> np.ndarray:
    """Which questions' answers were watched to four fifths at least."""
    duration = exam.histories[columns.DURATION].combine_chunks().flatten().to_numpy(zero_copy_only=False)[exam.asked]
    runtime = exam.candidates["runtime_s"].to_numpy(zero_copy_only=False)[exam.queries.targets]
    return np.nan_to_num(duration) >= 0.8 * np.where(runtime > 0, runtime, np.inf)


def genre_hits(exam: Exam, encoder: FoundationEncoder) -> float:
    """How often the genre that the head puts first is one of the answer's."""
    first = [
        genres[0] if genres else None for genres in encoder.preferences(exam.queries.histories)["genres"].to_pylist()
    ]
    genres = exam.candidates["genres"].to_pylist()
    return float(np.mean([one in (genres[t] or ()) for one, t in zip(first, exam.queries.targets, strict=True)]))


def true_tastes(truth: Path, exam: Exam, scores: np.ndarray) -> float:
    """Of the titles that a member would truly like best, unseen and launched, the share among the model's best."""
    members, titles = (pq.read_table(truth / f"{name}.parquet") for name in ("members", "titles"))
    rows = pc.index_in(exam.part[columns.MEMBER_ID], members[columns.MEMBER_ID].combine_chunks()).to_numpy()
    known = titles.take(pc.index_in(exam.title_ids, titles[columns.TITLE_ID].combine_chunks()))
    taste = np.array(members["taste_end"].to_pylist())[rows][:, known["cluster"].to_numpy()]
    liked = np.log(taste) + TASTES * known["quality"].to_numpy()
    events, barred = Events.of(exam.part, exam.title_ids), np.zeros(liked.shape, bool)
    barred[events.owner, events.titles] = True
    barred[:, exam.candidates["age_days"].to_numpy() < 0] = True
    best, found = (np.argsort(-np.where(barred, -np.inf, values), axis=1)[:, :LIKED] for values in (liked, scores))
    return float(np.mean([len(np.intersect1d(a, b)) / LIKED for a, b in zip(best, found, strict=True)]))


def cold_neighbours(truth: Path, exam: Exam, titles: np.ndarray) -> float:
    """The share of same-cluster titles among the nearest of unplayed titles, relative to that of played ones."""
    table = pq.read_table(truth / "titles.parquet")
    cluster = table["cluster"].to_numpy()[
        pc.index_in(exam.title_ids, table[columns.TITLE_ID].combine_chunks()).to_numpy()
    ]
    likeness = titles @ titles.T
    np.fill_diagonal(likeness, -np.inf)
    alike = (cluster[np.argsort(-likeness, axis=1)[:, :NEAREST]] == cluster[:, None]).mean(axis=1)
    unplayed = counts(exam.part, exam.title_ids) == 0
    return float(alike[unplayed].mean() / alike[~unplayed].mean()) if unplayed.any() else float("nan")


def measure(exam: Exam, encoder: FoundationEncoder, truth: Path) -> dict[str, float]:
    """All columns of one variant."""
    titles = encoder.encode_titles(exam.candidates)
    fresh, old = (
        rank(of_vectors(encoder.encode_members(queries.histories), titles), queries, len(titles))
        for queries in (exam.queries, exam.stale(48 * 3600))
    )
    found = {"fresh": fresh.metrics()["hr@10"], "ndcg": fresh.metrics()["ndcg@10"], "48h": old.metrics()["hr@10"]}
    found["cold"] = fresh.metrics(exam.slices["cold_titles"])["hr@10"]
    found["through"] = fresh.metrics(watched_through(exam))["hr@10"]
    found["genre"] = genre_hits(exam, encoder)
    if truth.exists():
        found["tastes"] = true_tastes(truth, exam, encoder.encode_members(exam.part) @ titles.T)
        found["neighbours"] = cold_neighbours(truth, exam, titles)
    return found


def main() -> None:
    """Train and measure every variant; one line of figures each as it is done, JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", help="a folder; default: a small simulated service")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test-share", type=float, default=0.3)
    parser.add_argument("--out", help="also write the figures there, as JSON")
    args = parser.parse_args()
    figures: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = args.lake or f"{folder}/lake"
        if not args.lake:
            simulate(path, SERVICE)
        usual = exam_of(Lake.open(path), {}, args.test_share)
        for name in args.only:
            other = "histories" in VARIANTS[name]
            exam = exam_of(Lake.open(path), VARIANTS[name], args.test_share) if other else usual
            for seed in range(args.seeds):
                begun, config = time.monotonic(), config_of(VARIANTS[name], args.steps)
                model = train(exam.part, exam.catalogue, config, seed, f"{folder}/{name}{seed}")
                found = measure(exam, FoundationEncoder.load(model.path), Path(path) / "_truth")
                found["seconds"] = time.monotonic() - begun
                figures.setdefault(name, []).append(found)
                print(name, " ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
