"""Judge the workflows of .github: by zizmor and actionlint, and by rules of our own.

    .cache/checks/bin/python tools/check_workflows.py

Ours: an action is pinned by a whole commit with its version behind it, one commit for one action everywhere; what is
called by make is in the Makefile; rights are named and no more than `contents: read` for a whole workflow; every job
has a time limit; a checkout leaves no token behind; no expression becomes part of a script; no `pull_request_target`.
Nothing here asks the network.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ".github"
PINNED = re.compile(r"uses:\s*(?P<action>[\w./-]+)@(?P<commit>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)\s*$")
USES = re.compile(r"^\s*(?:-\s+)?uses:\s*(?P<what>\S+)")
CALLED = re.compile(r"(?:^|[;&|(]|\bthen\b|\bdo\b|\$\()\s*(?:\w+=\S*\s+)*make\s+(?P<words>[^;&|\n)]*)", re.MULTILINE)
TARGET = re.compile(r"^(?P<names>[a-z][a-z0-9 -]*):(?!=)", re.MULTILINE)
LEFT_BEHIND = "the checkout leaves its token behind: persist-credentials: false"
Yaml = Mapping[Any, Any]


def main() -> int:
    found = [mistake for path in files(ROOT) for mistake in mistakes(ROOT, path)]
    found += one_commit_each(ROOT)
    for mistake in found:
        sys.stdout.write(f"{mistake}\n")
    codes = [subprocess.run(command, cwd=ROOT).returncode for command in checkers(Path(sys.executable).parent)]
    sys.stdout.write(f"{len(list(files(ROOT)))} files of {FOLDER}: {len(found)} breaches of our own rules\n")
    return 1 if found or any(codes) else 0


def checkers(programs: Path) -> Iterator[list[str]]:
    """zizmor asks nobody: its online audits need a token. actionlint has shellcheck read scripts where there is one."""
    yield [
        str(programs / "zizmor"),
        "--offline",
        "--no-progress",
        "--quiet",
        "--pedantic",
        "--strict-collection",
        FOLDER,
    ]
    yield [str(programs / "actionlint"), "-no-color", "-pyflakes="]


def files(root: Path) -> Iterator[Path]:
    """Workflows and actions, relative to the repository."""
    for pattern in ("workflows/*.yml", "workflows/*.yaml", "actions/*/action.yml"):
        yield from sorted(path.relative_to(root) for path in (root / FOLDER).glob(pattern))


def mistakes(root: Path, path: Path) -> Iterator[str]:
    """What breaks our rules in one file, each as `path[:line]: words`."""
    text = (root / path).read_text()
    content: Yaml = yaml.safe_load(text)
    yield from (f"{path}:{line}: {words}" for line, words in unpinned(text))
    makefile = (root / "Makefile").read_text()
    of_a_workflow = workflow_mistakes(content) if "jobs" in content else iter(())
    for words in (*of_a_workflow, *step_mistakes(steps(content)), *unknown_targets(steps(content), targets(makefile))):
        yield f"{path}: {words}"


def unpinned(text: str) -> Iterator[tuple[int, str]]:
    for line, words in enumerate(text.splitlines(), start=1):
        used = USES.match(words)
        if used and not used["what"].startswith("./") and not PINNED.search(words):
            yield line, f"{used['what']} is not pinned as action@<40 hex digits> # v1.2.3"


def one_commit_each(root: Path) -> list[str]:
    """Of a repository's actions, those that appear with two commits or two versions."""
    pins: dict[str, set[str]] = {}
    for path in files(root):
        for pin in map(PINNED.search, (root / path).read_text().splitlines()):
            if pin:
                home = "/".join(pin["action"].split("/")[:2])
                pins.setdefault(home, set()).add(f"{pin['commit']} {pin['version']}")
    return [f"{action} is pinned twice: {', '.join(sorted(all_))}" for action, all_ in pins.items() if len(all_) > 1]


def workflow_mistakes(workflow: Yaml) -> Iterator[str]:
    # YAML 1.1 takes the word `on` for a truth.
    triggers = workflow.get("on", workflow.get(True, {}))
    if "pull_request_target" in triggers:
        yield "pull_request_target runs strangers' code with this repository's rights"
    rights = workflow.get("permissions")
    if rights is None or any(right != ("contents", "read") for right in rights.items()):
        yield "permissions of the whole workflow: {} or contents: read; a job asks for more by itself"
    if "concurrency" not in workflow and set(triggers) != {"workflow_call"}:
        yield "no concurrency group"
    for name, job in workflow["jobs"].items():
        if "timeout-minutes" not in job and "uses" not in job:
            yield f"{name}: no timeout-minutes"


def steps(content: Yaml) -> list[Yaml]:
    """All steps of a workflow's jobs, or of an action."""
    if "jobs" not in content:
        return list(content["runs"]["steps"])
    return [step for job in content["jobs"].values() for step in job.get("steps", [])]


def step_mistakes(all_steps: Sequence[Yaml]) -> Iterator[str]:
    for step in all_steps:
        is_checkout = str(step.get("uses", "")).startswith("actions/checkout@")
        if is_checkout and step.get("with", {}).get("persist-credentials") is not False:
            yield LEFT_BEHIND
        if "${{" in step.get("run", ""):
            yield f"an expression in a script, where it could be code; pass it by env: {step['run'].splitlines()[0]}"


def targets(makefile: str) -> set[str]:
    return {name for line in TARGET.finditer(makefile) for name in line["names"].split()}


def called(script: str) -> set[str]:
    """The targets that a script makes."""
    words = {word for call in CALLED.finditer(script) for word in call["words"].split()}
    return {word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)}


def unknown_targets(all_steps: Sequence[Yaml], known: set[str]) -> Iterator[str]:
    for step in all_steps:
        for target in sorted(called(step.get("run", "")) - known):
            yield f"make {target} is called, and is not in the Makefile"


if __name__ == "__main__":
    sys.exit(main())
