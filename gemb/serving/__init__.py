"""Serving: vectors, search and re-ranking over HTTP, from models, index folders and releases.

One process has one event loop and, for each device, one thread that encodes. Requests are cut into
texts, which wait in two lanes (`lanes`), and a batch holds texts of many requests (`batcher`). Only
shapes that were compiled before are computed (`towers`). Which version answers is decided by
`gemb.store.chain`; here versions are loaded beside each other and swapped (`retrieval`,
`releases`). Processes are started anew, never forked: JAX does not survive a fork.

The extra `serve` brings what this package imports.
"""
