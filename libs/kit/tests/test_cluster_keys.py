"""Keys in Secrets and a ConfigMap: made once, found by whoever comes second, published beside those of others."""

import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kit import cluster, cluster_keys, keys
from kit.__main__ import main
from kit.callers import Role
from kit.testing_cluster import NAMESPACE, FakeCluster
from kit.tokens import load_signer, load_verifier

NAMED = {"gateway": "r-gateway-key", "trainer": "r-trainer-key"}
PUBLIC = "r-public-keys"


def make(fake: FakeCluster, named: dict[str, str] = NAMED) -> list[str]:
    return cluster_keys.make(fake.client(), named, PUBLIC)


def known(fake: FakeCluster) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = json.loads(fake.text("configmaps", PUBLIC, "public.json") or "")
    return found


def test_a_service_verifies_what_another_signs(tmp_path: Path) -> None:
    fake = FakeCluster()
    assert make(fake) == ["r-gateway-key", "r-trainer-key", PUBLIC]
    private, public = tmp_path / "private.json", tmp_path / "public.json"
    private.write_text(fake.text("secrets", "r-gateway-key", "private.json") or "")
    public.write_text(fake.text("configmaps", PUBLIC, "public.json") or "")

    token = load_signer(private).mint("trainer", "default", Role.ADMIN, "ann")

    assert load_verifier(public, "trainer").verify(token).issuer == "gateway"
    assert '"d"' not in public.read_text()


def test_asking_again_changes_nothing() -> None:
    fake = FakeCluster()
    make(fake)
    before = dict(fake.objects)

    assert make(fake) == []
    assert fake.objects == before


def test_what_others_published_stays() -> None:
    fake = FakeCluster()
    make(fake, {"ingest": "ingest-key"})
    make(fake, {"registry": "registry-key"})

    assert set(known(fake)) == {"ingest", "registry"}


def test_of_two_that_make_the_same_both_end_with_the_one_that_is_there() -> None:
    fake, other = FakeCluster(), FakeCluster()
    make(other)

    def meanwhile(method: str, kind: str) -> None:
        if method == "POST" and kind == "secrets" and ("secrets", "r-gateway-key") not in fake.objects:
            fake.put("secrets", "r-gateway-key", data=other.objects["secrets", "r-gateway-key"]["data"])

    fake.before = meanwhile
    assert make(fake) == ["r-trainer-key", PUBLIC]
    assert known(fake)["gateway"] == known(other)["gateway"]


def test_of_two_that_publish_at_once_none_is_lost() -> None:
    fake = FakeCluster()
    make(fake, {"ingest": "ingest-key"})

    def meanwhile(method: str, kind: str) -> None:
        if method == "PUT":
            fake.before = lambda method, kind: None
            make(fake, {"registry": "registry-key"})

    fake.before = meanwhile
    make(fake)

    assert set(known(fake)) == {"gateway", "ingest", "registry", "trainer"}


def test_a_rotated_secret_is_published_whole() -> None:
    fake = FakeCluster()
    make(fake)
    both = {"issuer": "gateway", "keys": [keys.private_document("gateway")["keys"][0] for _ in range(2)]}
    fake.objects.pop(("secrets", "r-gateway-key"))
    fake.client().create("secrets", "r-gateway-key", {"private.json": json.dumps(both)})

    assert make(fake) == [PUBLIC]
    assert len(known(fake)["gateway"]) == 2


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"issuer": "trainer", "keys": [1]}', '{"issuer": "gateway"}'])
def test_a_secret_with_something_else_is_refused_and_stays(text: str) -> None:
    fake = FakeCluster()
    fake.client().create("secrets", "r-gateway-key", {"private.json": text})

    with pytest.raises(cluster.Refused, match="r-gateway-key holds no keys of gateway"):
        make(fake)
    assert fake.text("secrets", "r-gateway-key", "private.json") == text


@pytest.mark.parametrize("text", ["no json", "[]"])
def test_a_config_map_with_something_else_is_refused(text: str) -> None:
    fake = FakeCluster()
    fake.client().create("configmaps", PUBLIC, {"public.json": text})

    with pytest.raises(cluster.Refused, match="something else"):
        make(fake)


def test_an_empty_config_map_is_filled() -> None:
    fake = FakeCluster()
    fake.put("configmaps", PUBLIC)

    assert PUBLIC in make(fake)
    assert set(known(fake)) == set(NAMED)


