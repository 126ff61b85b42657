"""Every example runs as its own process and keeps the promise that it asserts."""

import pathlib
import subprocess
import sys

import pytest

from stream_rnn import config

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_the_example_runs_and_asserts_what_it_prints(path, tmp_path):
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=300)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr
    assert "assert " in path.read_text(), "an example asserts what it prints"
    assert done.stdout.strip()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_the_job_has_only_settings_that_there_are(path):
    assert config.load(path, environ={}).event.target
