"""The oldest version that we take of what had holes, and what we take in no version."""

from packaging.version import Version

FLOORS = {
    "starlette": ("1.5.1", "CVE-2026-48710 (path of another host), CVE-2025-62727 and its like in ranges"),
    "python-multipart": ("0.0.27", "CVE-2026-42561, CVE-2026-40347, CVE-2026-24486"),
    "h11": ("0.16.0", "CVE-2025-43859: chunks with lenient ends"),
    "gunicorn": ("23.0", "CVE-2024-1135, CVE-2024-6827: smuggled requests"),
    "pyjwt": ("2.13.0", "CVE-2026-48526: a public key taken as a secret"),
    "authlib": ("1.6.4", "CVE-2025-59420: unknown crit accepted"),
    "torch": ("2.10.0", "CVE-2026-24747, CVE-2025-32434: weights_only is not safe"),
    "skops": ("0.13.0", "CVE-2025-54886: silent fall back to joblib"),
    "onnx": ("1.21.0", "CVE-2026-27489, CVE-2026-34445: external data, attributes"),
    "safetensors": ("0.8.0", "the version that refused every attack that was tried"),
    "pyarrow": ("23.0.1", "CVE-2026-25087: use after free in IPC"),
}
NEVER = {
    "python-jose": "an absent list of algorithms still trusts the header",
    "keras": "loading is executing, fixed four times",
    "picklescan": "a scanner of pickles is no gate; nothing is unpickled here",
    "modelscan": "a scanner of pickles is no gate; nothing is unpickled here",
}
"""By canonical name: what is wrong with all of it."""


def breach(name: str, version: str) -> str:
    """Why this version of this package is not taken; empty when it is. `name` is canonical."""
    if name in NEVER:
        return f"never: {NEVER[name]}"
    floor, why = FLOORS.get(name, ("0", ""))
    return f"{floor} is the least: {why}" if Version(version) < Version(floor) else ""
