"""The command line: `feeds`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from feeds import session
from feeds.comparison import Comparison, Playing, compare
from feeds.conflation import POLICIES
from feeds.conversion import TARGETS
from feeds.conversion import convert as convert_recordings
from feeds.errors import ConfigError, FeedsError
from feeds.events import EventHandler
from feeds.exchange import Endpoints, exchange_ids
from feeds.exchange import exchange as find_exchange
from feeds.inspection import Inspection, when
from feeds.inspection_page import page
from feeds.latency import Latency
from feeds.live.view import View
from feeds.recording import RawMessage, RawSource, open_session, session_files
from feeds.recording import repair as repair_recording
from feeds.session import Report
from feeds.sinks.json_lines import JsonLines
from feeds.sinks.terminal import Terminal
from feeds.subscription import CHANNELS, DEFAULT_CHANNELS

if TYPE_CHECKING:
    from feeds.live.handler import FeedHandlerConfig

__all__ = ["main"]

out = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)

Format = Literal["auto", "native", "collector", "cryptofeed", "tardis"]


def main() -> None:
    """Run the command line; mistakes of the user end with a message instead of a traceback."""
    try:
        commands(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (FeedsError, OSError) as error:
        _die(str(error))
    except Exception as error:
        if type(error).__name__ != "StrategyError":  # of `strategies`, which is not ours to import
            raise
        err.print_exception(suppress=[click])
        _die(str(error))


def _die(message: str, status: int = 1) -> NoReturn:
    err.print("error: ", style="red", end="")
    err.print(message)
    sys.exit(status)


# --- parameters -----------------------------------------------------------------------------------


def _time(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Read a point in time: ns since the epoch, or ISO 8601 (UTC where it names no zone)."""
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return int(value)
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        whole = int(moment.replace(microsecond=0).timestamp())
        return whole * 1_000_000_000 + moment.microsecond * 1000
    raise click.BadParameter(f"expected ns since the epoch or a time like 2026-11-22T10:30:00, found {value!r}")


