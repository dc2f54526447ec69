"""Every threshold of the gate, each with its reason, in one place.

Shares and cosines are in [0, 1] and [−1, 1]; ratios compare tonight with an earlier release. Failing
at the level *hold* keeps a release from going live, at the level *warn* it only shows in the report.
"""

from typing import Annotated

from pydantic import ConfigDict, Field

from stores.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Ratio = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[float, Field(ge=1)]
Count = Annotated[int, Field(ge=1)]


class Thresholds(Settings):
    """A group of thresholds; the docstring of each is its reason, which every answer of the gate repeats."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    def why(self, name: str) -> str:
        """The reason of a threshold, to stand within a sentence."""
        text = str(type(self).model_fields[name].description).rstrip(".")
        return text[0].lower() + text[1:]


class InputThresholds(Thresholds):
    """What the night's input must look like beside the last nights'."""

    warn_bad_fraction: Share = 0.01
    """An ordinary feed refuses fewer; somebody should look. (`histories.max_bad_fraction` stops the night.)"""
    min_members_ratio: Ratio = 0.9
    """Members do not leave by the tenth in a night; a part is missing."""
    min_titles_ratio: Ratio = 0.9
    """A catalogue does not lose a tenth in a night; a part is missing."""
    min_events_ratio: Ratio = 0.9
    """Events accumulate; fewer than before means a partition is missing."""
    max_events_ratio: Positive = 2.0
    """History doubling overnight means a feed delivered twice."""
    max_growth_ratio: Positive = 5.0
    """A premiere triples a day's events; five times is a repeated feed."""
    min_growth_ratio: Ratio = 0.2
    """The quietest day still has a fifth of the median day's events."""
    growth_nights: Count = 3
    """Fewer nights than this give no median worth comparing with."""
    max_event_age_days: Positive = 7.0
    """A live feed is days behind at most; archives are older and only warn."""


class VectorThresholds(Thresholds):
    """What a table of vectors must look like."""

    min_coverage: Share = 0.995
    """The encoder may give up on a few members, never on a shard."""
    min_agreement: Share = 1.0
    """A vector of another history or title belongs to another."""
    max_duplicate_share: Share = 0.8
    """Short equal histories and titles without plays share vectors; nearly all of them never do."""
    min_effective_rank: AtLeastOne = 1.1
    """One direction measures 1.0; a space in which popularity has nine tenths of the energy still 1.4."""
    min_rank_ratio: Ratio = 0.5
    """Half of yesterday's effective rank is lost structure."""
    max_norm_ratio: AtLeastOne = 10.0
    """The median norm of the same space moves by percents, not tenfold."""
    max_zero_share: Share = 0.05
    """A zero vector scores every title alike; only what a model has never met may have one."""
    min_fresh_share: Share = 0.9
    """A new model gives new vectors; old ones are leftovers."""
    small_table: Count = 20
    """Below this many rows rank and duplicates say nothing."""


class AlignmentThresholds(Thresholds):
    """Figures on anchors that were not fitted. The alignment's own verdict holds a release; these only warn."""

    warn_heldout_p50: Cosine = 0.6
    """Retrains of one model on sparse real data measure 0.5 to 0.99; lower ones are worth a look."""
    warn_heldout_p5: Cosine = 0.0
    """Even the worst twentieth of titles, mostly young ones, point more towards their old place than away."""


class QualityThresholds(Thresholds):
    """How good the model must be at the next title."""

    min_ratio_to_popularity: Ratio = 0.9
    """A model below popularity is not worth its vectors; a tenth is the sampling error of a thousand questions."""
    warn_ratio_to_popularity: Ratio = 1.0
    """A model that was trained finds more than the same titles for everyone."""


class DriftThresholds(Thresholds):
    """How much a release may differ from the current one in the same space."""

    max_score_psi: Positive = 0.25
    """Population stability index; 0.25 is the customary mark of a shift."""
    max_norm_psi: Positive = 0.25
    """The same mark for the distribution of norms."""
    warn_neighbour_jaccard: Share = 0.2
    """Two trainings from scratch agree on 0.3 to 0.5."""
    min_neighbours_beyond_chance: Share = 0.05
    """Shuffled titles keep 0 beyond chance, trainings from scratch 0.3 and more."""
    max_popularity_drop: Positive = 0.5
    """Drop of the rank correlation of scores and plays: inverted."""
    max_moved_share: Share = 0.2
    """A night moves few titles; many mean a bent space."""
    moved_cosine: Cosine = 0.5
    """A title below this cosine to its old place has moved."""
    swapped_cosine: Cosine = 0.9
    """This close to the other's old place, both ways, is a swap."""
    sample: Count = 2_000
    """Members and titles compared; 0.02 standard error, constant memory."""
    neighbours: Count = 10
    """The k of the neighbour lists; what a row on a page shows."""


class IndexThresholds(Thresholds):
    """What the measured indexes must reach."""

    min_recall: Share = 0.99
    """The product's promise: holds where the whole 95 % interval lies below, warns where its lower end does."""
    min_queries_per_second: Positive = 100.0
    """On one core even an exact search of 100,000 titles answers more; fewer are a fault of the build."""


class GateConfig(Settings):
    """All thresholds of the gate."""

    input: InputThresholds = InputThresholds()
    vectors: VectorThresholds = VectorThresholds()
    alignment: AlignmentThresholds = AlignmentThresholds()
    quality: QualityThresholds = QualityThresholds()
    drift: DriftThresholds = DriftThresholds()
    index: IndexThresholds = IndexThresholds()
