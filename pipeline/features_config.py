"""Which optional features a night makes and publishes."""

from stores.settings import Settings


class FeaturesConfig(Settings):
    """Optional features, each a view of its own in Feast; a night without one removes its online rows."""

    genres: bool = False
    """`genre_embedding`: genres as points of the space, near the titles that have them. The encoder must offer it."""
    semantic_ids: bool = False
    """`title_semantic_id`: every title as a few digits, of which alike titles share the first."""
    preferences: bool = False
    """`member_preferences`: which genres and languages a member plays next, with shares. The encoder must offer it."""
