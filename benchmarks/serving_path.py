"""The way of a prediction through our own server, alone: requests per second of CPU of the process that answers.

    python -m benchmarks.serving_path                          (--only lr-64,mlp-64 --rounds 5 --seconds 1 --profile)

The edge, the layers and the routes are the real ones, with an internal token on every request; models are put where a
replica would put them, so that no database and no registry is needed. CPU time is the process's own: other work on the
machine matters less to it. The most of all rounds is printed, since whatever else happens only adds to it.
"""

import argparse
import contextlib
import cProfile
import gc
import json
import os
import pickle
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop
from fastapi import FastAPI

from benchmarks import serving_models
from benchmarks.gateway import free_port, running
from benchmarks.serving import HERE, our_bodies
from benchmarks.serving_models import WORKLOADS, Made
from benchmarks.serving_ours import PROJECT, await_ready, environment
from kit import keys, server, telemetry
from kit.app import Service, assemble, make_api
from kit.callers import Role
from kit.main import COLLECT
from kit.tokens import load_signer, load_verifier
from models.onnx_models import onnx_model
from models.tensor_signature import signature_of_json
from serving.api import inference, predict
from serving.api.watching import Watch
from serving.app import SWITCH
from serving.domain.desired import Desired
from serving.domain.limits import UNLIMITED
from serving.domain.revisions import File, Target
from serving.replica.lanes import Queueing
from serving.replica.residents import Here, Threads
from serving.replica.table import Answering, Live, Table
from serving.replica.timing import cost_of
from serving.runner.warming import example_of, warm

ONNX = [it for it in WORKLOADS if not it.original]
NAMES = ("rf", "lr", "hgb", "mlp")


def application(home: Path) -> Service:
    """What serves the models in the folder."""
    table, threads = Table(), Threads(1, Queueing(1024))
    made: dict[str, Made] = pickle.loads((home / "models").read_bytes())  # noqa: S301 - this program wrote it
    for name, it in made.items():
        table.put(_live(name, it, threads))
    table.is_informed = True

    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"parts": SimpleNamespace(table=table, watch=Watch())}

    raw = [*predict.routes(), *inference.routes()]
    return assemble(
        make_api("serving", lifespan), verifier=load_verifier(home / "keys/public.json", "serving"), raw=raw
    )


def _live(name: str, made: Made, threads: Threads) -> Live:
    content, signature = made.files["onnx"], signature_of_json(made.signature)
    file = File("onnx", f"{name}.onnx", made.dataset, len(content))
    target = Target(
        model=name,
        version=1,
        digest=made.dataset,
        weight=1,
        file=file,
        signature=made.signature,
        example=tuple(made.example),
    )
    model = onnx_model(content, signature)
    here = Here(model, cost_of(model, example_of(signature, target), warm(model, target)), threads)
    wanted = Desired(PROJECT, name, uuid.uuid4(), 1, (target,))
    return Live(wanted, (Answering(target, here, lane=here.lane(UNLIMITED)),))


async def serve(home: Path, port: int, *, profile: bool) -> None:
    """Until it is told to stop; with `profile`, say then what took the time."""
    telemetry.configure_logging("serving")
    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH)
    stop, seen = server.stop_on_signals(), cProfile.Profile()
    if profile:
        seen.enable()
    app = application(home)
    gc.freeze()
    await server.serve(app, host="127.0.0.1", port=port, drain=timedelta(0), stop=stop)
    seen.disable()
    if profile:
        seen.dump_stats(home / "profile")


def prepare(home: Path) -> None:
    """Train the models once for as many runs as the folder is kept."""
    keys.init(home / "keys", ("gateway", "serving"))
    if not (home / "models").exists():
        given = serving_models.data()
        made = {name: serving_models.train(name, it, home / name) for name, it in given.items()}
        (home / "models").write_bytes(pickle.dumps({**made, "mlp": serving_models.network()}))


def ask(home: Path, port: int, workload: Any, body: bytes, said: Mapping[str, str], seconds: float) -> dict[str, Any]:
    token = load_signer(home / "keys/gateway.private.json").mint("serving", PROJECT, Role.EDITOR, "bench")
    content, headers = home / "load.body", home / "load.headers"
    content.write_bytes(body)
    headers.write_text("".join(f"{n}: {v}\n" for n, v in {**said, "Authorization": f"Bearer {token}"}.items()))
    rows = f"/v1/deployments/{workload.model}/predict"
    path = f"/v2/models/{workload.model}/infer" if workload.form == "binary" else rows
    command = ["wrk", "-t1", f"-c{workload.connections}", f"-d{seconds:g}s", "-s", str(HERE / "post.lua")]
    done = subprocess.run(  # noqa: S603
        [*command, f"http://127.0.0.1:{port}{path}"],
        env={**os.environ, "BODY": str(content), "HEADERS": str(headers)},
        capture_output=True,
        text=True,
        check=True,
    )
    answered: dict[str, Any] = json.loads(done.stdout.rpartition("JSON")[2])
    return answered


def main(arguments: list[str] | None = None) -> int:
    about = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_path", description=about)
    parser.add_argument("--only", default=",".join(it.name for it in ONNX))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "trainyard-serving-path")
    parser.add_argument("--profile", action="store_true", help="leave a cProfile in the folder")
    parser.add_argument("--serve", type=int, default=0, help="serve at this port; for this program itself")
    chosen = parser.parse_args(arguments)
    if chosen.serve:
        uvloop.run(serve(chosen.home, chosen.serve, profile=chosen.profile))
        return 0
    chosen.home.mkdir(exist_ok=True)
    prepare(chosen.home)
    measure(chosen)
    return 0


def measure(chosen: argparse.Namespace) -> None:
    given = serving_models.data()
    bodies = our_bodies({**{name: it.asked for name, it in given.items()}, "mlp": serving_models.pictures()})
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving_path", "--serve", str(port), "--home", str(chosen.home)]
    command += ["--profile"] if chosen.profile else []
    with running(command, chosen.home / "log", environment({})) as process:
        await_ready(port, chosen.home / "log")
        for it in ONNX:
            if it.name not in chosen.only.split(","):
                continue
            rates = []
            for _ in range(chosen.rounds):
                before = sum(process.cpu_times()[:2])
                said = ask(chosen.home, port, it, *bodies[it.name], chosen.seconds)
                used = sum(process.cpu_times()[:2]) - before
                rates.append(said["requests"] / used if not said["failures"] else 0)
            sys.stdout.write(f"{it.name:20} {max(rates):8,.0f}   {1e6 / max(rates, default=1):7.1f} us\n")


if __name__ == "__main__":
    sys.exit(main())
