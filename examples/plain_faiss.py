"""Candidates with plain Feast and plain FAISS: nothing of samespace is imported.

    python examples/plain_faiss.py --workspace ws --members 1 2 3

Vectors come from Feast's online store, titles from the index of the release that is live. Both say which space they are
of; an index and a vector of two spaces must never meet.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
from feast import FeatureStore


def live_index(workspace: Path) -> tuple[Any, list[Any], dict[str, Any]]:
    """The live release's index, the title of each of its rows, and the pointer that names it."""
    pointer = json.loads((workspace / "current.json").read_text(encoding="utf-8"))
    folder = workspace / "releases" / pointer["release_id"] / "index"
    ids = pq.read_table(folder / "ids.parquet")["title_id"].to_pylist()
    return faiss.read_index(str(folder / "candidates.faiss")), ids, pointer


def vectors(workspace: Path, members: list[int], space_id: str) -> np.ndarray:
    """Published vectors of members, (n, d) float32; one space only, and no member that is not there."""
    store = FeatureStore(repo_path=str(workspace / "feast"))
    suffix = "" if space_id == "1" else f"_s{space_id}"
    found = store.get_online_features(
        features=[f"member_embedding{suffix}:embedding", f"member_embedding{suffix}:space_id"],
        entity_rows=[{"member_id": member} for member in members],
    ).to_dict()
    missing = [member for member, vector in zip(members, found["embedding"], strict=True) if vector is None]
    if missing:
        raise SystemExit(f"not in the online store: {missing}")
    if {str(space) for space in found["space_id"]} != {space_id}:
        raise SystemExit(f"vectors of spaces {set(found['space_id'])}, an index of space {space_id}")
    return np.array(found["embedding"], np.float32)


def candidates(workspace: Path, members: list[int], k: int) -> dict[int, list[tuple[Any, float]]]:
    """The k best titles of each member, best first, with their inner products."""
    index, ids, pointer = live_index(workspace)
    scores, rows = index.search(vectors(workspace, members, pointer["space_id"]), k)
    return {
        member: [(ids[row], float(score)) for row, score in zip(rows[place], scores[place], strict=True) if row >= 0]
        for place, member in enumerate(members)
    }


def main() -> None:
    """Print the titles of each member."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--members", type=int, nargs="+", required=True)
    parser.add_argument("-k", type=int, default=10)
    args = parser.parse_args()
    for member, titles in candidates(args.workspace, args.members, args.k).items():
        print(f"member {member}: " + ", ".join(f"{title} ({score:.2f})" for title, score in titles))


if __name__ == "__main__":
    main()
