"""Pods get the settings that services have, all of those that they must have, and no secret in plain sight."""

import json
from typing import Any

import chart_schemas
import pytest
import yaml
from manifests import SERVICES, Pod, Release, Render, references

PLACEHOLDER = "postgresql://nobody@database.invalid/none"
"""A runner's database: its settings ask for one, and it has none."""
OBJECTS = ("AWS_REGION", "AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
OTHERS = {*OBJECTS, *chart_schemas.OF_LIBRARIES, "OTEL_EXPORTER_OTLP_HEADERS"}
SECRET = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS", "TRAINYARD_API_KEY",
          "POSTGRES_PASSWORD", "KIT_ADMIN_DATABASE_URL"}  # fmt: skip


def services_of(release: Release) -> list[Pod]:
    pods = [pod for pod in release.pods if pod.ours]
    assert pods
    return pods


def fields(service: str) -> dict[str, Any]:
    return {
        chart_schemas.variable(service, name): field
        for name, field in chart_schemas.settings_of(service).model_fields.items()
    }


def secret_names() -> set[str]:
    return SECRET | {name for service in SERVICES for name in chart_schemas.secrets_of(service)}


def test_every_variable_is_a_setting(release: Release) -> None:
    for pod in services_of(release):
        for container in range(len(pod.containers)):
            assert set(pod.env(container)) - OTHERS <= set(fields(pod.service)), (pod.name, container)


def test_every_required_setting_is_given(release: Release) -> None:
    for pod in services_of(release):
        required = {name for name, field in fields(pod.service).items() if field.is_required()}
        for container in range(len(pod.containers)):
            assert required <= set(pod.env(container)), (pod.name, container)


