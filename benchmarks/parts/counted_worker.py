"""A stream worker that keeps count of the requests it sends, by method, place and query, in the file BENCH_REQUESTS_FILE."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from vault_core.http_pool import Fetched, PooledClient
from vault_pipelines.streams.app import build_app

_EVERY = 0.25
_ROW = re.compile(r"(?<=/)\d+(?=/|$)")

app = build_app(os.environ)


async def keep_count() -> None:
    """Counts until the worker stops."""
    counts: Counter[str] = Counter()
    http = app.edge.runtime.http
    if not isinstance(http, PooledClient):
        raise TypeError("the worker's client makes its exchanges elsewhere")
    pool, fetch = http.pool, http.pool.fetch

    async def counted(method: str, url: str, *, params: Mapping[str, str] | None, **rest: Any) -> Fetched:
        counts[kind_of(method, url, params or {})] += 1
        return await fetch(method, url, params=params, **rest)

    pool.fetch = counted  # type: ignore[method-assign]
    file = Path(os.environ["BENCH_REQUESTS_FILE"])
    part = file.with_suffix(".part")
    while not app.should_stop:
        part.write_bytes(orjson.dumps(counts))
        part.replace(file)  # whole, whenever it is read
        await app.sleep(_EVERY)


def kind_of(method: str, url: str, params: Mapping[str, str]) -> str:
    """Method and path behind the interface's base, without ids, and what of the query tells lists and commands apart."""
    place = f"{method} {_ROW.sub('*', urlsplit(url).path).replace('/fineract-provider/api/v1', '')}"
    told = [f"{name}={value}" for name, value in params.items() if name in ("command", "status", "associations")]
    return f"{place}?{'&'.join(told)}" if told else place


app.task(keep_count)
