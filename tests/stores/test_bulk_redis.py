"""Redis for real: lost connections, a server that dies in the middle, passwords, TLS, a cluster's way of writing."""

import contextlib
import datetime as dt
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stores.errors import StoreError
from stores.feast import redis_writer
from stores.publishing import publish
from stores.publishing.erasure import erase
from tests.stores.redis_servers import Server

EVERYONE = list(range(60))


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def two(local_nights):
    made = [local_nights.seal(dict.fromkeys(range(30), seed), {0: seed, 1: 1}) for seed in (1, 2)]
    return local_nights, *made


def equal(look, nights, release):
    return look.same_bits(look.online(nights, "member", EVERYONE), look.published(release, "members"))


def test_a_lost_connection_is_opened_again(two, look, server, monkeypatch):
    from redis import Redis

    nights, first, second = two
    publish.publish(nights.workspace, first, server.config())
    monkeypatch.setattr(redis_writer, "COMMANDS_PER_BATCH", 3)
    monkeypatch.setattr(redis_writer, "RETRY_PAUSE_S", 0.0)
    real, lost = redis_writer._RawConnection._read, []

    def cut(self, replies):
        real(self, replies)
        if len(lost) < 2:
            with Redis(port=server.port, password="secret") as client:
                lost.append(client.client_kill_filter(_type="normal", skipme=True))

    monkeypatch.setattr(redis_writer._RawConnection, "_read", cut)
    publish.publish(nights.workspace, second, server.config())
    assert len(lost) == 2
    assert equal(look, nights, second)


def test_a_server_that_dies_in_the_middle_leaves_the_pointer_and_the_next_command_goes_on(
    two, look, server, monkeypatch
):
    nights, first, second = two
    publish.publish(nights.workspace, first, server.config())
    monkeypatch.setattr(redis_writer, "RETRY_PAUSE_S", 0.0)
    with monkeypatch.context() as patch:
        real, batches = redis_writer.RedisWriter.write, []

        def die(self, *args):
            batches.append(real(self, *args))
            if len(batches) == 2:
                server.stop()

        patch.setattr(redis_writer.RedisWriter, "write", die)
        with pytest.raises(StoreError, match="the online store refused"):
            publish.publish(nights.workspace, second, server.config())
    assert nights.workspace.pointer()["release_id"] == first.release_id
    server.start()
    publish.recover(nights.workspace, server.config())
    assert nights.workspace.pointer()["release_id"] == second.release_id
    assert equal(look, nights, second)


def test_erasing_leaves_nothing_in_the_server_and_an_emptied_one_is_filled_again(local_nights, look, server):
    from redis import Redis

    nights, config = local_nights, server.config()
    nights.ids = lambda i: "member-four-of-nine" if i == 4 else f"é/{i}"
    made = [nights.seal(dict.fromkeys(range(9), seed), {0: 1}) for seed in (1, 2)]
    for release in made:
        publish.publish(nights.workspace, release, config)
    everyone = [nights.ids(i) for i in range(9)]
    needles = [b"member-four-of-nine", *(look.published(one, "members")[nights.ids(4)].tobytes() for one in made)]
    with Redis(port=server.port, password="secret") as client:

        def held() -> list[bytes]:
            kept = [b"".join([key, *client.hgetall(key).values()]) for key in client.scan_iter()]
            return [needle for needle in needles if any(needle in one for one in kept)]

        assert held() == [needles[0], needles[2]]
        erase(nights.workspace, "member-four-of-nine", config)
        assert held() == []
        expected = look.published(nights.workspace.current(), "members")
        assert nights.ids(4) not in expected
        client.flushall()
        assert look.online(nights, "member", everyone) == {}
        publish.promote(nights.workspace, "current", config)
    assert look.same_bits(look.online(nights, "member", everyone), expected)


def test_a_wrong_password_is_a_named_error_that_does_not_show_it(two, server):
    nights, first, _ = two
    with pytest.raises(StoreError, match="type redis") as error:
        publish.publish(nights.workspace, first, server.config("password=guessed"))
    assert "guessed" not in str(error.value)
    assert nights.workspace.pointer() is None


def test_an_error_of_the_server_is_not_lost_among_the_replies(two, server):
    from redis import Redis

    nights, first, second = two
    publish.publish(nights.workspace, first, server.config())
    with Redis(port=server.port, password="secret") as client:
        client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match="maxmemory"):
        publish.publish(nights.workspace, second, server.config())
    assert nights.workspace.pointer()["release_id"] == first.release_id


def test_tls(two, look, server, tmp_path):
    """The certificate is checked against the authority that the connection string names."""
    nights, first, _ = two
    key, certificate = signed(tmp_path)
    with tls_door(server.port, key, certificate) as port:
        words = f"127.0.0.1:{port},password=secret,ssl=true"
        trusting = server.config().model_copy(
            update={"online_store": {"type": "redis", "connection_string": f"{words},ssl_ca_certs={certificate}"}}
        )
        publish.publish(nights.workspace, first, trusting)
        assert equal(look, nights, first)
        strict = server.config().model_copy(
            update={"online_store": {"type": "redis", "connection_string": words}, "batch_rows": 8}
        )
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            publish.promote(nights.workspace, "current", strict)


@contextmanager
def tls_door(behind: int, key: Path, certificate: Path) -> Iterator[int]:
    """A port that speaks TLS and passes everything on to the plain port `behind`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Door(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as outside,
                socket.create_connection(("127.0.0.1", behind)) as inside,
            ):
                back = threading.Thread(target=pass_on, args=(inside, outside), daemon=True)
                back.start()
                pass_on(outside, inside)
                back.join()

    class Doors(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Doors(("127.0.0.1", 0), Door) as doors:
        threading.Thread(target=doors.serve_forever, daemon=True).start()
        yield doors.server_address[1]
        doors.shutdown()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def signed(place: Path) -> tuple[Path, Path]:
    """A key and a certificate of its own for 127.0.0.1."""
    x509 = pytest.importorskip("cryptography.x509")
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    made = made.serial_number(1).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(addresses, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    key, certificate = place / "key.pem", place / "certificate.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    certificate.write_bytes(made.sign(private, hashes.SHA256()).public_bytes(pem))
    return key, certificate
