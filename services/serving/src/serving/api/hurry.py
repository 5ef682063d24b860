"""What is refused before it is read (kit.refusals): who asks a deployment that has more to answer than it can."""

from collections.abc import Callable, Mapping

from starlette.types import Scope

from kit import errors
from kit.callers import Caller
from kit.routes import Show
from serving.api import deadlines
from serving.replica.table import Table


def refuses(scope: Scope, caller: Caller, params: Mapping[str, str]) -> errors.Error | None:
    """Why the deployment's only model does not let the request in; None: it may, or that is seen later."""
    table: Table = scope["state"]["parts"].table
    live = table.seen(caller.project, params["name"])
    one = None if live is None else live.only
    if live is None or one is None or params.get("version") not in (None, str(one.target.version)):
        return None
    try:
        error = one.refusal(deadlines.until(scope))
    except deadlines.TimeoutInvalid:
        return None
    if error is not None:
        one.tally.refused(0.0)
    return error


def shown(error_of: Callable[[Exception], tuple[int, dict[str, str], bytes]]) -> Show:
    """The same as the route's protocol says all its errors, which know no request id."""
    return lambda error, identity: error_of(error)