def _speed(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """Read "max", or a factor of the recorded pace."""
    if value == "max":
        return None
    with contextlib.suppress(ValueError):
        if (speed := float(value)) > 0 and math.isfinite(speed):
            return speed
    raise click.BadParameter(f"expected 'max' or a factor above 0, found {value!r}")


def _faults(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[Any]:
    """Read faults of the simulator and of the transport, each NAME,FIELD=VALUE,..."""
    from feeds.simulator import AnyFault, AnyTransportFault

    found = []
    for text in values:
        name, *fields = text.split(",")
        given = {"type": name} | {key: value for key, _, value in (field.partition("=") for field in fields)}
        try:
            found.append(msgspec.convert(given, AnyFault | AnyTransportFault, strict=False))
        except msgspec.ValidationError as error:
            raise click.BadParameter(f"{text}: {error}") from None
    return found


def _load_strategy(spec: str | None) -> EventHandler | None:
    """Return an instance of MODULE:CLASS; modules of the current folder count."""
    if spec is None:
        return None
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise click.BadParameter(f"expected MODULE:CLASS, found {spec!r}", param_hint="--strategy")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(f"expected an importable MODULE:CLASS, found {spec!r}: {error}") from None
    handler = found() if callable(found) else found
    if not isinstance(handler, EventHandler):
        raise click.BadParameter(f"expected a Strategy or an EventHandler, found {type(handler).__name__}")
    return handler


def _channels(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_channel_option = click.option(
    "--channels",
    default=",".join(DEFAULT_CHANNELS),
    show_default=True,
    help=f"Comma-separated, of: {', '.join(CHANNELS)}.",
)
_policy_option = click.option(
    "--conflation",
    "policy",
    type=click.Choice(POLICIES),
    default="batch",
    show_default=True,
    help="batch: once per socket read and instrument, the newest state. drained: once per all that has arrived. "
    "none: every update.",
)
_strategy_option = click.option(
    "--strategy", metavar="MODULE:CLASS", help="A strategy of yours; modules of the current folder are found."
)
_duration_option = click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds; else Ctrl-C.")
_busy_poll_option = click.option(
    "--busy-poll", is_flag=True, help="Never sleep between messages: takes a processor for itself, saves waking up."
)
_latency_option = click.option("--latency", is_flag=True, help="Measure where the time goes, stage by stage.")
_endpoint_options = [
    click.option("--ws-url", help="WebSocket address instead of the exchange's, as `feeds simulate` prints it."),
    click.option("--rest-url", help="REST address instead of the exchange's."),
]
_format_option = click.option("--format", type=click.Choice(get_args(Format)), default="auto", show_default=True)
_exchange_option = click.option("--exchange", help="For formats that do not name it, where the content does not tell.")


_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False),
    help="A TOML file of feeds, instead of EXCHANGE and SYMBOLS: see feeds.live.handler.load_config.",
)
_cache_option = click.option(
    "--no-cache", is_flag=True, help="Fetch the lists of instruments, which else are kept on disk for a day."
)


def _feeds(
    exchange: str | None,
    symbols: tuple[str, ...],
    channels: str,
    policy: str,
    ws_url: str | None,
    rest_url: str | None,
    config_file: str | None,
    no_cache: bool,
) -> FeedHandlerConfig:
    """Return what the command line, or the file that it names, says about feeds."""
    from feeds.live.handler import ExchangeConfig, FeedHandlerConfig, load_config

    if config_file is not None:
        if exchange is not None or ws_url or rest_url or _is_given("channels"):
            raise click.UsageError("expected EXCHANGE, SYMBOLS, channels and addresses in the --config file alone")
        config = load_config(config_file)
        if _is_given("policy"):
            config = msgspec.structs.replace(config, policy=policy)
        return _with_cache(config, no_cache)
    if exchange is None or not symbols:
        raise click.UsageError("expected EXCHANGE and SYMBOLS, or --config FILE")
    own = find_exchange(exchange).endpoints
    endpoints = Endpoints(ws=ws_url or own.ws, rest=rest_url or own.rest)
    feed = ExchangeConfig(exchange=exchange, symbols=symbols, channels=_channels(channels), endpoints=endpoints)
    return _with_cache(FeedHandlerConfig(feeds=(feed,), policy=policy), no_cache)


def _with_cache(config: FeedHandlerConfig, no_cache: bool) -> FeedHandlerConfig:
    """Return the configuration with the user's cache folder, unless it names one; with none for `--no-cache`."""
    from feeds.live.instrument_lists import cache_folder

    folder = None if no_cache else config.instruments.cache_folder or str(cache_folder(os.environ))
    return msgspec.structs.replace(config, instruments=msgspec.structs.replace(config.instruments, cache_folder=folder))


def _is_given(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is not click.core.ParameterSource.DEFAULT


def _with_options(options: list[Callable[..., Any]]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[RawSource], None] | None]:
    """Show how far a file is read, where somebody is watching."""
    if not err.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        bar = bars.add_task(what)

        def show(source: RawSource) -> None:
            bars.update(bar, description=Path(source.path).name, completed=source.bytes_read, total=source.total_bytes)

        yield show


# --- commands -------------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="picows-feeds")
def commands() -> None:
    """Exchange market data: live, recorded, replayed, simulated.

    \b
    See it work, without a network:     feeds demo
    Serve a simulated exchange:         feeds simulate binance
    Watch, with that running:           feeds live binance BTC-USDT --ws-url ws://127.0.0.1:PORT --rest-url http://...
    Record, then replay a strategy:     feeds record binance BTC-USDT -o session.feeds
                                        feeds replay session.feeds --strategy my_module:MyStrategy
    """


@commands.command("exchanges")
def list_exchanges() -> None:
    """Say which exchanges are supported, and which channels of each."""
    names = exchange_ids()
    width = max(map(len, names))
    out.out("  ".join(("exchange".ljust(width), *CHANNELS)))  # whole, however wide the terminal is
    for name in names:
        offered = find_exchange(name).channels
        cells = (("yes" if channel in offered else "-").ljust(len(channel)) for channel in CHANNELS)
        out.out("  ".join((name.ljust(width), *cells)).rstrip())


@commands.command()
@click.argument("exchange", required=False)
@click.argument("symbols", nargs=-1)
@_config_option
@_cache_option
@_channel_option
@_policy_option
@_strategy_option
@_duration_option
@_busy_poll_option
@_latency_option
@click.option(
    "--redraws", type=click.FloatRange(0.1, 10), default=2.0, show_default=True, help="Of the view, per second."
)
@_with_options(_endpoint_options)
def live(
    strategy: str | None,
    duration: float | None,
    busy_poll: bool,
    latency: bool,
    redraws: float,
    **wanted: Any,
) -> None:
    """Run a strategy on live data, or without one watch what arrives.

    SYMBOLS are ours (BTC-USDT, BTC-USDT-PERP) or the exchange's (BTCUSDT); several exchanges are named in a file, with
    --config. Without a strategy a terminal shows a view of all feeds, with latencies; where the output goes elsewhere
    there is a line for each status, and each second one for each symbol. Ctrl-C ends the session and prints its report.
    """
    options: dict[str, Any] = {"config": _feeds(**wanted), "duration": duration, "busy_poll": busy_poll}
    if strategy is None and out.is_terminal and not out.is_dumb_terminal:
        with View(redraws=redraws) as view:
            report = session.run_live(view.watch, on_start=view.follow, latency=True, **options)
    else:
        report = session.run_live(_load_strategy(strategy) or Terminal(out.out), latency=latency, **options)
    print_report(report)
    _check_recording(report)


@commands.command()
@click.argument("exchange", required=False)
@click.argument("symbols", nargs=-1)
@_config_option
@_cache_option
@click.option("-o", "--output", type=click.Path(), help="A new file; a folder with --rotate-*. A --config may name it.")
@click.option("--append", is_flag=True, help="Add a segment to a file that is there.")
@click.option("--rotate-bytes", type=click.IntRange(min=1), help="Begin a new file when one has so many bytes.")
@click.option("--rotate-interval", type=click.FloatRange(min=1), help="Seconds; 86400: a new file at midnight UTC.")
@click.option(
    "--on-full",
    type=click.Choice(["drop", "stop"]),
    default="drop",
    show_default=True,
    help="When the disk is full or slow.",
)
@_channel_option
@_policy_option
@_duration_option
@_busy_poll_option
@_latency_option
@_with_options(_endpoint_options)
def record(
    output: str | None,
    append: bool,
    rotate_bytes: int | None,
    rotate_interval: float | None,
    on_full: Literal["drop", "stop"],
    duration: float | None,
    busy_poll: bool,
    latency: bool,
    **wanted: Any,
) -> None:
    """Record everything that comes off the wire, until Ctrl-C.

    The recording keeps what arrived, before decoding, with the decisions that shaped the live run, and the digest of
    what a strategy would have been given: `feeds replay --check` compares. With --latency, on Linux, it also keeps when
    the kernel received each message. Several exchanges, named in a file with --config, are recorded together.
    """
    if append and (rotate_bytes or rotate_interval):
        raise click.UsageError(
            "expected --append or --rotate-*, found both: with rotation every run makes its own files"
        )
    config = _feeds(**wanted)
    settings = {"append": append, "rotate_bytes": rotate_bytes, "rotate_interval": rotate_interval, "on_full": on_full}
    given = {name: value for name, value in settings.items() if _is_given(name)}
    config = msgspec.structs.replace(
        config, record_to=output or config.record_to, recording=msgspec.structs.replace(config.recording, **given)
    )
    if config.record_to is None:
        raise click.UsageError("expected --output, or record_to in the --config file")
    report = session.run_live(EventHandler(), config=config, duration=duration, busy_poll=busy_poll, latency=latency)
    print_report(report)
    size = sum(os.path.getsize(file) for file in session_files(config.record_to))
    out.print(f"recorded to {config.record_to} ({size:,} bytes)")
    _check_recording(report)


def _check_recording(report: Report) -> None:
    """Fail where a recording has not become what it should be."""
    if report.recording_error is not None:
        _die(report.recording_error)
    if report.dropped:
        _die(f"{report.dropped:,} messages were dropped: the disk was slower than the feed")


@commands.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True))
@_strategy_option
@_policy_option
@click.option(
    "--speed", callback=_speed, default="max", help="max, or a factor of the recorded pace.", show_default=True
)
@click.option(
    "--from", "start", callback=_time, help="Deliver data received from then on; what is before builds the books."
)
@click.option(
    "--warm-up",
    type=click.FloatRange(min=0),
    help="Seconds before --from that build the books, instead of all; they sync at the next snapshot.",
)
@click.option("--to", "end", callback=_time, help="Stop at this receive time.")
@click.option(
    "--check", is_flag=True, help="Prove it: digest against the live run, books against the exchange's quotes."
)
@click.option("--reference", is_flag=True, help="Decode everything with the reference engine.")
@_latency_option
@_format_option
@_exchange_option
def replay(files: tuple[str, ...], strategy: str | None, check: bool, **options: Any) -> None:
    """Run a strategy on recordings, through the code that runs live.

    FILES are our recordings, or captures of the collector format (one `<ns> <json>` a line, gzip or plain). With
    --check the exit status is 1 unless everything that can be compared is equal.
    """
    with _progress("replaying") as progress:
        report = session.replay(
            _load_strategy(strategy) or EventHandler(), files, check=check, progress=progress, **options
        )
    print_report(report)
    if check and not print_checks(report):
        sys.exit(1)


