"""Encoders of a user's own, for the workers of the encode job; each is loaded from a folder that it may write to."""

import os
import signal
import time
from pathlib import Path

import numpy as np


class Titles:
    """A member is the mean of its titles. Writes down on whom it was run."""

    model_id, dim = "titles", 4

    def __init__(self, folder):
        self.folder = Path(folder)

    @classmethod
    def load(cls, path):
        return cls(path)

    def encode_titles(self, titles):
        return np.stack([_vector(one) for one in titles["title_id"].to_pylist()]).astype(np.float32)

    def encode_members(self, histories):
        members = histories["member_id"].to_pylist()
        with (self.folder / "seen").open("a") as seen:
            seen.write("".join(f"{member}\n" for member in members))
        lists = histories["title_id"].to_pylist()
        return np.stack([np.mean([_vector(one) for one in ids], axis=0) for ids in lists]).astype(np.float32)


def _vector(title):
    return np.random.default_rng(title).normal(size=4)


class FailsOnSeven(Titles):
    def encode_members(self, histories):
        if 7 in histories["member_id"].to_pylist():
            raise RuntimeError("not this one")
        return super().encode_members(histories)


class DiesTwice(Titles):
    """Kills its process, as the kernel does when memory is short, the first two times it is run on members."""

    deaths = 2

    def encode_members(self, histories):
        if len(list(self.folder.glob("died-*"))) < self.deaths:
            (self.folder / f"died-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_members(histories)


class DiesAlways(DiesTwice):
    deaths = 10**6


class NeverStarts(Titles):
    """Cannot be loaded by any worker."""

    @classmethod
    def load(cls, path):
        (Path(path) / f"tried-{os.getpid()}-{time.monotonic_ns()}").touch()
        raise OSError("the weights are gone")


class Slow(Titles):
    """Takes long enough for something to happen meanwhile."""

    def encode_members(self, histories):
        time.sleep(0.5)
        return super().encode_members(histories)


class Another(Titles):
    model_id = "another"


class Tuned(Titles):
    """Has a fast precision whose vectors are off by a little."""

    fast_precision, error = "bf16", 1e-4

    def __init__(self, folder, precision="fp32"):
        super().__init__(folder)
        self.precision = precision

    def tuned(self, precision, device):
        assert device == "cpu"
        return type(self)(self.folder, precision)

    def encode_members(self, histories):
        exact = super().encode_members(histories)
        noise = np.stack([np.random.default_rng(len(str(row))).normal(size=4) for row in exact])
        return (exact + (self.precision == "bf16") * self.error * noise).astype(np.float32)


class Coarse(Tuned):
    error = 0.5
