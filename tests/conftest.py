"""What every test may ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def movielens() -> Path:
    """The unpacked ml-latest-small folder; tests that ask for it are skipped on a machine without it."""
    place = os.environ.get("SAMESPACE_MOVIELENS", str(HERE.parents[1] / "shared" / "data" / "ml-latest-small"))
    if not (Path(place) / "ratings.csv").exists():
        pytest.skip("no MovieLens data: set SAMESPACE_MOVIELENS to an unpacked ml-latest-small folder")
    return Path(place)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray of two cores for the whole run."""
    from pipeline.ray_cluster import RayConfig, ray_cluster

    # Workers inherit the environment: `own_models`, `planted_models` and the examples have encoders of a user's own.
    folders = [HERE / "embeddings", HERE / "pipeline", HERE.parent / "examples", HERE.parent]
    places = [*map(str, folders), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(place for place in places if place))
        patch.syspath_prepend(folders[1])
        # Ray's workers are nice by default, and starve where the machine is shared.
        patch.setenv("RAY_worker_niceness", "0")
        with ray_cluster(RayConfig(num_cpus=2)):
            yield


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """A bucket on moto's S3 server on loopback, as a URI; the environment names the server while it runs."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        **dict.fromkeys(keys, "test"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"]).create_bucket(Bucket="test")
        yield "s3://test"
    server.stop()
