"""What each stage has to reach, and where in a benchmark's result object that figure is."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """One promise: a figure of a stage's result, at `path`, that must be at least or at most `bar`."""

    stage: str
    promise: str
    path: str
    bar: float
    at_most: bool = False
    tried: tuple[str, ...] = ()
    """Headings of `docs/log.md` that say what was tried."""

    def reached(self, result: dict[str, Any]) -> float | None:
        """The figure; None where the result does not have it."""
        found: Any = result
        for name in self.path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return float(found) if isinstance(found, int | float) else None

    def met(self, figure: float) -> bool:
        """Whether a figure keeps the promise."""
        return figure <= self.bar if self.at_most else figure >= self.bar


TARGETS = (
    Target("encode", "of the floor (same model, tokens ready, ideal batches)", "ratio_floor", 0.85,
           tried=("The stage against its floor", "Texts as codes, end to end")),
    Target("encode", "times Ray Data's plain pipeline, 20,000 members", "ratios.ray_data", 3),
    Target("encode", "times Ray Data's plain pipeline, 200,000 members", "ratios.ray_data_large", 1.2),
    Target("encode", "times the plain padded fp32 forward pass", "quality.forward_ratio", 2),
    Target("incremental", "of a full night's encode and publish, 5 % active", "quality.share_of_full", 0.10, True,
           tried=("A start that nothing hides, and files that nobody waits for",
                  "The last second of a night with few active members",
                  "Members encoded into the space at once", "Reading only what changed")),
    Target("incremental", "of the processor time of the same", "quality.share_of_processor", 0.10, True,
           tried=("A start that nothing hides, and files that nobody waits for",
                  "Members encoded into the space at once")),
    Target("histories", "of a DuckDB scan of the lake", "ratio_floor", 0.5,
           tried=("Sorting all events, again", "A month's figures on a quiet machine")),
    Target("histories", "times the memory of half the members", "quality.memory_of_half", 1.1, True,
           tried=("A month's figures on a quiet machine",)),
    Target("alignment", "of the floor (one product, read and write)", "ratio_floor", 0.7,
           tried=("A start that nothing hides, and files that nobody waits for",
                  "A month's figures on a quiet machine")),
    Target("alignment", "times QR and SVD in memory", "ratios.numpy_qr", 10),
    Target("publish", "times `feast materialize`, Redis", "ratios.feast_materialize", 10),
    Target("publish", "of the floor, Redis", "ratio_floor", 0.7),
    Target("publish", "times `feast materialize`, SQLite", "quality.sqlite_ratio_feast_materialize", 5,
           tried=("SQLite: pages kept in memory, rows in the order of the key",)),
    Target("publish", "of the floor, SQLite", "quality.sqlite_ratio_floor", 0.6),
    Target("search", "times the best peer at recall@10 ≥ 0.99", "ratio_best_peer", 2,
           tried=("Finer efforts, and a perfect sample that proves nothing",
                  "Lists of titles learned from members", "In how few bits to read a list")),
    Target("search", "times the best peer at recall@10 ≥ 0.999", "quality.ratio_best_peer.q/s at 999 ‰", 1.5),
    Target("search", "of the best peer's build, trials included", "quality.build_of_best_peer", 1, True,
           tried=("Finer efforts, and a perfect sample that proves nothing",)),
    Target("candidates", "of the bare product", "ratio_floor", 0.6,
           tried=("Choosing 100 among 20,000 for everyone, with compiled loops",)),
    Target("candidates", "times FAISS Flat, over-fetching", "ratios.faiss_flat", 1.5),
    Target("commands", "s for `similar`, warm", "ours", 1.0, True),
    Target("commands", "s for `--help`", "quality.wall.--help", 0.3, True),
    Target("growth", "times the first size's peak memory at the last", "quality.memory_ratio", 1.1, True),
    Target("growth", "exponent of time in members", "quality.exponent", 1.05, True),
)  # fmt: skip
"""The table of targets, in the order of a night."""
