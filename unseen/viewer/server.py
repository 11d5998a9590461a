"""The page itself: one viser server, and a panel and a session for every client."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import socket
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from unseen.errors import UserError
from unseen.viewer.sample import Sample
from unseen.viewer.sampling_panel import SamplingPanel
from unseen.viewer.studio import Exhibition, Studio
from unseen.viewer.view_panel import ViewPanel

if TYPE_CHECKING:
    import viser

LOCAL = "127.0.0.1"
"""The address that no other machine can reach."""
PORTS_TRIED = 50
ASKED_AGAIN = 2.0
"""Seconds between questions for newer samples, where they may come."""


def check_viser() -> None:
    """Raise UserError if the page's server is not installed."""
    if importlib.util.find_spec("viser") is None:
        raise UserError(
            "the viewer needs viser, which is not installed: run "
            "`pip install 'unseen[viewer]'`."
        )


def check_port(host: str, port: int) -> None:
    """Raise UserError, which names a free port, if `port` cannot be listened on."""
    reason = _refusal(host, port)
    if reason is None:
        return
    if reason != errno.EADDRINUSE:
        raise UserError(
            f"cannot listen on port {port} of {host} ({errno.errorcode[reason]}): "
            "choose others with --host and --port."
        )
    last = min(port + PORTS_TRIED, 65535)
    free = (p for p in range(port + 1, last + 1) if _refusal(host, p) is None)
    other = next(free, None)
    advice = "another one with --port" if other is None else f"--port {other}"
    raise UserError(f"port {port} is in use: choose {advice}.")


def _refusal(host: str, port: int) -> int | None:
    """Why the operating system does not let one listen there, if it does not."""
    with socket.socket() as probe:
        # As servers do: a connection that is just ending does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return None


class Viewer:
    """A running page. Use as a context; it is gone at the end."""

    def __init__(
        self, exhibition: Exhibition, host: str = LOCAL, port: int = 8080
    ) -> None:
        """Start to serve.

        Raises UserError if viser is not installed or the port is in use.
        """
        check_viser()
        check_port(host, port)
        import viser

        self._host = host
        self._studio = Studio(exhibition)
        self._visits: dict[int, _Visit] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        with _quiet():
            self._server = viser.ViserServer(
                host, port, label=exhibition.title, verbose=False
            )
        # Nothing may leave the machine; a client could ask for a public address.
        self._server.request_share_url = _no_share_url  # type: ignore[method-assign]
        self._server.gui.configure_theme(
            show_logo=False, show_share_button=False, brand_color=(38, 84, 124)
        )
        self._server.gui.main_panel.dock_right()
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(self._part)
        self.address = f"http://{host}:{self._server.get_port()}"
        self._following: threading.Thread | None = None
        if exhibition.newer is not None:
            self._following = threading.Thread(
                target=self._follow, args=(exhibition.newer,), daemon=True
            )
            self._following.start()

    def _follow(self, newer: Callable[[], Sequence[Sample] | None]) -> None:
        """Show everybody what is newer than what they see."""
        while not self._closing.wait(ASKED_AGAIN):
            try:
                samples = newer()
                if samples is None:
                    continue
                # First for those who come now, then for those who are there.
                self._studio.replace(samples)
                with self._lock:
                    visits = list(self._visits.values())
                for visit in visits:
                    visit.show(samples)
            except Exception:
                # A bug in one scene must not keep the next ones away.
                traceback.print_exc()

    def _welcome(self, client: viser.ClientHandle) -> None:
        if not self._is_own_page(client):
            return
        visit = _Visit(client, self._studio)
        with self._lock:
            self._visits[client.client_id] = visit
        visit.start()

    def _is_own_page(self, client: viser.ClientHandle) -> bool:
        """Whether a client is our page, and not another one in somebody's browser."""
        # viser does not hand out the request of a connection.
        connections = self._server._websock_server._live_connections
        connection = connections.get(client.client_id)
        if connection is None or connection.request is None:
            return False
        headers = connection.request.headers
        return is_own_origin(headers.get("Origin"), headers.get("Host"), self._host)

    def _part(self, client: viser.ClientHandle) -> None:
        with self._lock:
            visit = self._visits.pop(client.client_id, None)
        if visit is not None:
            visit.close()

    def close(self) -> None:
        """Stop sampling, send everybody away, free the port."""
        self._closing.set()
        with self._lock:
            visits = list(self._visits.values())
        for visit in visits:
            visit.close()
        if self._following is not None:
            self._following.join()
        self._studio.close()
        with _quiet():
            self._server.stop()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_own_origin(origin: str | None, host: str | None, listening: str) -> bool:
    """Whether a page of `origin` may talk to a server that it calls `host`.

    Browsers let any web site connect to a server on the user's own machine, but they
    say which site it is. `listening` is the address that the server listens on: a local
    one has local names only, or a site could call itself by a name that leads here.
    """
    if origin is None:
        return True  # No browser.
    parts = urllib.parse.urlsplit(origin)
    if listening == LOCAL and parts.hostname not in (LOCAL, "localhost"):
        return False
    return parts.netloc == host


class _Visit:
    """One client: its panel, its session, its sampling."""

    def __init__(self, client: viser.ClientHandle, studio: Studio) -> None:
        model = studio.exhibition.model
        self._sampling = None if model is None else SamplingPanel(client, studio, model)
        self._view = ViewPanel(client, studio)
        if self._sampling is not None:
            self._sampling.view = self._view

    def start(self) -> None:
        self._view.start()

    def show(self, samples: Sequence[Sample]) -> None:
        """Replace what is on show."""
        self._view.show_samples(samples)

    def close(self) -> None:
        """A client that leaves takes its sampling job along."""
        if self._sampling is not None:
            self._sampling.stop()
        self._view.close()


def _no_share_url(verbose: bool = True) -> None:
    """In place of viser's, which asks a server on the internet."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without viser's own lines on the output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
