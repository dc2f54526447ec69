"""Trains models on several processes, in a process of its own, for Ray's trainer leaves threads in its caller.

`team_of_processes.py FOLDER…` reads `histories.parquet`, `catalogue.parquet` and `config.json` in each folder, and
tells as one line of JSON for each the metrics of the model, or the error.
"""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.trainer import train
from pipeline.ray_cluster import RayConfig, ray_cluster
from stores.errors import SamespaceError


def main(folder):
    histories, catalogue = (pq.read_table(folder / f"{name}.parquet") for name in ("histories", "catalogue"))
    config = FoundationConfig.model_validate_json((folder / "config.json").read_text())
    try:
        model = train(histories, catalogue, config, 0, folder / "models")
    except SamespaceError as error:
        return {"error": type(error).__name__, "what": error.what}
    return {"path": model.path, "steps": model.metrics["steps"]}


if __name__ == "__main__":
    with ray_cluster(RayConfig(num_cpus=2)):
        for place in sys.argv[1:]:
            print(json.dumps(main(Path(place))), flush=True)
