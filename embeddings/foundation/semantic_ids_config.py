"""Settings of semantic ids; apart from the code, so that reading a configuration does not load torch."""

from pydantic import Field

from stores.settings import Settings


class SemanticIdsConfig(Settings):
    """The shape of the codebooks. They are fitted once per space and then frozen."""

    levels: int = Field(default=3, ge=1, description="digits that say what a title is like, coarse to fine")
    codes: int | None = Field(default=None, ge=2, le=65_536, description="codes of a level; None follows the catalogue")
    max_codes: int = Field(default=256, ge=2, le=65_536, description="bound of that rule")
    rounds: int = Field(default=30, ge=1, description="of k-means, at most")
    sample: int = Field(default=131_072, ge=2, description="titles that the codebooks are fitted on, at most")
    seed: int = 0


def codes_for(config: SemanticIdsConfig, titles: int) -> int:
    """Codes of a level: the largest power of two of which there are three titles each, from 2 to `max_codes`."""
    if config.codes is not None:
        return config.codes
    return min(config.max_codes, max(2, 1 << max(1, (titles // 3).bit_length() - 1)))
