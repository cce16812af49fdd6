"""`llmlab ui`: Voilà on the notebooks of this package, for this machine alone."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmlab.errors import DataError

_HERE = Path(__file__).parent
PAGES = tuple(sorted(path.stem for path in (_HERE / "pages").glob("*.ipynb")))
"""Names of the pages: `<url>/voila/render/<page>.ipynb`."""
# a page may load from this server alone, even if an answer that it shows wants otherwise
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws://127.0.0.1:* data: blob:; "
    "frame-ancestors 'self'; form-action 'self'"
)
_EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]
"""What draws our widgets. Others that are installed load for nothing, and some want another JupyterLab than Voilà's."""


def serve(
    port: int = 8866,
    token: str | None = None,
    store: str | None = None,
    ready: Callable[[str], None] = print,
    linger: int = 60,
) -> None:
    """Serve the pages on loopback until Ctrl-C.

    Args:
        port: to listen on; 0 takes a free one.
        token: what a visitor must show; None makes one.
        store: SQLAlchemy URL of the results database; None is the default store.
        ready: gets the address of the first page, which holds the token, once it can be visited.
        linger: seconds for which a closed page is kept, so that a window that lost its connection finds it again. A
            benchmark that was started in it is carried on to its end first.

    Raises:
        DataError: when the port is taken, or the token is empty.
    """
    if token == "":
        raise DataError("the token is empty: everybody on this machine could read the store; leave it out to get one")
    token = token or secrets.token_urlsafe(24)
    port = _free(port)
    if store is not None:
        os.environ["LLMLAB_STORE"] = store  # kernels are processes of their own
    os.environ["JUPYTER_PATH"] = os.pathsep.join(
        filter(None, [str(_HERE / "template"), os.environ.get("JUPYTER_PATH")])
    )
    from llmlab.ui import kernels

    kernels.warm_up()  # while Voilà is imported here
    _server(f"http://127.0.0.1:{port}/voila/render/home.ipynb?token={token}", ready).launch_instance(
        argv=[], config_file_paths=[], config=_config(port, token, linger)
    )


def _server(address: str, ready: Callable[[str], None]) -> Any:
    from tornado.web import RequestHandler
    from voila.app import Voila  # type: ignore[import-untyped]

    class Left(RequestHandler):
        """A page says that it was left. It ends when nobody came back for some time, and not in the middle of a run."""

        def check_xsrf_cookie(self) -> None:
            """Such a message carries none, and does nothing."""

        def post(self, _: str) -> None:
            self.set_status(204)

    class Server(Voila):  # type: ignore[misc]  # Voilà has no types
        def launch_browser(self) -> None:
            ready(address)

        def init_handlers(self) -> list[Any]:
            return [(rf"{self.server_url}voila/api/shutdown/(.*)", Left), *super().init_handlers()]

    return Server


def _config(port: int, token: str, linger: int) -> Any:
    from traitlets.config import Config

    from llmlab.ui.kernels import FORKS, Kernels

    config = Config()
    config.IdentityProvider.cookie_options = {"SameSite": "Strict"}
    config.Voila.update(
        ip="127.0.0.1", port=port, port_retries=0, token=token, open_browser=True, root_dir=str(_HERE / "pages"),
        tornado_settings={"headers": {"Content-Security-Policy": _POLICY}}, log_level="ERROR",
    )  # fmt: skip
    config.VoilaConfiguration.update(
        template="llmlab",
        multi_kernel_manager_class=Kernels,
        preheat_kernel=not FORKS,  # a fork is as warm, and new: what it shows is of now
        default_pool_size=1,
        show_tracebacks=True,  # what goes wrong before a panel is there is for the owner of this machine to see
        extension_allowlist=_EXTENSIONS,
    )
    if FORKS:
        config.KernelManager.transport = "ipc"  # for this user alone
    config.MappingKernelManager.update(cull_idle_timeout=linger, cull_interval=max(1, linger // 6))
    return config


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DataError(
                f"port {port} cannot be used ({error.strerror}); take another, or 0 for a free one"
            ) from None
        return int(probe.getsockname()[1])
