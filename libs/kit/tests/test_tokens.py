"""Internal tokens: who may say what to whom, for how long, and how often it costs a signature."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from kit.callers import Caller, Role
from kit.remembered import ENTRIES, Remembered
from kit.tokens import PublicKey, Signer, TokenRefused, Verifier

NOW = 1_800_000_000
JWK = {**OKPKey.generate_key("Ed25519").as_dict(private=True), "kid": "gateway-1"}
CLAIMS = {
    "iss": "gateway",
    "aud": "registry",
    "project": "default",
    "role": "editor",
    "sub": "ann",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 60,
}
HEADER = {"alg": "Ed25519", "kid": "gateway-1", "typ": "JWT"}


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Watch:
    return Watch()


def public(issuer: str = "gateway", jwk: dict[str, Any] = JWK) -> PublicKey:
    return PublicKey(issuer, OKPKey.import_key(jwk))


@pytest.fixture
def verifier(clock: Watch) -> Verifier:
    return Verifier("registry", lambda: {"gateway-1": public()}, clock=clock)


@pytest.fixture
def signer(clock: Watch) -> Signer:
    return Signer("gateway", JWK, clock=clock)


def signed(claims: object, header: dict[str, Any] = HEADER, key: Any = None, algorithm: str = "Ed25519") -> str:
    """A token with a right signature, whatever it says."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(payload).rstrip(b"=")
    algorithms: Any = jws.JWSRegistry.algorithms
    signature = algorithms[algorithm].sign(head + b"." + body, key or OKPKey.import_key(JWK))
    return b".".join([head, body, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_token_says_for_whom_the_gateway_asks(signer: Signer, verifier: Verifier) -> None:
    token = signer.mint("registry", "default", Role.EDITOR, "ann")

    assert verifier.verify(token) == Caller("default", Role.EDITOR, "ann", "gateway")


def test_the_same_question_costs_one_signature_in_thirty_seconds(signer: Signer, clock: Watch) -> None:
    first = signer.mint("registry", "default", Role.EDITOR, "ann")
    clock.now += 29
    again = signer.mint("registry", "default", Role.EDITOR, "ann")
    clock.now += 1
    later = signer.mint("registry", "default", Role.EDITOR, "ann")

    assert first == again != later


def test_each_audience_project_role_and_subject_has_its_own_token(signer: Signer) -> None:
    asked = [
        ("registry", "a", Role.EDITOR, "ann"),
        ("ingest", "a", Role.EDITOR, "ann"),
        ("registry", "b", Role.EDITOR, "ann"),
        ("registry", "a", Role.ADMIN, "ann"),
        ("registry", "a", Role.EDITOR, "bob"),
    ]

    assert len({signer.mint(*question) for question in asked}) == len(asked)


def test_what_is_remembered_is_bounded(clock: Watch) -> None:
    remembered: Remembered[int, int] = Remembered(clock)
    for number in range(ENTRIES + 1):
        remembered.put(number, number, until=NOW + 30)

    assert remembered.get(0) is None
    assert remembered.get(1) == 1
    assert remembered.get(ENTRIES) == ENTRIES


def test_the_same_token_is_verified_once_in_thirty_seconds(verifier: Verifier, clock: Watch) -> None:
    token = signed(CLAIMS)
    first = verifier.verify(token)
    clock.now += 29
    assert verifier.verify(token) is first
    clock.now += 1
    assert verifier.verify(token) is not first


def test_a_token_that_was_verified_still_expires(verifier: Verifier, clock: Watch) -> None:
    token = signed(CLAIMS)
    clock.now = NOW + 100
    verifier.verify(token)
    clock.now = NOW + 121

    with pytest.raises(TokenRefused, match="expired"):
        verifier.verify(token)


@pytest.mark.parametrize("skew", [-59, 0, 119])
def test_clocks_may_differ_by_a_minute(verifier: Verifier, clock: Watch, skew: int) -> None:
    clock.now = NOW + skew

    assert verifier.verify(signed(CLAIMS)).subject == "ann"


@pytest.mark.parametrize("skew", [-61, 121])
def test_clocks_may_not_differ_by_more(verifier: Verifier, clock: Watch, skew: int) -> None:
    clock.now = NOW + skew

    with pytest.raises(TokenRefused):
        verifier.verify(signed(CLAIMS))


def refused(name: str, claims: object = CLAIMS, **how: Any) -> Any:
    return pytest.param(lambda: signed(claims, **how), id=name)


OTHER = OKPKey.generate_key("Ed25519")


@pytest.mark.parametrize(
    "make",
    [
        refused("for another service", CLAIMS | {"aud": "ingest"}),
        refused("for several services", CLAIMS | {"aud": ["registry"]}),
        refused("in the name of another service", CLAIMS | {"iss": "trainer"}),
        refused("of a role that does not exist", CLAIMS | {"role": "root"}),
        refused("of a long life", CLAIMS | {"exp": NOW + 61}),
        refused("of no life", CLAIMS | {"exp": NOW}),
        refused("of an endless life", CLAIMS | {"exp": 1e30}),
        refused("with a boolean for a time", CLAIMS | {"iat": True}),
        refused("without an end", {name: value for name, value in CLAIMS.items() if name != "exp"}),
        refused("with a claim too many", CLAIMS | {"admin": True}),
        refused("not an object", ["iss"]),
        refused("with a claim twice", json.dumps(CLAIMS)[:-1].encode() + b',"role":"admin"}'),
        refused("with NaN", json.dumps(CLAIMS | {"exp": float("nan")}).encode()),
        refused("signed with a key that is not known", header=HEADER | {"kid": "gateway-9"}),
        refused("with a list for a key id", header=HEADER | {"kid": ["gateway-1"]}),
        refused("signed by a stranger", key=OTHER),
        refused("with critical extensions", header=HEADER | {"crit": ["b64"], "b64": True}),
        refused("with its own key", header=HEADER | {"jwk": OTHER.as_dict(private=False)}),
        refused("with a place for its key", header=HEADER | {"jku": "https://example.invalid/keys"}),
        refused("compressed", header=HEADER | {"zip": "DEF"}),
        refused("without a type", header={"alg": "Ed25519", "kid": "gateway-1"}),
        refused("unsigned", header=HEADER | {"alg": "none"}, algorithm="none"),
        refused("of the older name of the algorithm", header=HEADER | {"alg": "EdDSA"}),
        refused(
            "signed with the public key as a password",
            header=HEADER | {"alg": "HS256"},
            algorithm="HS256",
            key=OctKey.import_key(str(JWK["x"])),
        ),
        pytest.param(lambda: "", id="empty"),
        pytest.param(lambda: "a.b.c", id="not base64"),
        pytest.param(lambda: "ü.b.c", id="not ASCII"),
        pytest.param(lambda: "e30.e30", id="two parts"),
        pytest.param(lambda: "e30.e30.e30.e30.e30", id="encrypted"),
        pytest.param(lambda: signed(CLAIMS)[:-4] + "AAAA", id="with a changed signature"),
        pytest.param(lambda: signed(CLAIMS) + "=", id="padded"),
        pytest.param(lambda: signed(CLAIMS | {"sub": "a" * 3000}), id="too long"),
    ],
)
def test_a_token_is_refused(verifier: Verifier, make: Callable[[], str]) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(make())


def test_a_new_key_is_found_by_its_id_without_a_restart(clock: Watch) -> None:
    known = {"gateway-0": public()}
    reads = 0

    def read() -> dict[str, PublicKey]:
        nonlocal reads
        reads += 1
        return dict(known)

    verifier = Verifier("registry", read, clock=clock)
    known["gateway-1"] = public()
    with pytest.raises(TokenRefused, match="not known"):
        verifier.verify(signed(CLAIMS))  # not twice in a second: a stranger must not make us read files
    clock.now += 1

    assert verifier.verify(signed(CLAIMS)).issuer == "gateway"
    assert reads == 2
