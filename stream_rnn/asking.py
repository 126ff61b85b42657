"""`status`: asks a running job where it is, by its own pages; where none answers, its state is looked at.

With --probe it only says whether the job is live or ready, by its exit code: for a container's health checks, which
have no token to ask from outside with. Nothing heavy is imported for that.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from pathlib import Path
from typing import Any

from stream_rnn import config, listen
from stream_rnn.config import Http
from stream_rnn.errors import ConfigError, StreamRnnError
from stream_rnn.units import age

_WAIT_S = 5.0
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # how all addresses are reached from this machine


OK, NOT = 0, 1
_PROBES = {"live": "/healthz", "ready": "/readyz"}


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    is_config = args.state.endswith(".toml") and Path(args.state).is_file()
    settings = config.load(args.state).http if is_config else Http()
    if args.probe is not None:
        return _probe(args, settings)
    running = None if settings.listen is None else status_of(settings)
    if running is None:
        from stream_rnn.state_commands import status

        if settings.listen is not None:
            print(f"no job listens at {settings.listen}; its newest checkpoints:", file=sys.stderr)
        return status(args)
    found = [{**shard, "live": True} for shard in running["shards"]]
    print(json.dumps(found, default=str) if args.json else "\n".join(lines(running)))
    return OK


def _probe(args: argparse.Namespace, settings: Http) -> int:
    if settings.listen is None:
        raise ConfigError(f"--probe asks a job by its pages, and {args.state} has no http.listen")
    answer = _ask(settings, _PROBES[args.probe])
    if answer is None:
        raise StreamRnnError(f"no job listens at {settings.listen}")
    code, text = answer
    print(text.decode(errors="replace").strip())
    return OK if code == http.client.OK else NOT


def status_of(settings: Http) -> dict[str, Any] | None:
    """What the job says on /status; None where no job listens."""
    answer = _ask(settings, "/status")
    if answer is None:
        return None
    code, text = answer
    try:
        found = json.loads(text) if code == http.client.OK else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or "shards" not in found:
        raise StreamRnnError(f"what listens at {settings.listen} is no job of ours (/status: {code})")
    return found


def _ask(settings: Http, page: str) -> tuple[int, bytes] | None:
    """(status, text); None where nobody listens."""
    assert settings.listen is not None
    host, port = listen.address_of(settings.listen)
    token = listen.token_of(settings.token)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(_HERE.get(host, host), port, timeout=_WAIT_S)
    try:
        connection.request("GET", page, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException) as e:
        why = str(e) or type(e).__name__
        raise StreamRnnError(f"what listens at {settings.listen} does not answer {page}: {why}") from e
    finally:
        connection.close()
    if answer.status == http.client.UNAUTHORIZED:
        raise StreamRnnError(f"the job at {settings.listen} has another http.token than this config")
    return answer.status, text


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    why = ", ".join(f"shard {shard}: {reason}" if shard else reason for shard, reason in found["waiting_for"].items())
    told = [f"job {found['name']}: runs since {age(found['started_s'])}, {f'not ready ({why})' if why else 'ready'}"]
    for shard in found["shards"]:
        told += [f"shard {shard['shard'] or '(the only one)'}  {shard['state']}", *(f"  {s}" for s in _of_shard(shard))]
    return told


def _of_shard(s: dict[str, Any]) -> list[str]:
    behind = "" if s["lag"] is None else f", {s['lag']:,} behind the end"
    keys = s["keys"] + s["keys_away"]
    told = [f"{s['log']}: goes on at {'/'.join(map(str, s['position']))}{behind}",
            f"{s['events']:,} events, {s['predictions']:,} predictions, {keys:,} keys"]  # fmt: skip
    if (at := s["checkpoint"].get("at")) is not None:
        told.append(f"checkpoint {age(at)} ago, {s['since_checkpoint']:,} events since")
    if s["quality"]["ratio"] is not None:
        told.append(f"lately its error is {s['quality']['ratio']:.2f} × the last value's")
    if "bits_per_byte" in s["quality"]:
        told.append(f"lately a text costs {s['quality']['bits_per_byte']:.2f} bits a byte")
    told += [f"{output}: {mark or 'empty'}" for output, mark in s["marks"].items()]
    return told + [f"{what}: {s[what]}" for what in ("bad", "skipped", "gaps", "error") if s[what]]
