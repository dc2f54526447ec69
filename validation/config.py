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
    min_members_ratio: Ratio = 0.8
    """Members do not leave by the fifth in a night; a part is missing."""
    min_titles_ratio: Ratio = 0.8
    """A catalogue does not lose a fifth in a night; a part is missing."""
    min_events_ratio: Ratio = 0.8
    """Events accumulate; far fewer than before means a partition is missing."""
    min_lost: Count = 20
    """Fewer members, titles or events than this may well have gone by themselves: that only warns."""
    max_growth_ratio: Positive = 5.0
    """A premiere triples a day's events; five times is a repeated feed."""
    min_growth_ratio: Ratio = 0.2
    """The quietest day still has a fifth of the median day's events."""
    growth_nights: Count = 3
    """Fewer nights than this give no median worth comparing with."""
    max_event_age_days: Positive = 7.0
    """A live feed is days behind at most; archives are older and only warn."""
    min_events: Count = 100
    """A country, day or action with fewer events moves by chance."""
    min_duration_ratio: Ratio = 0.2
    """A median moves by tenths in a night; five times shorter is another unit, minutes or hours for seconds."""
    max_duration_ratio: Positive = 5.0
    """A median moves by tenths in a night; five times longer is another unit, milliseconds for seconds."""
    min_country_share_ratio: Ratio = 0.1
    """A country's share of a day halves on a holiday; below a tenth its files are missing."""
    min_country_events_ratio: Ratio = 0.5
    """Events accumulate; a country that has half of what it had lost a partition."""
    min_lowest_day_ratio: Ratio = 0.5
    """What happened does not unhappen; half of a past day gone is a lost partition."""
    max_highest_day_ratio: Positive = 1.5
    """A past day that grew by half was incomplete the night before, or was delivered again under other values."""


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

    min_share_of_current: Share = 0.97
    """A retrain may lose three hundredths of what the live model finds for fresher knowledge, not more."""
    min_own_share_of_current: Share = 0.8
    """Of each training's own held-out questions: a day's questions are harder than another's by a tenth, no more."""
    min_ratio_to_week: Ratio = 1.0
    """The same list for everyone, the last week's favourites, is the least that a model must beat."""
    min_queries: Count = 100
    """Fewer questions than this put no useful bound on what a model finds."""

    min_ratio_to_popularity: Ratio = 0.9
    """A model below popularity is not worth its vectors; a tenth is the sampling error of a thousand questions."""
    warn_ratio_to_popularity: Ratio = 1.0
    """A model that was trained finds more than the same titles for everyone."""


class DriftThresholds(Thresholds):
    """How much a release may differ from the current one in the same space."""

    max_score_psi: Positive = 0.25
    """Population stability index of the scores; 0.25 is the customary mark of a shift."""
    max_norm_psi: Positive = 0.25
    """Population stability index of the norms; one model's norms hardly move in a night."""
    warn_neighbour_jaccard: Share = 0.2
    """Two trainings from scratch agree on 0.3 to 0.5."""
    min_neighbours_beyond_chance: Share = 0.05
    """Shuffled titles keep 0 beyond chance, trainings from scratch 0.3 and more."""
    max_popularity_drop: Positive = 0.5
    """Drop of the rank correlation of scores and plays: inverted."""
    min_member_identity: Share = 0.6
    """How often a member is closer to the own old place than others are; mixed-up ids score 0.5, retrains 0.99."""
    max_moved_share: Share = 0.2
    """A night moves few titles; many mean a bent space."""
    max_segment_moved_share: Share = 0.5
    """A retrain moves some of any genre and of the tail; when half of one has moved, that part was lost."""
    min_segment_titles: Count = 20
    """Fewer titles than this move together by chance."""
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


class ReadbackThresholds(Thresholds):
    """What consumers must read back after a release went live."""

    probes: Count = 50
    """Members and titles read back; a fault in a tenth of the rows is missed once in two hundred nights."""
    min_equal_share: Share = 1.0
    """What is served is what was published, bit for bit."""
    found: Count = 10
    """Titles looked at of each search; what a row on a page shows."""
    max_score_error: Positive = 0.001
    """A share of the lengths: sums in float32 differ in the sixth digit, rows under wrong ids give any score."""


class GateConfig(Settings):
    """All thresholds of the gate."""

    input: InputThresholds = InputThresholds()
    vectors: VectorThresholds = VectorThresholds()
    alignment: AlignmentThresholds = AlignmentThresholds()
    quality: QualityThresholds = QualityThresholds()
    drift: DriftThresholds = DriftThresholds()
    index: IndexThresholds = IndexThresholds()
    readback: ReadbackThresholds = ReadbackThresholds()
