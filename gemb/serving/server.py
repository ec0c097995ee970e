"""Runs a server: loads and warms, answers, and drains when it is asked to stop."""

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import NamedTuple

import uvicorn

from gemb.checks import UserError
from gemb.inference.cross_encoder import CrossEncoder
from gemb.serving import spot_check
from gemb.serving.classifying import open_classifier
from gemb.serving.experiments.exposures import Exposures
from gemb.serving.experiments.running import Experiments
from gemb.serving.hosted import FollowHost
from gemb.serving.http.app import make_app
from gemb.serving.http.web import Keys, log_line
from gemb.serving.popular import others, read_popular
from gemb.serving.releases import Follow, describe, watch
from gemb.serving.retrieval import loaded_model, open_folder
from gemb.serving.state import Settings, State
from gemb.store.keyed import open_keyed

_KEEP_ALIVE = 75  # seconds; more than the 60 after which balancers close idle connections
_FINISH = 30  # seconds that requests in flight may take after the listener is closed


class Places(NamedTuple):
    """What is served.

    Attributes:
        models: folders or names of models.
        indexes: folders of `gemb index`.
        releases: stores of versions.
        users: address of a key store of user vectors; "" for none.
        users_name: of the key store, and of the index, on their servers.
        rerankers: folders of cross-encoders.
        classifiers: folders of `gemb classify`.
        max_length: tokens that texts are cut to; 0 for each model's own limit.
        budget: padded tokens in a batch; 0 for the default of the device.
        experiments: file of experiments; "" for none.
        exposures: file that answers of experiments are logged to.
        popular: list of popular items, or folder of a recommender; "" for none.
        index_host: address of an index host; "" for none.
        corpus: folder or file with the texts of the host's documents; "" for none.
    """

    models: Sequence[str] = ()
    indexes: Sequence[str] = ()
    releases: Sequence[str] = ()
    users: str = ""
    users_name: str = "vectors"
    rerankers: Sequence[str] = ()
    classifiers: Sequence[str] = ()
    max_length: int = 0
    budget: int = 0
    experiments: str = ""
    exposures: str = ""
    popular: str = ""
    index_host: str = ""
    corpus: str = ""


def load(state: State, places: Places) -> "list[Follow | FollowHost]":
    """Opens and warms everything; not in the event loop.

    Returns:
        The stores to follow.

    Raises:
        UserError: something cannot be opened.
    """
    options = {"max_length": places.max_length, "budget": places.budget}
    if places.popular:
        state.popular = read_popular(places.popular)
    for place in places.models:
        loaded_model(place, state.models, **options)
    for folder in places.indexes:
        name, chain = open_folder(folder, state.models, **options)
        if name in state.chains:
            raise UserError(f"{folder}: another index is named {name}; rename one of the folders")
        if state.popular and chain.steps:
            kept = others(chain.steps[0], state.popular)
            chain = dataclasses.replace(chain, others=kept)
        state.chains[name] = chain
        for step in (*chain.steps, *chain.others.values()):
            step.warm()
    if places.users:
        state.users = open_keyed(places.users, name=places.users_name)
    for place in places.rerankers:
        name = str(place).rstrip("/").rpartition("/")[2]
        state.rerankers[name] = CrossEncoder(place)
    for folder in places.classifiers:
        name, served = open_classifier(folder, state.models, **options)
        if name in state.classifiers:
            raise UserError(f"{folder}: another classifier is named {name}; rename one of them")
        state.classifiers[name] = served
    follows: list[Follow | FollowHost] = []
    made = [functools.partial(Follow, state, store, **options) for store in places.releases]
    if places.index_host:
        host = places.index_host, places.users_name, places.corpus
        made.append(functools.partial(FollowHost, state, *host))
    for make in made:
        follow = make()
        follow.look()
        if follow.error:
            raise UserError(follow.error)
        follows.append(follow)
    for model in state.models.values():
        for tower in model.towers:
            state.batcher.expect(tower)
    describe(state)
    spot_check.check(state)
    state.batcher.start()
    state.warm = True
    return follows


class Server(uvicorn.Server):
    """uvicorn, with a drain: first not ready, then no new connections, then the end.

    Args:
        config: of uvicorn.
        state: of the server.
        shell: of the application.
        announce: called when connections are accepted.
    """

    def __init__(self, config: uvicorn.Config, state: State, shell, announce=None):
        super().__init__(config)
        self._state, self._shell, self._asked = state, shell, 0
        self._announce = announce
        self._drain_ends = float("inf")

    def handle_exit(self, sig: int, frame) -> None:
        """The first signal drains, the second one does not wait for requests."""
        self._asked += 1
        if self._asked > 1:
            self.should_exit = self.force_exit = True
            return
        self._state.draining = self._shell.draining = True
        self._drain_ends = time.monotonic() + self._state.settings.drain_delay

    async def startup(self, sockets=None) -> None:
        """Begins to listen."""
        await super().startup(sockets=sockets)
        if self._announce is not None:
            self._announce()

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second."""
        if time.monotonic() >= self._drain_ends:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    places: Places,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    keys: Keys | None = None,
    log: bool = True,
    announce=print,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        places: what to serve.
        host, port: where; port 0 takes a free one.
        settings: of the server.
        keys: who may ask; None lets everybody ask, and switches changes off.
        log: whether each request is a line of JSON on stderr.
        announce: called with one line when the server is ready.

    Raises:
        UserError: something cannot be opened, or the port is taken.
    """
    state = State(settings)
    try:
        follows = load(state, places)
        experiments = experiments_of(state, places)
        app = make_app(state, follows, keys or Keys(), log=log, experiments=experiments)
        config = uvicorn.Config(
            app, host=host, port=port, log_level="critical", access_log=False, lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=_FINISH,
            server_header=False, date_header=False, proxy_headers=False, ws="none",
        )  # fmt: skip
        try:
            socket = config.bind_socket()
        except (SystemExit, OSError):
            raise UserError(
                f"--port: {host}:{port} cannot be listened on; choose another"
            ) from None
        # asyncio sets this only on sockets whose protocol is named; without it the kernel holds the
        # body of an answer back for 40 ms. Accepted connections inherit it.
        socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        address = "{}:{}".format(*socket.getsockname()[:2])
        server = Server(config, state, app.shell, functools.partial(announce, address))
        loop = config.get_loop_factory()  # of uvloop, where it is installed
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run(server, socket, state, follows, experiments))
        log_line({"event": "stopped", "inflight": app.shell.inflight})
    finally:
        state.close()


async def run(
    server: Server,
    socket,
    state: State,
    follows: "Sequence[Follow | FollowHost]",
    experiments: Experiments | None = None,
) -> None:
    """Answers on a socket, and follows stores, until the server is asked to stop."""
    seconds = state.settings.watch
    looks = [(each.look, seconds) for each in follows]
    looks.append((functools.partial(spot_check.check, state), spot_check.EVERY))
    if experiments is not None:
        looks.append((experiments.look, seconds))
    tasks = [asyncio.ensure_future(watch(state, *look)) for look in looks]
    try:
        await server.serve(sockets=[socket])
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        socket.close()


def experiments_of(state: State, places: Places) -> Experiments | None:
    """The experiments of a file; None for none.

    Raises:
        UserError: the file is broken, or the log cannot be written.
    """
    if not places.experiments:
        return None
    log = Exposures(places.exposures) if places.exposures else None
    return Experiments(state, places.experiments, log)