@commands.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="A new file.")
def repair(file: str, output: str) -> None:
    """Copy what is whole in a damaged recording of ours, and say what was lost, and where."""
    with _progress("repairing") as progress:
        found = repair_recording(file, output, progress=progress)
    for damage in found.damages:
        out.print(str(damage))
    if found.damage_count > len(found.damages):
        out.print(f"and {found.damage_count - len(found.damages):,} more")
    if not found.was_complete:
        out.print("it had not been closed: its writer was killed, or is still writing")
    out.print(
        f"saved {found.messages:,} messages in {found.blocks:,} blocks to {output}; {found.lost_bytes:,} bytes lost"
    )


@commands.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--from", "start", callback=_time, help="Data received from then on; the index leads there.")
@click.option("--to", "end", callback=_time, help="Stop at this receive time.")
@_format_option
@_exchange_option
@click.option("-o", "--output", type=click.File("wb"), default="-", help="Standard output by default.")
def decode(
    files: tuple[str, ...], start: int | None, end: int | None, format: Format, exchange: str | None, output: Any
) -> None:
    """Print normalised events as JSON lines: what the wire says.

    \b
    Every book message gives a line, also while its book is not in sync; book_status lines stand beside.
    Numbers are exact decimal strings, times are ns since the epoch or null.
    """
    lines = JsonLines(output)
    with _progress("decoding") as progress:
        report = session.replay(
            lines,
            files,
            policy="none",
            start=start,
            warm_up=0,
            end=end,
            format=format,
            exchange=exchange,
            progress=progress,
        )
    lines.flush()
    _warn(report)


