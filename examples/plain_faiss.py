"""Candidates with plain Feast and plain FAISS: nothing of samespace is imported.

    python examples/plain_faiss.py --workspace ws                    # of the first three members
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
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

SHOWN = 3


def live_release(workspace: Path) -> tuple[Path, str]:
    """The folder of the live release and the space of its vectors."""
    pointer = json.loads((workspace / "current.json").read_text(encoding="utf-8"))
    return workspace / "releases" / pointer["release_id"], pointer["space_id"]


def members_of(release: Path, asked: list[str]) -> list[Any]:
    """Member ids as the release has them: those asked for, or the first few. Ids are whole numbers or text."""
    first = sorted((release / "members").glob("*.parquet"))[0]
    ids = pq.read_table(first, columns=["member_id"])["member_id"]
    if not asked:
        return ids[:SHOWN].to_pylist()
    return [int(member) for member in asked] if pa.types.is_integer(ids.type) else asked


def vectors(workspace: Path, members: list[Any], space_id: str) -> np.ndarray:
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


def candidates(release: Path, queries: np.ndarray, k: int) -> list[list[tuple[Any, float]]]:
    """The k best titles for each query, best first, with their inner products."""
    index = faiss.read_index(str(release / "index" / "candidates.faiss"))
    ids = pq.read_table(release / "index" / "ids.parquet")["title_id"].to_pylist()
    scores, rows = index.search(queries, k)
    found = zip(rows, scores, strict=True)
    return [[(ids[row], float(score)) for row, score in zip(*one, strict=True) if row >= 0] for one in found]


def main() -> None:
    """Print the titles of each member."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--members", nargs="+", default=[], metavar="ID", help="member ids (default: the first few)")
    parser.add_argument("-k", type=int, default=10, help="how many titles (default: 10)")
    args = parser.parse_args()
    release, space_id = live_release(args.workspace)
    members = members_of(release, args.members)
    for member, titles in zip(
        members, candidates(release, vectors(args.workspace, members, space_id), args.k), strict=True
    ):
        print(f"member {member}: " + ", ".join(f"{title} ({score:.2f})" for title, score in titles))


if __name__ == "__main__":
    main()
