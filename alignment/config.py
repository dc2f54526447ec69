"""Settings of the alignment, each threshold with its reason."""

from typing import Literal

from pydantic import Field

from stores.settings import Settings


class AcceptanceConfig(Settings):
    """Thresholds on held-out anchors. `docs/log.md` has the figures of real retrains that they come from."""

    min_held_out: int = Field(default=10, ge=2)
    """Fewer held-out anchors measure nothing: a median of nine is moved by two."""

    refuse_identification: float = Field(default=0.75, ge=0.5, le=1)
    """Chance that an anchor's aligned vector is nearer to its own reference than to another anchor's. Shuffled ids and
    unrelated models give 0.5 within 0.05 (up to 0.74 if they are judged by the anchors of the fit), real retrains
    0.92 and more; below this the ids or the model are wrong."""

    same_identification: float = Field(default=0.85, ge=0.5, le=1)
    """Below this an anchor is mistaken for one in seven others: consumers would read other titles' meaning."""

    same_cosine_p50: float = Field(default=0.2, ge=-1, le=1)
    """Retrains of sparse real data agree only moderately on single titles (0.41 measured with 64 dimensions on 90k
    ratings) although their scores agree and mixed releases recommend as well; unaligned ones measure 0.01."""

    same_correlation: float = Field(default=0.2, ge=-1, le=1)
    """Energy-weighted correlation of dimensions, what a consumer's coefficient still means: 0.40 for the same real
    retrains, 0.02 unaligned."""

    same_score_correlation: float = Field(default=0.5, ge=-1, le=1)
    """Scores of today's members with the reference's titles against those with today's: 0.73 for the same real
    retrains, 0.09 unaligned, 0.00 with shuffled ids. A mixed release lives by it."""

    same_scale: float = Field(default=3.0, ge=1)
    """Typical norm against the reference's, as a factor either way: beyond it, learnt thresholds on scores break."""

    same_moved_share: float = Field(default=0.4, ge=0, le=1)
    """Share of titles that moved by much more than the typical one. The fit stands 30 % of them; near half it
    cannot tell who moved and who stayed."""

    same_undetermined: float = Field(default=0.01, ge=0, le=1)
    """Share of the energy in directions where the anchors leave the rotation open."""

    max_score_error: float = Field(default=1e-4, gt=0)
    """Largest change of a score through the maps of a lossless transform, relative to the largest score. float32
    storage gives 1e-6; more means that the maps are numerically broken."""


class AlignmentConfig(Settings):
    """How native vectors are mapped onto the space."""

    mode: Literal["canonical", "orthogonal", "off"] = "canonical"
    """`canonical` keeps scores; `orthogonal` norms and cosines too, but it only undoes a rotation; `off` changes
    nothing."""

    rank: int | None = Field(default=None, ge=1)
    """Published width of a new space; None is the model's. An existing space keeps its own width."""

    ridge: float = Field(default=1e-12, gt=0)
    """Share of the mean energy below which an eigenvalue counts as lost; 1e-6 would cost 8e-3 at condition 1e3."""

    residual_floor: float = Field(default=0.02, gt=0)
    """Residuals below this count alike in the reweighting, so that no single anchor decides."""

    moved_residual: float = Field(default=0.3, gt=0)
    """An anchor has moved if its residual (of unit vectors; 0.3 is a cosine of 0.955) exceeds this …"""

    moved_factor: float = Field(default=3.0, ge=1)
    """… and this many times the median residual: in a noisy retrain everything is 0.7 off, and nothing is news."""

    min_plays: int = Field(default=5, ge=0)
    """Titles with fewer plays are transformed but never fitted: their vectors are mostly noise."""

    popularity: float = Field(default=0.5, ge=0, le=1)
    """Titles count by plays to this power, in their second moment and as anchors: the noise of a vector falls with
    plays, and scores matter where plays are. 1 would leave the rotation of a skewed catalogue to a few dozen titles."""

    min_history: int = Field(default=5, ge=0)
    """Members with a shorter history are transformed but never fitted."""

    member_anchors: int = Field(default=20_000, ge=0)
    """Members sampled as anchors and for measuring, of whom those count whose history is the one that the space was
    opened with; the sampling error of a rotation is small long before."""

    moment_members: int = Field(default=1_000_000, ge=1)
    """Members whose vectors enter the second moment, whole shards of them: a shard is random by id and the same
    every night. A million leave an error of a tenth of a percent; scores stay exact with any of them."""

    acceptance: AcceptanceConfig = AcceptanceConfig()