@commands.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("-o", "--output", required=True, type=click.Path(), help="A new file or folder.")
@click.option("--to", type=click.Choice(TARGETS), help="Otherwise the output's extension: .parquet, .npz, .feeds.")
@_format_option
@_exchange_option
def convert(files: tuple[str, ...], output: str, to: str | None, format: Format, exchange: str | None) -> None:
    """Write recordings as Parquet, tardis.dev's CSV, hftbacktest's arrays, or in our own format.

    \b
    parquet      a folder with a file per channel: exact decimals, times in ns (UTC); needs picows-feeds[export]
    tardis-csv   a folder with a gzip file per data type of tardis.dev
    hftbacktest  a folder with an .npz per instrument, or, named .npz, the file of the only one; needs the same
    native       a recording of ours, of whatever format was read: every command then reads it at full speed

    Several files are merged by receive time. Nothing is overwritten; what fails leaves nothing behind.
    """
    with _progress("converting") as progress:
        done = convert_recordings(files, output, to=to, format=format, exchange=exchange, progress=progress)
    if done.report is not None:
        _warn(done.report)
    for remark in done.remarks:
        err.print(remark)
    out.print(f"{done.messages:,} messages to {done.path} ({done.target}, {done.size:,} bytes)")


@commands.command()
@click.argument("first", metavar="A", type=click.Path(exists=True))
@click.argument("second", metavar="[B]", required=False, type=click.Path(exists=True))
@click.option("--reference", is_flag=True, help="Decode B, or A the second time, with the reference engine.")
@click.option(
    "--policy",
    "--conflation",
    "policies",
    type=click.Choice(POLICIES),
    multiple=True,
    default=("none",),
    show_default=True,
    help="Conflation of both; given twice, of each.",
)
@click.option("--ignore-ts-recv", is_flag=True, help="Do not compare receive times: two machines recorded.")
@click.option("--context", type=click.IntRange(min=0), default=3, show_default=True, help="Events to show before it.")
@_format_option
@_exchange_option
def diff(
    first: str, second: str | None, reference: bool, policies: tuple[str, ...], ignore_ts_recv: bool, **options: Any
) -> None:
    """Play two recordings, or one in two ways, and print the first event that differs.

    A and B are files or folders of any format. Without B, A is compared with itself under --reference or two --policy.
    The exit status is 0 where all events are equal, 1 where one differs, 2 for an error.
    """
    if len(policies) > 2:
        raise click.UsageError(f"expected --policy at most twice, found {len(policies)}")
    if second is None and not reference and len(set(policies)) < 2:
        raise click.UsageError("expected B, --reference or two different --policy, found nothing to compare A with")
    sides = (Playing(first, policies[0]), Playing(second or first, policies[-1], reference))
    try:
        with _progress("comparing") as progress:
            found = compare(*sides, ignore_ts_recv=ignore_ts_recv, progress=progress, **options)
    except (FeedsError, OSError) as error:
        _die(str(error), 2)
    for damage in found.damages:
        err.print(f"damaged recording: {damage}")
    if found.is_equal:
        out.print(f"equal: {found.equal:,} events")
    else:
        _print_difference(found, ignore_ts_recv)
        sys.exit(1)


