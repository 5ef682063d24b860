"""What a request is, by its method and path."""

import pytest

from gateway.domain.requests import (
    JSON_LIMIT,
    PREDICT_LIMIT,
    Operation,
    body_limit,
    is_inference_protocol,
    operation_of,
    service_of,
)


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/datasets", "ingest"),
        ("/v1/datasets/flights/versions/3", "ingest"),
        ("/v1/uploads", "ingest"),
        ("/v1/jobs/1/logs", "trainer"),
        ("/v1/models/a/aliases/b", "registry"),
        ("/v1/models/a:predict", "serving"),
        ("/v1/models/a:predict/aliases", "registry"),
        ("/v1/models/a:predicted", "registry"),
        ("/v1/models", "registry"),
        ("/v1/deployments/a/predict", "serving"),
        ("/v2", "serving"),
        ("/v2/", "serving"),
        ("/v2/models/a/infer", "serving"),
        ("/v1/pipelines", "pipelines"),
        ("/v1/runs", "pipelines"),
        ("/v1/objects/registry/signed", "registry"),
        ("/v1/objects/ingest/signed", "ingest"),
        ("/v1/objects/trainer/signed", None),
        ("/v1/objects/registry/signed/more", None),
        ("/v1/objects/registry", None),
        ("/v1/keys", None),
        ("/v1/projects/a", None),
        ("/v1", None),
        ("/v1/", None),
        ("/", None),
        ("/metrics", None),
        ("/internal/v1/events", None),
        ("/v1/internal", None),
        ("//v1/datasets", None),
        ("/V1/datasets", None),
        ("/v22", None),
    ],
)
def test_a_path_belongs_to_a_service(path: str, service: str | None) -> None:
    assert service_of(path) == service


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/v1/whoami", Operation.ORIENT),
        ("GET", "/v1/status", Operation.ORIENT),
        ("GET", "/v1/keys", Operation.ADMINISTER),
        ("POST", "/v1/keys", Operation.ADMINISTER),
        ("DELETE", "/v1/keys/a", Operation.ADMINISTER),
        ("GET", "/v1/audit", Operation.ADMINISTER),
        ("GET", "/v1/projects", Operation.READ),
        ("POST", "/v1/projects", Operation.ADMINISTER),
        ("PUT", "/v1/projects/a/members/b", Operation.ADMINISTER),
        ("POST", "/v1/deployments/a/predict", Operation.PREDICT),
        ("GET", "/v1/deployments/a/predict", Operation.READ),
        ("POST", "/v1/deployments/a/predictions", Operation.PREDICT),
        ("GET", "/v1/deployments/a/predictions/p", Operation.DESCRIBE),
        ("GET", "/v1/deployments/a/predictions", Operation.READ),
        ("DELETE", "/v1/deployments/a/predictions/p", Operation.WRITE),
        ("POST", "/v1/deployments/a/batches", Operation.WRITE),
        ("PUT", "/v1/deployments/a/predict", Operation.WRITE),
        ("POST", "/v1/deployments/a/predict/", Operation.WRITE),
        ("POST", "/v1/deployments/a/b/predict", Operation.WRITE),
        ("POST", "/v1/deployments/a/invocations", Operation.PREDICT),
        ("GET", "/v1/deployments/a/ping", Operation.DESCRIBE),
        ("POST", "/v1/deployments/a/ping", Operation.WRITE),
        ("POST", "/v1/models/a:predict", Operation.PREDICT),
        ("GET", "/v1/models/a:predict", Operation.READ),
        ("DELETE", "/v1/models/a:predict", Operation.WRITE),
        ("POST", "/v1/models/a:explain", Operation.WRITE),
        ("POST", "/v1/jobs/a:predict", Operation.WRITE),
        ("POST", "/v2/repository/index", Operation.DESCRIBE),
        ("PUT", "/v2/repository/index", Operation.WRITE),
        ("POST", "/v2/models/a/infer", Operation.PREDICT),
        ("POST", "/v2/models/a/versions/1/infer", Operation.PREDICT),
        ("POST", "/v2/repository/models/a/load", Operation.WRITE),
        ("GET", "/v2", Operation.DESCRIBE),
        ("HEAD", "/v2/models/a/ready", Operation.DESCRIBE),
        ("GET", "/v1/datasets", Operation.READ),
        ("HEAD", "/v1/datasets", Operation.READ),
        ("POST", "/v1/datasets", Operation.WRITE),
        ("DELETE", "/v1/models/a", Operation.WRITE),
        ("OPTIONS", "/v1/models/a", Operation.WRITE),
        ("TRACE", "/nowhere", Operation.WRITE),
        ("GET", "/metrics", Operation.READ),
    ],
)
def test_a_request_does_one_thing(method: str, path: str, operation: Operation) -> None:
    assert operation_of(method, path) is operation


@pytest.mark.parametrize(
    ("method", "path", "media_type", "limit"),
    [
        ("POST", "/v1/uploads", "text/csv", None),
        ("POST", "/v1/uploads", "application/json", None),
        ("PUT", "/v1/uploads", "text/csv", JSON_LIMIT),
        ("PUT", "/v1/models/a/blobs/sha256:ab", "application/octet-stream", None),
        ("POST", "/v1/models/a/blobs/sha256:ab", "application/octet-stream", JSON_LIMIT),
        ("POST", "/v1/models/a/versions", "application/json", JSON_LIMIT),
        ("POST", "/v1/datasets/a/versions", "text/csv", None),
        ("POST", "/v1/datasets/a/versions", "application/x-ndjson", None),
        ("POST", "/v1/datasets/a/versions", "", None),
        ("POST", "/v1/datasets/a/versions", "application/json; charset=utf-8", JSON_LIMIT),
        ("POST", "/v1/datasets/a/versions", "application/x+json", JSON_LIMIT),
        ("GET", "/v1/datasets/a/versions", "text/csv", JSON_LIMIT),
        ("POST", "/v1/jobs", "application/json", JSON_LIMIT),
        ("POST", "/v1/jobs", "text/csv", JSON_LIMIT),
        ("POST", "/v1/deployments/a/predict", "application/json", PREDICT_LIMIT),
        ("POST", "/v2/models/a/infer", "", PREDICT_LIMIT),
        ("POST", "/v1/models/a:predict", "application/json", PREDICT_LIMIT),
        ("POST", "/v1/deployments/a/invocations", "text/csv", PREDICT_LIMIT),
        ("POST", "/v2/repository/index", "", JSON_LIMIT),
    ],
)
def test_a_request_may_carry_so_much(method: str, path: str, media_type: str, limit: int | None) -> None:
    assert body_limit(method, path, media_type) == limit


def test_the_inference_protocol_is_known_by_its_paths() -> None:
    assert is_inference_protocol("/v2")
    assert is_inference_protocol("/v2/models/a")
    assert is_inference_protocol("/v1/models/a:predict")
    assert not is_inference_protocol("/v1/models/a")
    assert not is_inference_protocol("/v1/v2")
    assert not is_inference_protocol("/v2x")
