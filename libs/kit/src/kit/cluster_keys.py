"""Keys for internal tokens as Kubernetes keeps them: a Secret for each service, one ConfigMap for all public halves.

    Secret <name>      private.json   what kit.keys has in <service>.private.json
    ConfigMap <name>   public.json    the public halves of all services, also of those that others added

What is there stays as it is. Run before every install and upgrade, by two at once too: of two that make the same, one
does, and the other takes what it finds.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from kit import keys
from kit.cluster import Cluster, Refused, text_of

PRIVATE, PUBLIC = "private.json", "public.json"
RANDOM = "{random}"
"""In a value of a Secret: replaced by text that nobody can guess, the same for all values of one Secret."""
TRIES = 20


def make(cluster: Cluster, named: Mapping[str, str], public: str) -> list[str]:
    """Make what is missing for the services, each of which is named with its Secret. Says what was made.

    Raises:
        Refused: a Secret or ConfigMap holds something else, or may not be read or made.
    """
    made = []
    halves: dict[str, list[dict[str, Any]]] = {}
    for service, secret in named.items():
        if _add(cluster, secret, {PRIVATE: json.dumps(keys.private_document(service))}):
            made.append(secret)
        halves[service] = _halves(cluster, service, secret)
    if _publish(cluster, public, halves):
        made.append(public)
    return made


def make_random(cluster: Cluster, wanted: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Make the Secrets that are missing, with `{random}` in their values replaced. Says which."""
    made = []
    for secret, values in wanted.items():
        text = secrets.token_hex(24)
        if _add(cluster, secret, {key: value.replace(RANDOM, text) for key, value in values.items()}):
            made.append(secret)
    return made


def wanted_secrets(arguments: list[str]) -> dict[str, dict[str, str]]:
    """`secret:key=value` for each value of each Secret.

    Raises:
        Refused: one is something else.
    """
    wanted: dict[str, dict[str, str]] = {}
    for argument in arguments:
        secret, colon, rest = argument.partition(":")
        key, equals, value = rest.partition("=")
        if not (secret and colon and key and equals):
            raise Refused(f"{argument.split('=', 1)[0]} … is not SECRET:KEY=VALUE.")
        wanted.setdefault(secret, {})[key] = value
    return wanted


def _add(cluster: Cluster, secret: str, data: Mapping[str, str]) -> bool:
    # Looked up first: where a quota is used up, making what exists is refused as if it were new.
    return cluster.find("secrets", secret) is None and cluster.create("secrets", secret, data)


def _halves(cluster: Cluster, service: str, secret: str) -> list[dict[str, Any]]:
    found = cluster.find("secrets", secret)
    text = text_of("secrets", found, PRIVATE) if found is not None else None
    try:
        document = json.loads(text or "")
        if document["issuer"] == service and document["keys"]:
            return keys.public_halves(document)
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused(f"The Secret {secret} holds no keys of {service} under {PRIVATE}.")


def _publish(cluster: Cluster, name: str, halves: Mapping[str, list[dict[str, Any]]]) -> bool:
    """Whether anything had to be said anew. Others may write at the same time."""
    for _ in range(TRIES):
        found = cluster.find("configmaps", name)
        known = _known(found, name)
        wanted = {**known, **halves}
        if found is not None and wanted == known:
            return False
        data = {PUBLIC: json.dumps(wanted, indent=1, sort_keys=True)}
        done = cluster.create("configmaps", name, data) if found is None else cluster.replace("configmaps", found, data)
        if done:
            return True
    raise Refused(f"The ConfigMap {name} changes faster than it can be written.")


def _known(found: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    text = "{}" if found is None else text_of("configmaps", found, PUBLIC) or "{}"
    try:
        known = json.loads(text)
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise Refused(f"The ConfigMap {name} holds something else than public keys.")
    return known
