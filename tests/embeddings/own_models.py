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
    """Kills its process, as the kernel does when memory is short, the first two times it is run on some members.

    They are not in the first shard, on which the encoder is probed.
    """

    deaths = 2

    def encode_members(self, histories):
        deadly = any(member % 3 for member in histories["member_id"].to_pylist())
        if deadly and len(list(self.folder.glob("died-*"))) < self.deaths:
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

    def with_precision(self, precision, device):
        assert device == "cpu"
        return type(self)(self.folder, precision)

    def encode_members(self, histories):
        exact = super().encode_members(histories)
        noise = np.stack([np.random.default_rng(len(str(row))).normal(size=4) for row in exact])
        return (exact + (self.precision == "bf16") * self.error * noise).astype(np.float32)


class Coarse(Tuned):
    error = 0.5


# --- what may come back from an encoder


class Wide(Titles):
    """Its members are wider than `dim`."""

    def encode_members(self, histories):
        return np.repeat(super().encode_members(histories), 2, axis=1)


class WideTitles(Titles):
    def encode_titles(self, titles):
        return np.ones((len(titles), 5), np.float32)


class Complex(Titles):
    def encode_titles(self, titles):
        return super().encode_titles(titles) * 1j


class NotFinite(Titles):
    """Vectors of 7 that float32 cannot hold, of 8 that are no number."""

    def encode_members(self, histories):
        found = super().encode_members(histories).astype(np.float64)
        members = np.array(histories["member_id"].to_pylist())
        return np.where(members[:, None] == 7, 1e300, np.where(members[:, None] == 8, np.nan, found))


class Buffered(Titles):
    """Answers in double precision, backwards in memory, in a buffer that the next call fills anew."""

    buffer = np.zeros((64, 4))

    def encode_members(self, histories):
        found = super().encode_members(histories)
        self.buffer[: len(found)] = found[::-1]
        answer = self.buffer[: len(found)][::-1]
        answer.flags.writeable = False
        return answer


class Draws(Titles):
    """Forgot to switch off dropout."""

    share = 0.2

    def encode_members(self, histories):
        found = super().encode_members(histories)
        return (found * (1 + self.share * np.random.default_rng().normal(size=found.shape))).astype(np.float32)


class Wavers(Draws):
    """Rounds differently each time."""

    share = 1e-4


class Centred(Titles):
    """A member lies where it does by who else is encoded."""

    def encode_members(self, histories):
        found = super().encode_members(histories)
        return found - found.mean(axis=0)


class DrawsTitles(Titles):
    def encode_titles(self, titles):
        return super().encode_titles(titles) + np.random.default_rng().normal(size=(len(titles), 4))


class Wider(Titles):
    """Trained anew and wider, under the old id."""

    dim = 5

    def encode_titles(self, titles):
        return np.pad(super().encode_titles(titles), ((0, 0), (0, 1)), constant_values=1)

    def encode_members(self, histories):
        return np.pad(super().encode_members(histories), ((0, 0), (0, 1)), constant_values=1)


class Retrained(Titles):
    """Trained anew under the old id."""

    def encode_members(self, histories):
        return super().encode_members(histories)[:, ::-1]


class Placed(Titles):
    """Writes down on which device it was loaded."""

    @classmethod
    def load(cls, path, device="nowhere"):
        (Path(path) / "device").write_text(device)
        return cls(path)
