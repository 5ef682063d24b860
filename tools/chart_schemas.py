"""Write values.schema.json of every chart: what may be set, of which form, and nothing else.

    python tools/chart_schemas.py

The names that `extraEnv` may have are those of the service's Settings, less secrets and what the chart sets itself.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr

from kit.settings import Settings

ROOT = Path(__file__).parents[1]
HELM = ROOT / "deploy" / "helm"
SERVICES = ("gateway", "ingest", "pipelines", "registry", "serving", "trainer")
SET_BY_CHART = {
    "private_key_file", "public_keys_file", "database_schema", "host", "port", "drain_seconds", "grace_seconds",
    "otlp_endpoint", "objects_url", "work_dir", "metrics_port", "runner_port", "runner_slots",
    *(f"{service}_url" for service in SERVICES),
}  # fmt: skip
SET_BY_CHART_OF = {"trainer": {"runner_memory_bytes"}}
"""Where another service's setting of the same name is anybody's."""
OF_LIBRARIES = (
    "AWS_CHECKSUM_ALGORITHM", "AWS_IMDSV1_FALLBACK", "AWS_METADATA_ENDPOINT", "AWS_REQUEST_PAYER",
    "AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_UNSIGNED_PAYLOAD", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_RESOURCE_ATTRIBUTES",
)  # fmt: skip
"""What obstore and OpenTelemetry read by themselves, and is no secret."""
Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
FREE: Schema = {"type": "object"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
PEERS: Schema = {"type": "array", "items": FREE}


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def whole(least: int, most: int | None = None) -> Schema:
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def many(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def thing(**fields: Schema) -> Schema:
    """An object with these fields and no others; `_` after a name that Python keeps for itself."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {k.rstrip("_"): v for k, v in fields.items()},
    }


NAME = text("^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")
"""Of an object of Kubernetes, or nothing."""
KEY = text("^[-._a-zA-Z0-9]+$")
SIZE = text("^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")
URL = text("^(https?://[^/\\s]+(/.*)?)?$")
DIGEST = text("^(sha256:[0-9a-f]{64})?$")
PORTS = many(whole(1, 65535))
QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
RESOURCES = thing(requests=QUANTITIES, limits=QUANTITIES)
TO, FROM = thing(to=PEERS, ports=PORTS), {"from": PEERS}


def image(**more: Schema) -> Schema:
    return thing(
        registry=text("^[a-z0-9]([-a-z0-9._:/]*[a-z0-9])?$"), tag=text("^([A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?$"),
        pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}, pullSecrets=many(NAME), **more,
    )  # fmt: skip


def pods(**more: Schema) -> Schema:
    return thing(
        replicas=whole(0), resources=RESOURCES, tmpSize=SIZE, workSize=SIZE, priorityClassName=NAME,
        podAnnotations=TEXTS, podLabels=TEXTS, nodeSelector=TEXTS, tolerations=many(FREE), affinity=FREE, **more,
    )  # fmt: skip


def common() -> dict[str, Schema]:
    """Of lib/values.yaml: all services, and the suite."""
    policy = thing(
        enabled=FLAG, dns=TO, database=TO, objects=TO, redis=TO, otlp=TO, apiServer=TO,
        monitoring=thing(from_=PEERS), outside=thing(from_=PEERS),
    )  # fmt: skip
    scaling = thing(
        enabled=FLAG, minReplicas=whole(1), maxReplicas=whole(1), targetCPUUtilizationPercentage=whole(1, 100)
    )
    return {
        "database": thing(existingSecret=NAME, key=KEY | text("^[-._a-zA-Z0-9]*$"), singleRole=FLAG),
        "objects": thing(
            url=text("^s3://[^/\\s]+"), endpoint=URL, region=TEXT, allowHttp=FLAG, existingSecret=NAME,
            accessKeyIdKey=KEY, secretAccessKeyKey=KEY,
        ),
        "redis": thing(existingSecret=NAME, key=KEY),
        "otlp": thing(endpoint=URL, existingSecret=NAME, key=KEY),
        "keys": thing(create=FLAG, existingSecret=NAME, existingPublicConfigMap=NAME),
        "migrate": thing(mode={"enum": ["hook", "init", "none"]}, resources=RESOURCES),
        "drainSeconds": whole(0, 600),
        "graceSeconds": whole(1, 3600),
        "minReadySeconds": whole(0, 600),
        "api": pods(autoscaling=scaling),
        "reconcile": pods(),
        "serviceAccount": thing(annotations=TEXTS),
        "podDisruptionBudget": thing(enabled=FLAG),
        "topologySpread": thing(enabled=FLAG),
        "networkPolicy": policy,
        "serviceMonitor": thing(enabled=FLAG, interval=text("^[0-9]+(ms|s|m)$"), labels=TEXTS),
    }  # fmt: skip


