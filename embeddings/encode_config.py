"""How the encode job is set."""

from stores.settings import Settings


class EncodeConfig(Settings):
    """Which model class encodes, and how the work is spread.

    `encoder` is "module:Class". `model` is what its `load(path)` gets; empty means the workspace's own
    model. `workers` defaults to one for each core (each GPU where `gpus_per_worker` is set);
    `max_bad_fraction` is the share of rows that the model may fail on before the night stops.
    """

    encoder: str = "embeddings.foundation:FoundationEncoder"
    model: str = ""
    batch_size: int = 512
    titles_per_shard: int = 50_000
    workers: int | None = None
    gpus_per_worker: float = 0.0
    max_bad_fraction: float = 0.001
