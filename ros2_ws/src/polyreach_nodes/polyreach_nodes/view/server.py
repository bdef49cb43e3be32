"""A viser server on a socket of the caller, which answers its own pages only."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import rich
import viser
import websockets.asyncio.server
from websockets.datastructures import Headers
from websockets.protocol import State

BACKLOG = 32
CLOSE_S = 0.5  # [s] for a browser to answer when the server ends


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on host and port (0: any free one).

    Raises ValueError for a host that is not of this machine, or a port that is in use.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}, but must be 0 (any free one) to 65535")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ValueError(f"host '{host}' is not known: {error.strerror}") from None
    family, kind, protocol, _, address = sorted(addresses, key=lambda item: item[0])[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"cannot listen on {host} port {port}: {error.strerror} "
            "(choose another by the parameters host and port; port 0 takes any free one)"
        ) from None
    return listener


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_name(host: str) -> bool:
    """Whether a host is an address, or a name of this machine."""
    try:
        ip_address(host)
    except ValueError:
        name = socket.gethostname().lower()
        return host.lower() in (name, f"{name}.local", socket.getfqdn().lower())
    return True


def may_connect(headers: Headers, loopback: bool) -> bool:
    """Whether a request comes from a page of this server, or from no page at all.

    Browsers let every web page open a WebSocket to every address. The request of a foreign page
    has an origin other than its host; or, if the page's name resolves to this machine, a host that
    is neither the loopback, nor an address, nor a name of this machine.
    """
    hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
    if len(hosts) != 1 or len(origins) > 1:
        return False
    try:
        host = urlsplit(f"//{hosts[0]}").hostname or ""
    except ValueError:
        return False
    if not (is_loopback(host) if loopback else is_loopback(host) or is_own_name(host)):
        return False
    return not origins or urlsplit(origins[0]).netloc.lower() == hosts[0].lower()


class PageServer(viser.ViserServer):
    """Serves on a socket that listens already; offers no tunnel to the internet."""

    def __init__(self, listener: socket.socket, label: str) -> None:
        host, port = listener.getsockname()[:2]
        self.loopback = is_loopback(host)
        rich.get_console().quiet = True  # viser has no other way to omit its banner
        with _served_on(listener, self.loopback) as servers:
            super().__init__(host=host, port=port, label=label, verbose=False)
        self._servers = servers

    def stop(self) -> None:
        """End within about a second, whether browsers answer or not, and free the port."""
        self.get_event_loop().call_soon_threadsafe(self._drop_unopened)
        super().stop()

    def _drop_unopened(self) -> None:
        # browsers open spare connections; the server would wait for requests that never come
        for server in self._servers:
            for connection in list(server.server.handlers):
                if connection.state is State.CONNECTING:
                    connection.transport.abort()

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: no browser may share a robot with the internet."""
        return None


@contextmanager
def _served_on(listener: socket.socket, loopback: bool) -> Iterator[list[Any]]:
    """Let viser serve on this socket and check every request before it answers.

    Yields a list, to which the server is appended when it is made.
    """
    serve = websockets.asyncio.server.serve
    served: list[Any] = []

    def serve_checked(handler: Any, host: str, port: int, **options: Any) -> Any:
        answer = options.pop("process_request")

        def process_request(connection: Any, request: Any) -> Any:
            if not may_connect(request.headers, loopback):
                return connection.respond(HTTPStatus.FORBIDDEN, "page of another origin\n")
            return answer(connection, request)

        options |= {"process_request": process_request, "close_timeout": CLOSE_S}
        served.append(serve(handler, sock=listener, **options))
        return served[0]

    websockets.asyncio.server.serve = serve_checked  # type: ignore[assignment, misc]
    try:
        yield served
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]
    if not served:
        raise RuntimeError(f"viser {viser.__version__} does not serve as 1.1 does")
