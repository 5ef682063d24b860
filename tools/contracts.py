"""Write contracts/<service>.openapi.json: what each service promises on the wire.

python tools/contracts.py            nothing that was promised may be broken
python tools/contracts.py --break    break it: for a release that says so
"""

import argparse
import importlib
import json
import runpy
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kit import keys

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "contracts"
SERVICES = ("gateway", "ingest", "trainer", "registry", "serving", "pipelines")


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--break", action="store_true", dest="may_break", help="write it though it breaks a promise")
    asked = parser.parse_args(arguments)
    folder.mkdir(exist_ok=True)
    documents = {service: document_of(service) for service in SERVICES}
    broken = [broken for service in SERVICES for broken in broken_by(folder, service, documents[service])]
    if broken and not asked.may_break:
        sys.stderr.writelines(f"{promise}\n" for promise in broken)
        sys.stderr.write(
            "Clients rely on these. Nothing was written; `--break` writes it, for a release that says so.\n"
        )
        return 1
    for service, document in documents.items():
        file = folder / f"{service}.openapi.json"
        file.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        sys.stdout.write(f"contracts/{file.name}\n")
    return 0


def broken_by(folder: Path, service: str, document: dict[str, Any]) -> list[str]:
    """What was promised and is not in the document."""
    file = folder / f"{service}.openapi.json"
    # The same that the tests of contracts judge by, which are no package.
    judge = runpy.run_path(str(ROOT / "tests" / "contract" / "compatibility.py"))
    breaks: Callable[[Any, Any], list[str]] = judge["breaks"]
    return [f"{service}: {it}" for it in breaks(json.loads(file.read_text()), document)] if file.exists() else []


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
