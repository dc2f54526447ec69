

OWN_ENCODER = """
from importlib import import_module

import numpy as np

for name in ("pipeline", "retrieval", "stores", "validation"):
    assert import_module(name).OWN == name


def vector(title):
    return np.random.default_rng(int(title)).normal(size=8)


class Mine:
    model_id, dim = "mine-1", 8

    def encode_titles(self, titles):
        return np.stack([vector(one) for one in titles["title_id"].to_pylist()]).astype(np.float32)

    def encode_members(self, histories):
        lists = histories["title_id"].to_pylist()
        return np.stack([np.mean([vector(one) for one in ids], axis=0) for ids in lists]).astype(np.float32)
"""


def test_an_encoder_of_the_user_runs_beside_packages_named_as_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_ENCODER, encoding="utf-8")
    made = run("samespace", "simulate", "lake", "--members", "120", "--titles", "80", "--days", "20")
    assert made.returncode == 0, made.stderr
    words = ["--lake", "lake", "--workspace", "ws", "--json", "--set", "encode.encoder=own:Mine"]
    night = run("python", "-m", "samespace", "nightly", *words, "--set", "gate.quality.min_ratio_to_popularity=0")
    assert night.returncode in (0, 4), night.stderr  # a random encoder need not pass every gate
    assert json.loads(night.stdout)["model_id"] == "mine-1"