@commands.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@_format_option
@_exchange_option
@click.option("--silence", type=float, default=5.0, show_default=True, help="Seconds without a message that are told.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per file; docs/inspection.md says what is in it."
)
@click.option("--html", type=click.Path(dir_okay=False), help="Write a page with plots, which needs no other file.")
def inspect(
    files: tuple[str, ...], format: Format, exchange: str | None, silence: float, as_json: bool, html: str | None
) -> None:
    """Say what is in recordings: spans, connections, rates, gaps, silences, bursts, clock skew, damage.

    \b
    feeds inspect session.feeds                     for a person
    feeds inspect session.feeds --html page.html    with plots of rate, latency, spread and depth over time
    feeds inspect session.feeds --json | jq .book_gaps

    Every file is read once, to its end, in constant memory: of what could be any number, 1,000 are listed and the
    others counted.
    """
    inspections = []
    for path in files:
        with _progress("inspecting") as progress:
            found = Inspection.of(path, format=format, exchange=exchange, silence=silence, progress=progress)
        if as_json:
            click.echo(json.dumps(found.as_dict()))
        elif html is None:
            found.print(out)
        if html is not None:
            inspections.append(found)
    if html is not None:
        Path(html).write_text(page(inspections), encoding="utf-8")
        if not as_json:
            out.print(f"wrote {html} ({os.path.getsize(html):,} bytes)")


