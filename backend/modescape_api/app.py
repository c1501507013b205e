"""The whole web process: one FastAPI application over one store, started in about a second, without torch.

create_app(settings)     for tests and other servers
serve(settings)          what `modescape serve` does
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import anyio.to_thread
import numpy.ma  # noqa: F401  # np.unique loads it when first called: in two request threads at once CPython 3.11 fails
from fastapi import Depends, FastAPI
from starlette.routing import BaseRoute, Route

from modescape import __version__, acting, heap, logs, plugins
from modescape.artifacts import Artifacts
from modescape.database import check_schema, upgrade
from modescape.errors import ConfigurationError
from modescape.laboratory import Laboratory
from modescape.making import Maker
from modescape.own_files import Limits, reading_apart
from modescape.reports.notes_apart import NoteReader
from modescape.settings import Settings
from modescape_api import pages
from modescape_api.background.fetching import Fetches
from modescape_api.background.hub import Hub
from modescape_api.background.messenger import Messenger
from modescape_api.background.noting import noting, write
from modescape_api.background.packing import Packing
from modescape_api.background.picture_checks import Lookings
from modescape_api.background.plugins import Plugins
from modescape_api.http import assets, connections, identity, problems, proxies, replies, security
from modescape_api.http.site import Site
from modescape_api.pages import rendering
from modescape_api.resources import openapi

# Requests that are worked on at once. Python computes for one at a time: 50 clients are answered as fast by 4 as by 40,
# but among 40 the slowest wait half as long again, and each keeps a connection with its cache.
THREADS = 6


def create_app(settings: Settings) -> FastAPI:
    """The application. Raises ConfigurationError when it would be open to the network without a token."""
    security.check_settings(settings)
    plugins.load(settings.plugin_modules, light=True)
    app = FastAPI(
        title="Modescape",
        version=__version__,
        description=openapi.INTRODUCTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        dependencies=[Depends(identity.check_role)],
    )
    app.state.settings = settings
    problems.install(app, rendering.error_page)
    for part in (*openapi.PARTS, openapi, assets, pages):
        app.include_router(part.router)
    app.add_middleware(replies.Gzip)
    app.add_middleware(security.Guard, settings=settings)
    own = set(_first_segments(app.routes))
    proxies.Front(app, settings, own)  # once here: middleware is made with the first request, too late for an error
    app.add_middleware(proxies.Front, settings=settings, own=own)
    return app


def _first_segments(routes: Iterable[BaseRoute]) -> Iterator[str]:
    for route in routes:
        if isinstance(route, Route):
            yield route.path.split("/")[1]
        else:  # a router that was included
            yield from _first_segments(getattr(getattr(route, "original_router", None), "routes", ()))


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    await asyncio.to_thread(_prepare, settings)
    with reading_apart(_limits(settings), _giving_threads()):
        async with _site(app, settings):
            yield


def _giving_threads() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """To be entered by a thread that waits: meanwhile another one works on requests in its place."""
    loop, limiter = asyncio.get_running_loop(), anyio.to_thread.current_default_thread_limiter()

    def add(count: int) -> None:
        limiter.total_tokens += count

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        loop.call_soon_threadsafe(add, 1)
        try:
            yield
        finally:
            if not loop.is_closed():  # the server may have stopped meanwhile
                loop.call_soon_threadsafe(add, -1)

    return waiting


def _limits(settings: Settings) -> Limits:
    memory, unpacked = (int(given * 2**30) for given in (settings.read_memory, settings.read_unpacked))
    return Limits(memory, settings.read_seconds, settings.read_pixels, unpacked)


@contextlib.asynccontextmanager
async def _site(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    laboratory = Laboratory(settings)
    hub = Hub(laboratory.store)
    store = laboratory.store
    door = identity.Doorkeeper(settings, store)
    await asyncio.to_thread(door.prepare)
    maker = Maker(settings, _giving_threads())
    app.state.site = Site(
        laboratory,
        hub,
        Fetches(settings.data_folders[0]),
        Lookings(store),
        Plugins(store),
        door,
        maker,
        Packing(settings, store),
        NoteReader(_giving_threads()),
    )
    loops = [asyncio.create_task(one) for one in (hub.run(), noting(store))]
    messenger = Messenger(settings, store)
    messenger.start()
    try:
        yield
    finally:
        await asyncio.to_thread(messenger.stop)
        for one in loops:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one
        await asyncio.to_thread(write, store)
        maker.end()
        app.state.site.notes.end()
        app.state.site.packing.end()
        laboratory.store.close()


def _prepare(settings: Settings) -> None:
    """On a laptop the database is brought up to date on start; a server's is migrated by its own job."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.database.get_backend_name() == "sqlite":
        upgrade(settings.database)
    else:
        check_schema(settings.database)
    Artifacts(settings.artifact_place).prepare()


def serve(settings: Settings) -> None:
    """Answer requests until told to stop. One process: its uvloop sets TCP_NODELAY, several plain-asyncio ones do
    not."""
    import uvicorn

    heap.stay_flat()
    logs.set_up(settings.log_level, settings.log_format)
    plugins.refuse_heavy()
    acting.serve_others()
    app = create_app(settings)
    _prepare(settings)  # here already, for its errors are one sentence
    # What is imported stays: looking through it for garbage stopped one request in twenty for 70 ms. What is imported
    # later, and lists that are held, are looked through a tenth as often as is usual: that takes 30 ms.
    gc.freeze()
    gc.set_threshold(gc.get_threshold()[0], gc.get_threshold()[1], 100)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http=connections.Protocol,
            ws="none",
            timeout_graceful_shutdown=2,  # open event streams would hold the shutdown for ever
            server_header=False,
            proxy_headers=False,  # `proxies` reads them, from named addresses only
            access_log=False,  # ours says who asked, and no query
            log_config=None,
        )
    )
    with connections.saying_little():
        server.run(sockets=_both_families(settings) if settings.host == "::" else None)
    if not server.started:
        raise SystemExit(3)


def _both_families(settings: Settings) -> list[socket.socket]:
    """A socket for IPv6 and IPv4: asyncio by itself would take `::` for IPv6 alone. Raises ConfigurationError."""
    try:
        return [socket.create_server(("::", settings.port), family=socket.AF_INET6, dualstack_ipv6=True)]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"port {settings.port} on :: cannot be used ({error})") from None
