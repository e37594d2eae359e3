"""The persistent cache, in processes of their own: it is off until asked for, and then found again."""

import os
import subprocess
import sys

import pytest

import jnn

TRAINING = """
import logging, sys, warnings
import jax, numpy as np, jnn
if sys.argv[1:]:
    print(jnn.enable_compilation_cache(*sys.argv[2:]))
events = []
jax.monitoring.register_event_listener(lambda event, **more: events.append(event))
x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
result = jnn.fit(jnn.mlp([1, 2, 1]), jnn.likelihoods.Gaussian(), x, x, key=jax.random.key(0), epochs=2)
print(events.count("/jax/compilation_cache/cache_misses"), float(result.params[0]["W"][0, 0]))
"""


def lines(tmp_path, *arguments):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "caches")}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.splitlines()


def test_programs_are_found_by_the_next_process(tmp_path):
    folder, first = lines(tmp_path, "cache")
    assert folder == str(tmp_path / "caches" / "jnn")
    again, second = lines(tmp_path, "cache", folder)
    assert again == folder
    assert int(first.split()[0]) >= 2  # the start and the training
    assert second.split()[0] == "0"
    assert first.split()[1] == second.split()[1]


def test_without_the_call_nothing_is_kept(tmp_path):
    lines(tmp_path)
    assert not (tmp_path / "caches").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        jnn.enable_compilation_cache(tmp_path / "file")
