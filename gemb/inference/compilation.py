"""The persistent compilation cache: the first run compiles, later ones read."""

import jax

from gemb.files import cache_dir


def use_compilation_cache() -> None:
    """Stores compiled programs in the cache folder, unless the user has set another folder."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
