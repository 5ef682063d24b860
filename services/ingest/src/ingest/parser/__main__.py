"""python -m ingest.parser: reads a task from standard input, answers with a report on standard output.

It is started by the service with limits on memory, time and output, and with an environment of its own: what it
reads was written by strangers.
"""

import sys

from ingest.domain.reports import Task
from ingest.parser.parse import parse


def main() -> None:
    task = Task.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(parse(task).model_dump_json())


if __name__ == "__main__":
    main()
