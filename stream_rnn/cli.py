"""The command line: `stream-rnn COMMAND`.

Exit codes: 0 done; 1 it failed while running (a full disk, a broken connection, unusable state); 2 wrong
usage or unreadable input; 130 ended by Ctrl-C. Errors are one line on standard error and never a traceback;
STREAM_RNN_DEBUG=1 shows where they came from. A reader that goes away (`| head`) ends a command quietly.

Each command's module is imported when that command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from stream_rnn import __version__
from stream_rnn.errors import ConfigError, InputError, StreamRnnError
from stream_rnn.hints import nearest

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
examples:
  stream-rnn demo                                     watch it learn a real sensor stream
  stream-rnn eval sensors.csv --target temperature    how well would it forecast my data?
  stream-rnn eval log.jsonl.gz --target load --key host --horizon 12 --report load.html
  zcat *.gz | stream-rnn eval - --format csv --target price --json

exit codes: 0 done, 1 failed while running, 2 wrong usage or input, 130 Ctrl-C.
`stream-rnn COMMAND --help` has each command's own examples.
"""


_EVAL_EPILOG = """\
examples:
  stream-rnn eval sensors.csv --target temperature
  stream-rnn eval sensors.csv --target temperature --key room --report sensors.html
  stream-rnn eval load.parquet --target load --horizon 24 --out forecasts.csv
  stream-rnn eval log.jsonl.gz --target latency --set model.k1=8 --set model.hidden=64 --json
  tail -n 10000 live.csv | stream-rnn eval - --format csv --target price
  stream-rnn eval book.txt --task text                 bits per byte, each guessed before it is learnt

the table:
  MAE, RMSE   mean absolute and root mean square error of the forecasts
  last value  the same of forecasting "as the last value of this key": the bar to be better than
  better by   1 - error / the last value's error, on the same rows

--json prints: events (rows read), predicted (of them, those forecast before they came), skipped (unusable),
scored (pairs of actual and predicted), mae, rmse, skill_mae, skill_rmse, baselines, score (geometric mean over
the series of error / last value's error), intervals (of each level: coverage, mean width, Winkler score), experts
(shares in the end), alerts (by kind), events_per_s, updates, config; targets and ahead where several. With --report
also gradient_reach: the norm of the loss's gradient by how many events back, and whether k2 is too short or too long.
"""


