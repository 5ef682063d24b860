"""The environment of a job: what is named here, and nothing else of the host's."""

from collections.abc import Mapping

KEPT = (
    *("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE"),
    "TRACEPARENT",  # the trace that the job belongs to, for programs that keep spans of their own
    *("TRAINYARD_FAILPOINTS", "TRAINYARD_FAILPOINTS_DIR"),  # tests kill jobs at named points too
)
# With two threads the stored state of linear models and of gradient boosting differs, and no digest repeats;
# with random hashes the order of a set may show in a file.
SET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def environment_of(host: Mapping[str, str]) -> dict[str, str]:
    """What a job gets of the host's environment, and what it always gets."""
    return {name: host[name] for name in KEPT if name in host} | SET
