"""unshare --user --map-root-user --net python two_hosts.py FOLDER: two hosts train together, and one is lost.

The hosts are two network namespaces, joined by a cable. When the second one has reached a step in the middle of an
epoch the cable is cut and all its processes die, without a word to the other. Writes which rows each step has seen into
FOLDER/seen-*.jsonl. Ends with the code of torchrun on the host that is left.
"""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

ROWS, BATCH, EPOCHS, INTERVAL, LOST_AT = 90, 8, 2, 3, 17
PORT = 29417
ENDS = 240  # seconds


def address(host: int) -> str:
    """Of a host, on the cable."""
    return f"10.81.0.{host}"


def begin(host: int, folder: Path) -> subprocess.Popen[bytes]:
    """A host: a namespace of its own, in which torchrun starts when the cable is there."""
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{address(1)}:{PORT}", "--rdzv-id", "hosts"),
        *("--rdzv-conf", f"is_host={host == 1},last_call_timeout=3,timeout=100"),
        *("--local-addr", address(host), "--max-restarts", "3", "--monitor-interval", "0.2"),
        *(str(Path(__file__)), str(folder), "train"),
    ]
    ready = f"echo ready; read line; exec >&2; ip link set lo up; ip addr add {address(host)}/24 dev host{host}; "
    up = f'ip link set host{host} up; exec "$@"'
    return subprocess.Popen(
        ["unshare", "--net", "sh", "-c", ready + up, "sh", *torchrun],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HOST": str(host), "GLOO_SOCKET_IFNAME": f"host{host}"},
        start_new_session=True,
    )


def ip(*arguments: str) -> None:
    """Set something up."""
    subprocess.run(["ip", *arguments], check=True)


def main(folder: Path) -> int:
    """Both hosts, until the one that is left has ended."""
    hosts = {host: begin(host, folder) for host in (1, 2)}
    until = time.monotonic() + ENDS
    ip("link", "add", "host1", "type", "veth", "peer", "name", "host2")
    for host, process in hosts.items():
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise SystemExit("A host did not come up.")
        ip("link", "set", f"host{host}", "netns", str(process.pid))
    for process in hosts.values():
        if process.stdin is not None:
            process.stdin.write(b"go\n")
            process.stdin.flush()
    lost = False
    while not ended(hosts[1], 0.1) and time.monotonic() < until:
        if not lost and (folder / "reached").exists():
            subprocess.run(["nsenter", "-t", str(hosts[2].pid), "-n", "ip", "link", "set", "host2", "down"], check=True)
            end(hosts[2].pid)
            lost = True
    for process in hosts.values():
        end(process.pid)
    return hosts[1].wait()


def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it has, or does within that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def end(process: int) -> None:
    """All processes of a host, also those that have sessions of their own: what was started ends first."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            end(int(child))
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def train(folder: Path) -> None:
    """What each process does: a step is written down when it is done."""
    import torch  # noqa: PLC0415 - of the processes that train

    from trainyard.runtime.runs import Run, facts_of  # noqa: PLC0415 - as above

    run = Run(facts_of(os.environ, folder, {}, None), os.environ)
    run.torch.join(timeout=timedelta(seconds=8))
    run.torch.exact()
    model = torch.nn.Linear(1, 1)
    parallel = run.torch.parallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rows = torch.arange(float(ROWS)).reshape(-1, 1) / ROWS
    order = run.order(ROWS, batch=BATCH, epochs=EPOCHS)
    host = os.environ["HOST"]
    for batch in run.torch.training(order, steps=INTERVAL, seconds=None, model=model, optimizer=optimizer):
        if run.world_size == 2 and batch.step == LOST_AT and host == "2":
            (folder / "reached").touch()
            signal.pause()
        optimizer.zero_grad()
        (parallel(rows[batch.indices]).square().mean() * batch.share).backward()
        optimizer.step()
        seen = {"step": batch.step, "epoch": batch.epoch, "world": run.world_size, "rows": batch.indices}
        with (folder / f"seen-{host}.jsonl").open("a") as file:
            file.write(json.dumps(seen if batch.share else {**seen, "rows": []}) + "\n")
    run.torch.leave()


if __name__ == "__main__":
    if sys.argv[2:] == ["train"]:
        train(Path(sys.argv[1]))
    else:
        sys.exit(main(Path(sys.argv[1])))