def test_a_config_map_that_always_changes_is_given_up() -> None:
    fake = FakeCluster()
    make(fake, {"ingest": "ingest-key"})

    def meanwhile(method: str, kind: str) -> None:
        if method == "PUT":
            fake.put("configmaps", PUBLIC)

    fake.before = meanwhile
    with pytest.raises(cluster.Refused, match="faster"):
        make(fake)


def test_who_may_not_is_told_what() -> None:
    fake = FakeCluster()
    fake.forbidden.add(("POST", "secrets"))

    with pytest.raises(cluster.Refused, match=r"r-gateway-key: 403 secrets is forbidden"):
        make(fake)


def test_an_answer_of_something_in_between_is_no_answer() -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(502, text="<html>"))
    away = cluster.Cluster(httpx2.Client(base_url="https://cluster", transport=transport), "here")

    with pytest.raises(cluster.Refused, match="502"):
        away.find("secrets", "x")


def test_random_values_are_the_same_within_a_secret_and_stay() -> None:
    fake = FakeCluster()
    wanted = cluster_keys.wanted_secrets(["db:password={random}", "db:uri=postgresql://u:{random}@h/d", "s:k={random}"])

    assert cluster_keys.make_random(fake.client(), wanted) == ["db", "s"]
    password, other = fake.text("secrets", "db", "password"), fake.text("secrets", "s", "k")
    assert fake.text("secrets", "db", "uri") == f"postgresql://u:{password}@h/d"
    assert password is not None
    assert len(password) == 48
    assert password != other
    assert cluster_keys.make_random(fake.client(), wanted) == []
    assert fake.text("secrets", "db", "password") == password


@pytest.mark.parametrize("argument", ["", "a", "a:b", ":k=v", "a:=v"])
def test_what_names_no_value_of_a_secret_is_refused(argument: str) -> None:
    with pytest.raises(cluster.Refused, match="SECRET:KEY=VALUE"):
        cluster_keys.wanted_secrets([argument])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[FakeCluster, dict[str, str]]]:
    """The fake behind TLS, with what a pod is told of it."""
    fake = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            known = self.headers["authorization"] == "Bearer token"
            status, document = fake.answer(self.command, self.path, content) if known else (401, {})
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = _context(tmp_path).wrap_socket(server.socket, server_side=True)
    (tmp_path / "token").write_text("token\n")
    (tmp_path / "namespace").write_text(NAMESPACE)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield fake, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
    server.shutdown()
    thread.join()
    server.server_close()


def _context(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "ca.crt", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    kind = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context


def test_a_pod_asks_the_server_that_it_trusts(served: tuple[FakeCluster, dict[str, str]], tmp_path: Path) -> None:
    fake, environment = served
    here = cluster.in_cluster(environment, tmp_path)

    assert cluster_keys.make(here, NAMED, PUBLIC)
    assert set(known(fake)) == set(NAMED)


def test_an_address_with_colons_is_put_in_brackets(served: tuple[FakeCluster, dict[str, str]], tmp_path: Path) -> None:
    _, environment = served
    here = cluster.in_cluster({**environment, "KUBERNETES_SERVICE_HOST": "::1"}, tmp_path)

    assert here.namespace == NAMESPACE


@pytest.mark.usefixtures("served")
def test_a_pod_without_a_token_says_so(tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    with pytest.raises(cluster.Refused, match="no pod"):
        cluster.in_cluster({}, tmp_path)


def test_the_command_says_what_it_made(
    served: tuple[FakeCluster, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake, environment = served
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = ["keys", "cluster", "--public=p", "--secret=d:password={random}", "gateway=g"]

    assert main(command, mount=tmp_path) == 0
    assert capsys.readouterr().out == "made d, g, p\n"
    assert main(command, mount=tmp_path) == 0
    assert capsys.readouterr().out == "all is there\n"
    assert ("secrets", "d") in fake.objects


def test_the_command_fails_outside_of_a_pod(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "cluster", "--public=p", "gateway=g"], mount=tmp_path) == 1
    assert "no pod" in capsys.readouterr().err


def test_a_service_without_a_secret_is_a_wrong_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keys", "cluster", "--public=p", "gateway"])
    assert "NAME=SECRET" in capsys.readouterr().err


@pytest.mark.parametrize("path", [f"/api/v1/namespaces/{NAMESPACE}/pods", "/api/v1/namespaces/other/secrets", "/apis"])
def test_the_stand_in_of_the_api_server_has_nothing_but_secrets_and_configmaps_of_one_namespace(path: str) -> None:
    assert FakeCluster().answer("GET", path, b"")[0] == 404
