"""One writer wins, and knows it though the reply to its write is lost."""

import uuid

import pytest

from stores.files.compare_and_swap import replace_if
from stores.files.filesystem import Storage
from stores.releases.lease import current_lease, lease


def test_only_what_was_read_is_replaced(tmp_path):
    storage = Storage(str(tmp_path))
    assert replace_if(storage, "a", b"1", None)
    assert not replace_if(storage, "a", b"2", None)
    assert not replace_if(storage, "a", b"2", b"0")
    assert replace_if(storage, "a", b"2", b"1")
    assert storage.read("a") == b"2"


@pytest.fixture
def lossy(s3_bucket, monkeypatch):
    """A place on an object store, and how many replies to PUTs are to be lost: the client sends those again."""
    from botocore.exceptions import ConnectionClosedError
    from botocore.httpsession import URLLib3Session

    real, lost = URLLib3Session.send, []

    def send(session, request):
        reply = real(session, request)
        if request.method == "PUT" and lost:
            lost.pop()
            raise ConnectionClosedError(endpoint_url=request.url)
        return reply

    monkeypatch.setattr(URLLib3Session, "send", send)
    return Storage(f"{s3_bucket}/{uuid.uuid4().hex}"), lost


@pytest.mark.slow
def test_a_lost_reply_is_no_defeat(lossy):
    storage, lost = lossy
    for data, expected in ((b"1", None), (b"2", b"1")):
        lost.append(True)
        assert replace_if(storage, "a", data, expected)
        assert not lost
        assert storage.read("a") == data
    assert not replace_if(storage, "a", b"3", b"1")


@pytest.mark.slow
def test_a_lease_is_held_though_the_reply_was_lost(lossy):
    storage, lost = lossy
    lost.append(True)
    with lease(storage, "a night"):
        assert not lost
        assert current_lease(storage)["purpose"] == "a night"