@commands.command()
@click.argument("exchanges", nargs=-1)
@click.option("--symbols", help="As the exchange writes them: A,B,C. By default a few well-known ones.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the first exchange; the others count up.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order flow.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), default=1000.0, show_default=True, help="Orders per second."
)
@click.option("--recording", type=click.Path(exists=True), help="Serve this, of any format, instead of generating.")
@click.option(
    "--instruments",
    "lists",
    multiple=True,
    metavar="URL=FILE",
    help="A list of instruments that the recording lacks: the reply to a request, in a file.",
)
@_format_option
@_exchange_option
@click.option("--speed", callback=_speed, default="1", show_default=True, help="Of the recording: max, or a factor.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME,FIELD=VALUE,...",
    callback=_faults,
    help="Gap,symbol=BTCUSDT,at=5 or HalfOpen,at=10: those of feeds/simulator/README.md.",
)
@click.option(
    "--tls",
    type=click.Path(dir_okay=False, writable=True),
    help="Speak TLS; the file gets the certificate that clients have to trust, as by SSL_CERT_FILE.",
)
@click.option("--gap-every", type=click.FloatRange(min=0, min_open=True), help="Seconds between lost book messages.")
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as a JSON line per exchange, for programs.")
def simulate(
    exchanges: tuple[str, ...],
    symbols: str | None,
    port: int,
    seed: int,
    rate: float,
    recording: str | None,
    lists: tuple[str, ...],
    format: Format,
    exchange: str | None,
    speed: float | None,
    faults: Any,
    tls: str | None,
    gap_every: float | None,
    as_json: bool,
) -> None:
    """Serve exchanges' real protocols on loopback, until Ctrl-C: with generated order flow, or from a recording.

    \b
    feeds simulate binance okx kraken               generated, each on a port: subscribe to what you like
    feeds simulate --recording session.feeds        whatever exchange it is, as it was recorded, to any client
    feeds simulate binance --recording session.feeds   its streams, to clients that subscribe for themselves

    As it was recorded: every client gets a recorded connection, from its beginning, once it has sent a message, and the
    recorded answers, disconnects and REST replies. REST is on the port after --port. Recordings of ours have what a
    client needs; give others the lists of instruments, for example --instruments /api/v3/exchangeInfo=info.json.
    """
    if not exchanges:
        if recording is None:
            raise click.UsageError("expected exchanges to simulate, or --recording, found neither")
        _serve_recorded(recording, lists, format, exchange, math.inf if speed is None else speed, port, as_json)
        return
    import uvloop

    from feeds.simulator import AnyFault, Certificates, FaultProxy, Gap, Playback, SimulatedExchange

    names = [name.strip() for name in symbols.split(",")] if symbols else []
    playback = None
    if recording is not None:
        if len(exchanges) > 1:
            raise click.BadParameter(f"expected one exchange with --recording, found {len(exchanges)}")
        playback = Playback(lambda: _messages(recording, format, exchange), speed=math.inf if speed is None else speed)

    its_own = [fault for fault in faults if isinstance(fault, AnyFault)]
    of_transport = [fault for fault in faults if fault not in its_own]

    async def serve() -> None:
        certificates = None
        if tls is not None:
            certificates = Certificates()
            certificates.write_authority(tls)
        async with contextlib.AsyncExitStack() as stack:
            simulated = []
            next_port = port
            for name in exchanges:
                is_behind_proxy = bool(of_transport) or certificates is not None
                own_port = 0 if is_behind_proxy else next_port
                one = SimulatedExchange(
                    name, names, seed=seed, rate=rate, playback=playback, port=own_port, faults=its_own
                )
                simulated.append(await stack.enter_async_context(one))
                ws_url, rest_url = one.ws_url, one.rest_url
                if is_behind_proxy:
                    proxy = FaultProxy(ws_url, rest_url, faults=of_transport, certificates=certificates, port=next_port)
                    await stack.enter_async_context(proxy)
                    ws_url, rest_url = proxy.url(ws_url), proxy.url(rest_url)
                    one.lead_clients_to(ws_url)
                if port:  # REST may have one of its own, behind that of the WebSockets
                    next_port = int(rest_url.rpartition(":")[2]) + 1
                _announce(name, one.symbols[0], ws_url, rest_url, as_json)
            for number in itertools.count():
                await asyncio.sleep(gap_every or 3600)
                for one in simulated if gap_every is not None else ():
                    one.inject(Gap(symbol=one.symbols[number % len(one.symbols)]))

    try:
        uvloop.run(serve())
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _messages(recording: str, format: Format, exchange: str | None) -> Iterator[RawMessage]:
    with open_session(recording, format=format, exchange=exchange) as source:
        yield from source


