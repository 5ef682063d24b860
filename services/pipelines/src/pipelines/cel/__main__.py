"""python -I -m pipelines.cel SECONDS: reads a task, says a line for each expression, and ends.

stdin   {"expressions": ["…"], "data": {"steps": …, "parameters": …} | null}    null: compile only
stdout  {"value": true | false | null, "error": "…"}                            one line for each, in order

Whatever an expression costs is paid here: SIGXCPU ends this process after so many seconds of processor time, and who
started it ends it when it takes too much memory.
"""

import json
import re
import resource
import sys
from typing import Any

from cel_expr_python import cel

_LONGEST = 300
_CODES = re.compile(r"^(?:[A-Z_]+: )*(?:<input>:)?")


def main(text: str) -> int:
    """The exit code. A line that is missing says that its expression was the last thing that happened."""
    task = json.loads(text)
    members = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    env = cel.NewEnv(variables={"steps": members, "parameters": members})
    for expression in task["expressions"]:
        value, error = judge(env, expression, task["data"])
        sys.stdout.write(json.dumps({"value": value, "error": error}) + "\n")
        sys.stdout.flush()
    return 0


def judge(env: Any, expression: str, data: dict[str, Any] | None) -> tuple[bool | None, str]:
    """The truth of an expression, or what keeps it from having one."""
    try:
        compiled = env.compile(expression)
    except RuntimeError as exc:
        return None, f"does not compile: {words_of(str(exc))}"
    kind = compiled.return_type()
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        return None, f"is not true or false but {str(kind).lower()}"
    if data is None:
        return None, ""
    try:
        result = compiled.eval(data=data)
    except (RuntimeError, ValueError, TypeError, OverflowError) as exc:
        return None, f"cannot be evaluated: {words_of(str(exc))}"
    # An evaluation's error is a value too: only what is BOOL is an answer.
    if result.type() == cel.Type.BOOL:
        return bool(result.value()), ""
    if result.type() == cel.Type.ERROR:
        return None, f"cannot be evaluated: {words_of(str(result.value()))}"
    return None, f"is not true or false but {str(result.type()).lower()}"


def words_of(message: str) -> str:
    """The first line, without the library's own classes."""
    line = _CODES.sub("", message.strip().split("\n", 1)[0])
    return line[:_LONGEST]


if __name__ == "__main__":
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    sys.exit(main(sys.stdin.read()))
