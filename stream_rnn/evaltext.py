"""`stream-rnn eval FILE --task text`: how well is a text guessed, each byte or character before it is learnt?

One long sequence, cut into segments of k1 symbols that are learnt one by one, with the state carried across. The score
is in bits per byte: what the text would take if it were compressed with these guesses, over its length (8: nothing is
known; plain English of a good book: about 2).
"""

from __future__ import annotations

import argparse
import codecs
import gzip
import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from stream_rnn import config, configfile
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.eval_request import text_bytes
from stream_rnn.frequency import Frequencies
from stream_rnn.progress import Progress
from stream_rnn.textmodel import TextModel

_PIECE_BYTES = 4096  # at a time; no result depends on it
_FOR_NUMBERS = ("target", "key", "time", "features", "horizon", "format", "out", "plot", "report")


class Score(NamedTuple):
    """Sums over a text: bytes, characters (0: bytes are the unit), bits by each way of guessing, seconds."""

    bytes: int
    characters: int
    bits: dict[str, float]
    seconds: float
    stopped: bool


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    for option in _FOR_NUMBERS:
        if getattr(args, option, None):
            raise ConfigError(f"--{option} is not for --task text: the whole file is the text; `stream-rnn run` "
                              "learns texts in the fields of events")  # fmt: skip
    model = TextModel(**settings_of(args))
    name = "standard input" if args.file == "-" else Path(args.file).name
    score = evaluate(model, args.file, name, args.limit, quiet=args.quiet)
    if not score.bytes:
        raise InputError(f"{name} is empty")
    told = result(score, model)
    print(json.dumps(told) if args.json else "\n".join(table(name, told)))
    return 130 if score.stopped else 0


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What [model] says in the config file, then --set, then the options."""
    document = configfile.read(args.config, args.set or [], os.environ)
    document.check_names((), document.tree, ["name", "kafka", *config.ENDS, *config.SECTIONS])
    settings: dict[str, Any] = msgspec.structs.asdict(document.section(("model",), config.Text))
    if args.max_updates is not None:
        settings["max_updates"] = args.max_updates
    return settings


def evaluate(model: TextModel, file: str, name: str, limit: int | None = None, quiet: bool = False) -> Score:
    """Take the text through the model and keep score; Ctrl-C ends it with what there is so far."""
    counted = Frequencies()
    size = _size(file)
    ours = alone = order0 = order2 = 0.0
    n_bytes = characters = 0
    stopped = False
    by_character = model.settings["unit"] == "chars"
    start = time.perf_counter()
    with Progress(name, quiet=quiet, unit="bytes") as progress:
        try:
            for piece, n in texts(pieces(file, name, limit), name, by_character):
                symbols = model.alphabet.symbols(piece)
                bits = model.learn_symbols(symbols)
                ours, alone = ours + float(bits[:, 0].sum()), alone + float(bits[:, 1].sum())
                bits = counted.step(symbols)
                more = model.alphabet.extra * int((symbols == 0).sum())
                order0, order2 = order0 + float(bits[:, 0].sum()) + more, order2 + float(bits[:, 1].sum()) + more
                n_bytes, characters = n_bytes + n, characters + len(symbols)
                progress.note = f"{ours / n_bytes:.3f} bits/byte"
                whole = min(size or limit or 0, limit or size or 0)
                progress.advance(n, min(1.0, n_bytes / whole) if whole else None)
        except KeyboardInterrupt:
            stopped = True
    seconds = time.perf_counter() - start
    bits_by = {"ours": ours, "network": alone, "order-0": order0, "order-2": order2}
    return Score(n_bytes, characters if by_character else 0, bits_by, seconds, stopped)


def pieces(file: str, name: str, limit: int | None) -> Iterator[bytes]:
    """The bytes of a file (gunzipped if it ends in .gz) or of standard input, up to `limit`."""
    left = sys.maxsize if limit is None else limit
    try:
        with _opened(file) as stream:
            while left and (piece := stream.read(min(_PIECE_BYTES, left))):
                left -= len(piece)
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name} cannot be read: {why}") from None


def _size(file: str) -> int | None:
    if file == "-":
        return None
    if Path(file).is_dir():
        raise InputError(f"{file} is a folder; name a file")
    if not Path(file).exists():
        raise InputError(f"{file}: there is no such file")
    return text_bytes(Path(file))


def _opened(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    return gzip.open(file) if file.lower().endswith(".gz") else Path(file).open("rb")  # type: ignore[return-value]


def texts(pieces: Iterator[bytes], name: str, decode: bool) -> Iterator[tuple[str | bytes, int]]:
    """Pieces of text and the bytes they took; as str if to be decoded."""
    if not decode:
        yield from ((piece, len(piece)) for piece in pieces)
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    for piece in pieces:
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is no UTF-8 text near byte {done + error.start:,} ({error.reason}); "
                             "leave model.unit=chars out, and its bytes are the unit") from None  # fmt: skip
        done += len(piece)
        if text:
            yield text, len(text.encode())


def result(score: Score, model: TextModel) -> dict[str, Any]:
    """The object that `eval --json` prints; of several numbers in bits all are over the same bytes."""
    per_byte = {name: bits / score.bytes for name, bits in score.bits.items()}
    out: dict[str, Any] = {"bytes": score.bytes, "bits_per_byte": per_byte["ours"]}
    if score.characters:
        out |= {"characters": score.characters, "bits_per_character": score.bits["ours"] / score.characters}
    out |= {
        "network_bits_per_byte": per_byte["network"],
        "baselines": {name: {"bits_per_byte": per_byte[name]} for name in ("order-0", "order-2")},
        "seconds": round(score.seconds, 3),
        "bytes_per_s": round(score.bytes / score.seconds, 1) if score.seconds > 0 else None,
        "updates": model.counters["updates"],
    }
    if score.stopped:
        out["stopped"] = True
    return out | {"config": model.settings}


def table(name: str, told: dict[str, Any]) -> list[str]:
    """The same for people."""
    rows = [("stream-rnn", told["bits_per_byte"])]
    if told["config"]["kind"] == "mixture":
        rows.append(("  its network alone", told["network_bits_per_byte"]))
    for order, of in (("order-2", "the last two"), ("order-0", "no")):
        rows.append((f"frequencies after {of} symbols", told["baselines"][order]["bits_per_byte"]))
    width = max(len(row[0]) for row in rows)
    head = f"{'':<{width}}  bits/byte"
    lines = [f"{name}: {told['bytes']:,} bytes" + (", stopped by Ctrl-C" if told.get("stopped") else ""), ""]
    lines += [head, "─" * len(head), *(f"{what:<{width}}  {bits:>9.3f}" for what, bits in rows), "─" * len(head)]
    if "characters" in told:
        lines.append(f"{told['bits_per_character']:.3f} bits a character, {told['characters']:,} characters")
    rate = f"{told['bytes_per_s']:,.0f} bytes/s, " if told["bytes_per_s"] else ""
    return [*lines, f"{told['seconds']:.1f} s, {rate}{told['updates']:,} updates"]