def _serve_recorded(
    recording: str,
    lists: tuple[str, ...],
    format: Format,
    exchange: str | None,
    speed: float,
    port: int,
    as_json: bool,
) -> None:
    import uvloop

    from feeds.simulator import PlaybackError, RecordedExchange, SimulatedExchange

    given = []
    for text in lists:
        url, _, file = text.rpartition("=")
        if not url or not Path(file).is_file():
            raise click.BadParameter(f"expected URL=FILE, found {text!r}", param_hint="--instruments")
        given.append((url, Path(file).read_bytes()))
    recorded = RecordedExchange(recording, speed=speed, replies=given, format=format, exchange=exchange)

    async def serve() -> None:
        async with SimulatedExchange(recorded, port=port) as one:
            for name, symbol in recorded.contents.exchanges.items():
                _announce(name, symbol or "SYMBOL", one.ws_url, one.rest_url, as_json)
            for name, urls in recorded.contents.missing_lists().items():
                err.print(f"{name}: no list of instruments, which `feeds live` needs: --instruments {urls[0]}=FILE")
            await asyncio.Event().wait()

    try:
        uvloop.run(serve())
    except PlaybackError as error:
        _die(str(error))


def _announce(exchange: str, symbol: str, ws_url: str, rest_url: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"exchange": exchange, "ws_url": ws_url, "rest_url": rest_url}))
    else:
        out.print(f"{exchange} on {ws_url} and {rest_url}; Ctrl-C ends it. In another terminal:")
        out.print(f"  feeds live {exchange} {symbol} --ws-url {ws_url} --rest-url {rest_url}")
    sys.stdout.flush()


@commands.command()
@click.option("--duration", type=click.FloatRange(min=1), default=10.0, show_default=True, help="Seconds of live data.")
@click.option("--rate", type=click.FloatRange(min=1), default=5000.0, show_default=True, help="Orders per second.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order flow.")
@click.option("--keep", type=click.Path(dir_okay=False), help="Keep the recording under this name.")
def demo(duration: float, rate: float, seed: int, keep: str | None) -> None:
    """The whole thing on loopback, no network.

    Simulated exchange -> live feed -> example strategy -> recording -> replay of it, and the proof that both runs made
    the same callbacks. Now and then the exchange loses a book message: watch the gap being found and repaired.
    """
    from feeds.demo import run_demo

    with tempfile.TemporaryDirectory() as folder:
        recording = keep or os.path.join(folder, "demo.feeds")
        if not run_demo(out, recording, duration=duration, rate=rate, seed=seed):
            sys.exit(1)


# --- what is printed ------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """Print a session's report as a table."""
    out.print(report_table(report))
    if report.latency is not None:
        out.print(latency_table(report.latency))
    if report.order_books:
        out.print(book_table(report))
    _warn(report)


