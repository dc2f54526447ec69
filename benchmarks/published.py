"""Vectors that samespace published: of a live release, or of one made here with the commands that a user would give.

The catalogue is simulated and the training short, because what matters to an index is how vectors of a trained model
lie: members in another distribution than titles, energy falling along the canonical dimensions.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from retrieval.release_reader import read_embeddings
from stores.releases.workspace import Workspace
from stores.schema import EMBEDDING

STEPS = 300


def vectors(workspace: str | Path, members: int) -> tuple[np.ndarray, np.ndarray]:
    """Titles (n, 64) and some members (q, 64), float32, of the live release of a workspace."""
    release = Workspace.open(str(workspace)).current()
    titles, asked = (
        read_embeddings(kind.to_table(columns=[EMBEDDING]), "") for kind in (release.titles(), release.members())
    )
    return titles, asked[np.random.default_rng(0).permutation(len(asked))[:members]]


def published_anew(titles: int, members: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of a simulated service, after a short training and one night, in a folder that goes away again."""
    with tempfile.TemporaryDirectory() as folder:
        lake, workspace = f"{folder}/lake", f"{folder}/workspace"
        commands = (
            ("simulate", lake, "--members", members, "--titles", titles),
            ("train", "--lake", lake, "--workspace", workspace, *_set(f"train.training.max_steps={STEPS}")),
            ("nightly", "--lake", lake, "--workspace", workspace, "--as-of", "2026-01-02",
             *_set(f"index.exact_below={titles}")),  # which index is best is what will be measured
        )  # fmt: skip
        for command in commands:
            subprocess.run([sys.executable, "-m", "pipeline.cli", *map(str, command)], check=True, stdout=sys.stderr)
        return vectors(workspace, members)


def _set(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]
