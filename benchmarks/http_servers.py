"""Requests per second of an HTTP server in Go, asked by `ab` with 8 connections that stay open."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import RATIO, Figure, ratios
from benchmarks.http_process import Way
from benchmarks.peers import ROOT
from benchmarks.stopwatch import FOLDER, module_folder
from tools import programs

COUNT, QUICK_COUNT = 2000, 500
CONNECTIONS = 8
_GROUP = "HTTP server in Go"
_RATE = re.compile(rb"Requests per second: +([0-9.]+)")
_START_SECONDS_MAX = 600
"""A first start compiles the program."""
_TICKS = os.sysconf("SC_CLK_TCK")


def figures(rounds: int, count: int) -> Iterator[Figure]:
    """Yield requests per second and the processor time of the server, for each way to run it."""
    module_folder()
    if shutil.which("ab") is None:
        print("ab is missing: the requests of the HTTP server are not measured")
        return
    paths = dict.fromkeys(Way, str(programs.fetch("http"))) | {Way.NATIVE: str(_build_native())}
    rates: dict[Way, list[float]] = {way: [] for way in Way}
    times: dict[Way, list[float]] = {way: [] for way in Way}
    for index in range(rounds + 1):
        for way in Way if index % 2 else reversed(Way):
            rate, seconds = _measure(way, paths[way], count)
            if index:  # The first round warms up.
                rates[way].append(rate)
                times[way].append(seconds * 1e6)
    for way in Way:
        yield Figure(group=_GROUP, name=f"{way}, wall", unit="/s", values=tuple(rates[way]))
        name = f"{way}, CPU of the server"
        yield Figure(group=_GROUP, name=name, unit="µs", values=tuple(times[way]))
    for other in (Way.UNWRITTEN, Way.NATIVE):
        values = ratios(times[Way.RECORDED], times[other])
        yield Figure(group=_GROUP, name=f"recorded / {other}, CPU", unit=RATIO, values=values)


def _build_native() -> Path:
    path = FOLDER / "http-native"
    source = ROOT / "fixtures" / "programs" / "http.go"
    environment = {**os.environ, "GO111MODULE": "off", "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", path, source], env=environment, check=True)
    return path


@contextmanager
def _serving(way: Way, path: str) -> Iterator[tuple[int, int]]:
    """Yield the process and the port of a server that answers."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        command = [sys.executable, "-m", "benchmarks.http_process", way, path, folder]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                port = int(process.stdout.readline())
                urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/count", timeout=_START_SECONDS_MAX
                ).close()
                yield process.pid, port
            finally:
                process.kill()


def _measure(way: Way, path: str, count: int) -> tuple[float, float]:
    """Return requests per second, and the processor seconds of the server for one request."""
    with _serving(way, path) as (pid, port):
        before = _cpu_seconds(pid)
        url = f"http://127.0.0.1:{port}/echo?text=hello"
        command = ["ab", "-q", "-k", "-n", str(count), "-c", str(CONNECTIONS), url]
        report = subprocess.run(command, check=True, capture_output=True).stdout
        seconds = _cpu_seconds(pid) - before
    assert re.search(rb"Failed requests: +0\n", report), report
    rate = _RATE.search(report)
    assert rate, report
    return float(rate[1]), seconds / count


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