def test_settings_take_what_the_chart_gives(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in services_of(release):
        with monkeypatch.context() as patch:
            for name, each in pod.env().items():
                patch.setenv(name, each.get("value", "postgresql://u:p@h/d"))
            settings = chart_schemas.settings_of(pod.service)()
        assert settings.port == 8000
        assert settings.host == "0.0.0.0"
        assert settings.drain_seconds == 10


def test_every_secret_is_a_reference(release: Release) -> None:
    for pod in release.pods:
        for container in range(len(pod.containers)):
            for name, each in pod.env(container).items():
                if name in secret_names() and each.get("value") != PLACEHOLDER:
                    assert set(each.get("valueFrom", {})) == {"secretKeyRef"}, (pod.name, name)


def test_the_runner_has_neither_database_nor_objects_nor_redis(render: Render) -> None:
    pod = render("everything").pod("trainyard-trainer-runner")
    assert pod.env()["TRAINER_DATABASE_URL"]["value"] == PLACEHOLDER
    assert not {"TRAINER_REDIS_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(pod.env())
    assert {name for kind, name, _ in references(pod) if kind == "Secret"} == {"my-trainer-key"}


def test_no_secret_is_rendered(release: Release) -> None:
    assert not release.of("Secret")
    # The ConfigMap of public keys is made by a Job as well.
    for it in release.of("ConfigMap"):
        assert it["metadata"]["name"].startswith("trainyard-dashboard-")


def test_names_that_look_like_secrets_have_no_value(release: Release) -> None:
    for pod in release.pods:
        for container in range(len(pod.containers)):
            for name, each in pod.env(container).items():
                if any(word in name for word in ("PASSWORD", "SECRET", "TOKEN", "API_KEY", "ACCESS_KEY")):
                    assert "value" not in each, (pod.name, name)


def test_one_address_for_each_service_by_default(render: Render) -> None:
    found = {pod.service: pod.env()[f"{pod.service.upper()}_DATABASE_URL"] for pod in render("default").pods
             if pod.component == "api"}  # fmt: skip
    assert {it["valueFrom"]["secretKeyRef"]["name"] for it in found.values()} == {"trainyard-database"}
    assert {service: it["valueFrom"]["secretKeyRef"]["key"] for service, it in found.items()} == {
        service: service for service in SERVICES
    }


@pytest.mark.parametrize("case", ["cloudnativepg", "dev"])
def test_one_role_for_all_gives_each_service_a_schema(render: Render, case: str) -> None:
    for pod in services_of(render(case)):
        if pod.component == "runner":
            continue
        env, name = pod.env(), pod.service.upper()
        assert env[f"{name}_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["key"] == "uri"
        assert env[f"{name}_DATABASE_SCHEMA"]["value"] == pod.service


def test_a_service_may_have_a_secret_of_its_own(render: Render) -> None:
    release = render("default", "serving.database.existingSecret=mine", "serving.database.key=dsn")
    ref = release.pod("trainyard-serving-api").env()["SERVING_DATABASE_URL"]["valueFrom"]["secretKeyRef"]
    other = release.pod("trainyard-ingest-api").env()["INGEST_DATABASE_URL"]["valueFrom"]["secretKeyRef"]
    assert (ref, other) == ({"name": "mine", "key": "dsn"}, {"name": "trainyard-database", "key": "ingest"})


def test_the_gateway_gets_all_addresses_and_others_the_one_for_all(render: Render) -> None:
    release = render("default")
    gateway, pipelines = release.pod("trainyard-gateway-api").env(), release.pod("trainyard-pipelines-api").env()
    assert gateway["GATEWAY_SERVING_URL"]["value"] == "http://trainyard-serving-endpoints:8000"
    assert pipelines["PIPELINES_SERVING_URL"]["value"] == "http://trainyard-serving:8000"
    headless = release.get("Service", "trainyard-serving-endpoints")["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is False
    assert headless["selector"] == release.get("Service", "trainyard-serving")["spec"]["selector"]


def test_every_address_is_that_of_a_service_in_the_release(render: Render) -> None:
    for case in ("default", "dev"):
        release = render(case)
        known = {f"http://{it['metadata']['name']}:{port['port']}" for it in release.of("Service")
                 for port in it["spec"]["ports"]}  # fmt: skip
        for pod in release.pods:
            for container in range(len(pod.containers)):
                for name, each in pod.env(container).items():
                    if str(each.get("value", "")).startswith("http://"):
                        assert each["value"] in known, (pod.name, name)


def test_numbers_stay_numbers(render: Render) -> None:
    release = render(
        "default", "gateway.extraEnv.GATEWAY_IN_FLIGHT=1000000", "ingest.extraEnv.INGEST_UPLOAD_BYTES=8589934592"
    )
    assert release.pod("trainyard-gateway-api").env()["GATEWAY_IN_FLIGHT"]["value"] == "1000000"
    assert release.pod("trainyard-ingest-api").env()["INGEST_UPLOAD_BYTES"]["value"] == "8589934592"
    everything = render("everything").pod("trainyard-gateway-api").env()
    assert everything["GATEWAY_IN_FLIGHT"]["value"] == "1000000"


def test_files_of_ones_own_are_where_a_setting_can_name_them(render: Render) -> None:
    path = "/etc/trainyard/files/trust.json"
    release = render("default", "serving.filesConfigMap=trust", f"serving.extraEnv.SERVING_TRUST_FILE={path}")
    pod = release.pod("trainyard-serving-api")
    assert pod.env()["SERVING_TRUST_FILE"]["value"] == path
    [volume] = [it for it in pod.spec["volumes"] if it["name"] == "files"]
    assert volume["configMap"]["name"] == "trust"
    assert {"name": "files", "mountPath": "/etc/trainyard/files", "readOnly": True} in pod.containers[0]["volumeMounts"]
    assert "files" not in [it["name"] for it in release.pod("trainyard-gateway-api").spec["volumes"]]


def test_schemas_are_those_of_the_settings() -> None:
    for path, text in chart_schemas.schemas().items():
        assert path.read_text() == text, f"{path}: run tools/chart_schemas.py"


def test_the_schemas_know_every_value_there_is() -> None:
    known = yaml.safe_load((chart_schemas.HELM / "lib" / "values.yaml").read_text())
    for service in SERVICES:
        schema = json.loads((chart_schemas.HELM / service / "values.schema.json").read_text())
        own = yaml.safe_load((chart_schemas.HELM / service / "values.yaml").read_text()) or {}
        assert unknown(schema, known) == unknown(schema, own) == []
    suite = json.loads((chart_schemas.HELM / "trainyard" / "values.schema.json").read_text())
    assert unknown(suite, yaml.safe_load((chart_schemas.HELM / "trainyard" / "values.yaml").read_text())) == []


def unknown(schema: dict[str, Any], values: dict[str, Any], path: str = "") -> list[str]:
    if "properties" not in schema:
        return []
    found = [f"{path}/{name}" for name in values if name not in schema["properties"]]
    for name, value in values.items():
        if isinstance(value, dict) and name in schema["properties"]:
            found += unknown(schema["properties"][name], value, f"{path}/{name}")
    return found