def service_of(service: str) -> Schema:
    """Of a service's own chart."""
    values = common() | {
        "image": image(digest=DIGEST, **({"variant": {"enum": ["full", "onnx"]}} if service == "serving" else {})),
        "extraEnv": extra_env(service),
        "filesConfigMap": NAME,
        "peers": {"type": "object", "additionalProperties": False, "properties": {
            peer: thing(url=URL) for peer in SERVICES if f"{peer}_url" in settings_of(service).model_fields
        }},
    }  # fmt: skip
    if service == "gateway":
        values |= {
            "admin": thing(existingSecret=NAME),
            "bootstrap": thing(url=URL),
            "ingress": thing(enabled=FLAG, className=NAME, annotations=TEXTS, hosts=many(TEXT), tls=many(FREE)),
            "httpRoute": thing(
                enabled=FLAG, annotations=TEXTS, parentRefs=many(FREE), hostnames=many(TEXT), timeouts=TEXTS
            ) | {
                "if": {"properties": {"enabled": {"const": True}}, "required": ["enabled"]},
                "then": {"properties": {"parentRefs": {"minItems": 1}}},
            },
        }  # fmt: skip
    if service == "trainer":
        values |= {
            "runner": pods(
                enabled=FLAG, slots=whole(1), memoryBytes=whole(1 << 26),
                image=thing(name={"enum": ["trainer-job", "trainer-job-torch"]}, digest=DIGEST),
                seccompProfile=thing(type={"enum": ["RuntimeDefault", "Localhost"]}, localhostProfile=TEXT),
            ),
            "jobs": thing(enabled=FLAG, namespace=NAME),
        }  # fmt: skip
    return document(values | {"trainyard-lib": FREE, "global": FREE, "enabled": FLAG})


def suite() -> Schema:
    """Of the suite's chart: what all services share, each service's own, and its own."""
    shared = common()
    shared["database"] = shared["database"]["properties"] | {
        "prepare": thing(enabled=FLAG, existingSecret=NAME, key=KEY)
    }
    shared["database"] = thing(**shared["database"])
    shared["keys"] = thing(create=FLAG, existingPublicConfigMap=NAME)
    services = dict.fromkeys(SERVICES, FREE)  # each is held to the schema of its own chart
    built_in = {"image": text("^[^\\s]+:[^\\s]+$"), "storage": SIZE}
    return document(shared | services | {
        "image": image(),
        "profile": {"enum": ["production", "dev"]},
        "prometheusRule": thing(enabled=FLAG, labels=TEXTS),
        "dashboards": thing(enabled=FLAG, labels=TEXTS),
        "priorityClasses": thing(create=FLAG),
        "test": thing(args=many(TEXT), image=thing(digest=DIGEST)),
        "dev": thing(
            postgresql=thing(**built_in), objects=thing(**built_in), redis=thing(image=built_in["image"]),
            persistent=FLAG, storageClass=NAME,
        ),
        "trainyard-lib": FREE,
        "global": FREE,
    })  # fmt: skip


def document(values: dict[str, Schema]) -> Schema:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **thing(**values)}


def settings_of(service: str) -> type[Settings]:
    settings: type[Settings] = importlib.import_module(f"{service}.settings").Settings
    return settings


def secrets_of(service: str) -> set[str]:
    """Environment variables that hold secrets."""
    fields = settings_of(service).model_fields.items()
    return {variable(service, name) for name, field in fields if is_secret(field.annotation)}


def is_secret(annotation: Any) -> bool:
    if isinstance(annotation, types.UnionType):
        return any(is_secret(each) for each in get_args(annotation))
    return annotation is SecretStr


def variable(service: str, name: str) -> str:
    return f"{service}_{name}".upper()


def extra_env(service: str) -> Schema:
    """Numbers, flags and text under the names of settings that are left to whoever installs."""
    taken = {variable(service, name) for name in SET_BY_CHART | SET_BY_CHART_OF.get(service, set())}
    names = {variable(service, name) for name in settings_of(service).model_fields} - taken - secrets_of(service)
    value = {"type": ["string", "number", "boolean"]}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict.fromkeys(sorted(names | set(OF_LIBRARIES)), value),
    }


def schemas() -> dict[Path, str]:
    """Each file and its text."""
    found = {HELM / service: service_of(service) for service in SERVICES} | {HELM / "trainyard": suite()}
    return {folder / "values.schema.json": json.dumps(schema, indent=1) + "\n" for folder, schema in found.items()}


def main() -> int:
    for path, content in schemas().items():
        path.write_text(content)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
