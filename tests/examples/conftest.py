"""The examples as modules, a small MovieLens folder of planted tastes, and an encoder that knows them.

The encoder stands for a perfect model that is trained again every night: the same tastes, each night under another
invertible map that leaves all scores as they are, and a little noise. Training itself is tested elsewhere.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MEMBERS, TITLES, PLAYS, TASTES = 240, 120, 40, 8


@pytest.fixture(scope="session")
def tastes() -> tuple[np.ndarray, np.ndarray]:
    """Directions of members (240, 8) and of titles (120, 8); ids are their rows + 1."""
    draws = np.random.default_rng(0)
    return draws.standard_normal((MEMBERS, TASTES)), draws.standard_normal((TITLES, TASTES))


@pytest.fixture(scope="session")
def small_movielens(tastes, tmp_path_factory) -> str:
    """Everyone rates a title a day, mostly what lies the way of their taste."""
    folder, draws = tmp_path_factory.mktemp("ml-small"), np.random.default_rng(1)
    members, titles = tastes
    lines = ["userId,movieId,rating,timestamp"]
    for member, taste in enumerate(members):
        chance = np.exp(titles @ taste)
        watched = draws.choice(TITLES, PLAYS, replace=False, p=chance / chance.sum())
        start = 1_000_000_000 + int(draws.integers(0, 86_400))
        lines += [f"{member + 1},{title + 1},4.0,{start + 86_400 * day}" for day, title in enumerate(watched)]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    names = [f"{title + 1},Title {title + 1} (1999),Drama" for title in range(TITLES)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *names]) + "\n")
    return str(folder)


@pytest.fixture
def retrained_every_night(tastes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nights of the examples come from the perfect encoder."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    import ten_nights

    def encode(questions, seed, models):
        draws = np.random.default_rng(seed)
        turn = draws.standard_normal((TASTES, TASTES))
        rows = [questions.histories["member_id"].to_numpy() - 1, questions.catalogue["title_id"].to_numpy() - 1]
        noisy = [
            side[row] + 0.1 * draws.standard_normal((len(row), TASTES)) for side, row in zip(tastes, rows, strict=True)
        ]
        return (noisy[0] @ turn).astype(np.float32), (noisy[1] @ np.linalg.inv(turn).T).astype(np.float32)

    monkeypatch.setattr(ten_nights, "encode", encode)