_DEMO_EPILOG = """\
examples:
  stream-rnn demo
  stream-rnn demo --fast --out glucose.png
  stream-rnn demo | cat                       plain lines
"""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that name the nearest valid word."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Exit 2 after one line."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, with a hint for a mistyped option."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            used = self._command(getattr(found, "command", None))
            options = [o for o in used._option_string_actions if o.startswith("--")]
            used.error(f"there is no option or argument {rest[0]!r}{nearest(rest[0].split('=')[0], options)}")
        return found

    def _command(self, name: str | None) -> argparse.ArgumentParser:
        """The parser of that command, or this one."""
        parsers = (a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return next((p[name] for p in parsers if name in p), self)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            names = ", ".join(action.choices)
            self.error(f"there is no command {value!r}{nearest(str(value), list(action.choices))}; commands: {names}")
        super()._check_value(action, value)


def parser() -> Parser:
    """The parser of the whole command line."""
    top = Parser(
        prog="stream-rnn",
        description="Learns a recurrent network from a stream; each event is forecast before it is learnt.",
        epilog=_EPILOG,
    )
    top.add_argument("--version", action="version", version=f"stream-rnn {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    _eval(commands)
    _demo(commands)
    _warmup(commands)
    if importlib.util.find_spec("stream_rnn.commands") is not None:
        importlib.import_module("stream_rnn.commands").register(commands)
    return top


def _eval(commands: Any) -> None:
    command = commands.add_parser(
        "eval",
        help="how well would it forecast this file?",
        description="Reads a file from its first row to its last. Each row is forecast before it is seen, scored "
        "against what came and against the last value, then learnt: the scores of a live run, from its very beginning.",
        epilog=_EVAL_EPILOG,
    )
    command.add_argument("file", metavar="FILE", help="CSV, JSON lines or Parquet, also with .gz; - is standard input")
    what = command.add_argument_group("what to forecast, from what")
    what.add_argument(
        "--task",
        choices=("forecast", "regress", "classify", "text"),
        help="regress, classify: predict --target of each row from its other columns, then learn it, also where it "
        "comes in a later row (--set event.id=NAME); text: guess the bytes (or characters, "
        "--set model.unit=chars) of FILE one by one (default: forecast)",
    )
    what.add_argument("--target", action="append", metavar="NAME", help="column to forecast (repeatable)")
    what.add_argument(
        "--key", action="append", metavar="NAME", help="column that tells series apart (repeatable: both together)"
    )
    what.add_argument(
        "--time",
        metavar="NAME",
        help="column with the time: ISO 8601, or epoch in s, ms, µs or ns "
        "(default: timestamp, datetime, time, date or ts, if there is one)",
    )
    what.add_argument("--features", metavar="A,B", help="columns to learn from besides (default: every numeric one)")
    what.add_argument("--horizon", type=positive_int, metavar="N", help="forecast the next N events, not just one")
    what.add_argument("--limit", type=positive_int, metavar="N", help="stop after N events")
    what.add_argument("--format", choices=("csv", "json"), help="where the name doesn't say it (standard input: json)")
    model = command.add_argument_group("the model")
    model.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="a setting, such as model.k1=4 (repeatable)"
    )
    model.add_argument(
        "--config", metavar="TOML", help="take [event] and [model] from a config file; options win over it"
    )
    model.add_argument(
        "--max-updates", type=positive_int, metavar="N", help="text: learn N times, then guess on without learning"
    )
    out = command.add_argument_group("what to show")
    out.add_argument(
        "--metric", action="append", metavar="NAME", help="a metric of river's besides, such as R2 (repeatable)"
    )
    out.add_argument(
        "--baseline",
        action="append",
        metavar="river:MODEL",
        help="a model of river's beside ours, such as river:linear_model.LinearRegression (repeatable)",
    )
    out.add_argument("--json", action="store_true", help="one JSON object on standard output instead of the table")
    out.add_argument("--out", metavar="FILE", help="every forecast: .csv, .jsonl or .parquet")
    out.add_argument("--plot", metavar="PNG", help="picture: forecasts, intervals, error, experts, coverage")
    out.add_argument("--report", metavar="HTML", help="the same and more as one self-contained page")
    out.add_argument("--quiet", "-q", action="store_true", help="nothing on standard error but errors")
    command.set_defaults(run=_later("stream_rnn.evaluate"))


def _demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="watch it learn a real sensor stream",
        description="Plays half a year of one person's blood glucose, measured every 5 minutes, and learns it from "
        "nothing while you watch: the curve, the forecast half an hour ahead, the error beside the last value's. "
        "The readings come with the package bokeh-sampledata (public domain); nothing is downloaded.",
        epilog=_DEMO_EPILOG,
    )
    command.add_argument("--fast", action="store_true", help="as fast as it learns, instead of in about 45 seconds")
    command.add_argument(
        "--seconds", type=positive_float, default=45.0, metavar="S", help="length of the show (default 45)"
    )
    command.add_argument("--events", type=positive_int, metavar="N", help="only the first N of the 52,281 readings")
    command.add_argument(
        "--out",
        default="stream-rnn-demo.png",
        metavar="PNG",
        help="where the picture goes (default: stream-rnn-demo.png in this folder)",
    )
    command.add_argument("--plain", action="store_true", help="lines of text even on a terminal")
    command.set_defaults(run=_later("stream_rnn.demo"))


def _warmup(commands: Any) -> None:
    command = commands.add_parser(
        "warmup",
        help="compile the kernels now, not at the first event",
        description="Compiles every kernel into the disk cache (once per version and CPU; a minute or so), so that "
        "later commands start at once: in a Dockerfile, or after an upgrade. STREAM_RNN_CACHE_DIR moves the cache.",
        epilog="examples:\n  stream-rnn warmup\n  stream-rnn warmup --cell gru",
    )
    command.add_argument("--cell", action="append", choices=("gru", "lstm", "elman"), help="only this one (repeatable)")
    command.set_defaults(run=_later("stream_rnn.warmup"))


def _later(module: str) -> Callable[[argparse.Namespace], int]:
    """`run` of a module that is imported only then."""

    def run(args: argparse.Namespace) -> int:
        return int(importlib.import_module(module).run(args))

    return run


def positive_int(text: str) -> int:
    """An argument that must be a whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1")
    return value


def positive_float(text: str) -> float:
    """An argument that must be a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    top = parser()
    try:
        args = top.parse_args(arguments)
        if args.command is None:
            top.print_help()
            return USAGE
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except SystemExit as e:  # argparse's way out, after --help or an error
        return e.code if isinstance(e.code, int) else USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return OK
    except KeyboardInterrupt:
        return _say("stopped by Ctrl-C", INTERRUPTED)
    except (ConfigError, InputError) as e:
        return _say(e, USAGE)
    except StreamRnnError as e:
        return _say(e, FAILED)
    except OSError as e:
        return _say(f"{e.filename or 'input or output'}: {e.strerror or e}", FAILED)


def _say(what: Exception | str, code: int) -> int:
    """One line on standard error."""
    if isinstance(what, Exception) and os.environ.get("STREAM_RNN_DEBUG"):
        raise what
    print(f"stream-rnn: {' '.join(str(what).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
