"""Small programs in place of the six services: they start at once and do what the supervisor can see."""

import textwrap
from pathlib import Path

from trainyard_local.home import SERVICES

_PROGRAM = """
import http.server, json, os, pathlib, signal, subprocess, sys, threading

name, verb = pathlib.Path(__file__).parent.name, sys.argv[1]
prefix = name.upper() + "_"
if verb == "migrate":
    import psycopg
    with psycopg.connect(os.environ[prefix + "DATABASE_URL"].replace("+psycopg", "")) as session:
        session.execute("create table if not exists migrated (at timestamptz default now())")
        session.execute("insert into migrated default values")
elif verb == "bootstrap":
    options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
    file = pathlib.Path(options["--credentials"])
    key = json.loads(file.read_text())["api_key"] if file.exists() else "made-" + os.urandom(4).hex()
    file.write_text(json.dumps({"url": options["--url"], "api_key": key}))
    file.chmod(0o600)
elif verb == "runner":
    threading.Event().wait()
else:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(os.environ.get("MARK", "").encode())
        def log_message(self, *args):
            pass

    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ[prefix + "PORT"])), Ready)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(name, "listens", flush=True)
    server.serve_forever()
"""


def install(folder: Path) -> Path:
    """Make them in `folder`, for PYTHONPATH."""
    for service in SERVICES:
        package = folder / service
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(textwrap.dedent(_PROGRAM))
    return folder
