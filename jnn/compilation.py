"""Keeping compiled programs from one process to the next."""

import os
import pathlib

import jax


def enable_compilation_cache(path: str | os.PathLike | None = None) -> pathlib.Path:
    """Let JAX keep what it compiles in a folder, and find it there in later processes.

    A short script then starts in a fraction of the time. It is JAX's own persistent compilation cache, for everything
    that JAX compiles in this process from now on; programs are found again only by the same versions of JAX and XLA on
    the same kind of machine. jnn never calls this by itself.

    Args:
        path: the folder, made if it does not exist; `$XDG_CACHE_HOME/jnn` (`~/.cache/jnn`) by default. Whoever can
            write to it can put programs into yours: let nobody else.

    Returns:
        The folder.

    Raises:
        OSError: if the folder cannot be made or written to.
    """
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "jnn" if path is None else pathlib.Path(path)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"expected a folder that can be written to, got {folder}")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what took a second to compile is kept, and a small network's program takes less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