def report_table(report: Report) -> Table:
    """Return the numbers of a session as a table."""
    table = Table(title=f"{report.mode} session", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    rate = report.messages / report.elapsed if report.elapsed else 0
    rows: list[tuple[str, str, str]] = [
        ("messages", f"{report.messages:,}", f"{rate:,.0f} per second, {report.payload_bytes:,} bytes"),
    ]
    if report.mode == "live":
        rows.append(("frames", f"{report.frames:,}", f"{report.connects} connects"))
    rows += [
        (
            "bursts",
            f"{report.batches:,}",
            "of messages: socket reads" + (", drained" if report.policy == "drained" else ""),
        ),
        (
            "callbacks",
            f"{report.callbacks:,}",
            f"{report.trades:,} trades, {report.quotes:,} quotes, {report.books:,} books",
        ),
        (
            "updates merged",
            f"{report.quotes_merged + report.books_merged:,}",
            f"{report.quotes_merged:,} quotes, {report.books_merged:,} book messages",
        ),
        ("not decoded", f"{report.superseded:,}", "of them: a newer one of the same burst says it all"),
        ("book messages", f"{report.applied:,}", f"applied to books, of {report.deltas:,}"),
        ("gaps", f"{report.gaps:,}", "found, each repaired by a new snapshot" if report.gaps else "none found"),
    ]
    if report.verified or report.mismatched:
        rows.append(
            ("checksums", f"{report.verified:,}", f"equal to the book's, of {report.verified + report.mismatched:,}")
        )
    rows.append(("digest", report.digest, "of all callbacks and their numbers"))
    for row in rows:
        table.add_row(*row)
    return table


def latency_table(latency: Latency) -> Table:
    """Return the stages that were measured as a table, in microseconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("latency, us")
    for heading in ("p50", "p99", "p99.9", "max", "measured"):
        table.add_column(heading, justify="right")
    for stage, figures in latency.to_dict().items():
        name = stage.replace("_", " ")
        if stage == "to_callback":
            name = "read to callback" if latency.is_live else "decode to callback"
        times = (f"{figures[heading] / 1000:,.2f}" for heading in ("p50", "p99", "p99.9", "max"))
        table.add_row(name, *times, f"{figures['count']:,}")
    return table


def book_table(report: Report) -> Table:
    """Return the books as they stood at the end."""
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("book", "left"),
        ("state", "left"),
        ("bid qty", "right"),
        ("best bid", "right"),
        ("best ask", "right"),
        ("ask qty", "right"),
        ("levels", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for book in report.order_books:
        bids, asks = book.exact(0)[:1], book.exact(1)[:1]
        table.add_row(
            book.instrument.symbol or book.instrument.raw_symbol,
            book.state.name,
            *(f"{n:f}" for n in reversed(bids[0])) if bids else ("-", "-"),
            *(f"{n:f}" for n in asks[0]) if asks else ("-", "-"),
            f"{book.bid_count:,}/{book.ask_count:,}",
        )
    return table


def print_checks(report: Report) -> bool:
    """Print what `--check` has compared; whether all of it is equal, and something was."""
    same = report.is_same
    if same is not None:
        verdict = "[green]equal to[/green]" if same else f"[red]differs from[/red] {report.recorded_digest},"
        out.print(f"digest {report.digest} {verdict} that of the live run", markup=True)
    for result in report.checks:
        colour = "green" if result.equal == result.compared else "red"
        out.print(
            f"books equal to quotes: [{colour}]{result.equal:,} of {result.compared:,}[/{colour}]"
            + (f", {result.without_quote:,} before the first quote" if result.without_quote else ""),
            markup=True,
        )
        for mismatch in result.mismatches:
            out.out(
                f"  {mismatch.instrument!r} book {mismatch.book_id}: {mismatch.book}, "
                f"quote {mismatch.quote_id}: {mismatch.quote}"
            )
    if same is None and not report.checks:
        out.print("nothing to compare: no digest of a live run, and no quotes that are numbered as the books are")
        return False
    return same is not False and all(result.equal == result.compared for result in report.checks)


def _print_difference(found: Comparison, ignore_ts_recv: bool) -> None:
    """Print where two replays part, and what came before."""
    event = found.first or found.second
    assert event is not None
    whose = f"{event.exchange} {event.raw_symbol}".rstrip()
    out.print(f"different: event {found.equal + 1:,}, received {when(event.ts_recv)}, {whose}")
    for equal in found.before:
        out.print(f"    {equal}")
    for side, seen in (("A", found.first), ("B", found.second)):
        out.print(f"  {side} {'has no more events' if seen is None else seen}")
    if found.first is not None and found.second is not None:
        for name, ours, theirs in found.first.differences(found.second, ignore_ts_recv=ignore_ts_recv):
            out.print(f"{name}: {ours} in A, {theirs} in B")


def _warn(report: Report) -> None:
    """Tell on stderr what was skipped."""
    for problem in report.problems.values():
        err.print(f"{problem.count:,} messages skipped, {problem.kind}: {problem.first}")
    for silent in report.silent_subscriptions:
        err.print(f"silent subscription: {silent}")
    for damage in report.damages:
        err.print(f"damaged recording: {damage}")
