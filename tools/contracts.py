"""Write contracts/<service>.openapi.json: what each service promises on the wire.

python tools/contracts.py
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from kit import keys

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "contracts"
SERVICES = ("gateway", "ingest", "trainer", "registry", "serving", "pipelines")


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for service in SERVICES:
        file = FOLDER / f"{service}.openapi.json"
        file.write_text(json.dumps(document_of(service), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        sys.stdout.write(f"{file.relative_to(ROOT)}\n")
    return 0


def document_of(service: str) -> dict[str, Any]:
    """The OpenAPI document of a service that was put together and not started."""
    with tempfile.TemporaryDirectory() as folder:
        keys.init(Path(folder), SERVICES)
        settings_class = importlib.import_module(f"{service}.settings").Settings
        given = {
            "database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none",
            "private_key_file": Path(folder) / f"{service}.private.json",
            "public_keys_file": Path(folder) / "public.json",
            "objects_url": Path(folder).as_uri(),
            "work_dir": Path(folder),
        } | {f"{peer}_url": "http://127.0.0.1:1" for peer in SERVICES}
        fields = settings_class.model_fields
        settings = settings_class(**{name: value for name, value in given.items() if name in fields})
        document: dict[str, Any] = importlib.import_module(f"{service}.app").create_app(settings).openapi()
        return document


if __name__ == "__main__":
    sys.exit(main())
