"""Serving: vectors, search and re-ranking over HTTP, from models, index folders and releases.

One process has one event loop and one thread that encodes. Requests are cut into texts, which wait
in two lanes; a batch holds texts of many requests, in a shape that was compiled before
(`batching`). Which version answers is decided by `gemb.store.chain`; here versions are loaded next
to each other and swapped (`retrieval`, `releases`). Processes are started, never forked: JAX
does not survive a fork.

The extra `serve` brings what this package imports.
"""
