"""What a server makes of the machine: its images/s against plain loops, its latency, and its memory.

    python benchmarks/serving.py runs/my_run photos --onnx my_run.onnx
    python benchmarks/serving.py runs/my_run photos --requests 10000     memory alone, over so many requests

A plain loop decodes an image and judges it, or decodes and judges 16 at a time, with torch, and with onnxruntime where
there is an ONNX file: the same decoder, preprocessing and threads as the server's, and no HTTP. The server is a process
of its own (`resnet-tl serve`), with one image a request over kept connections; so is the client, of plain sockets and
threads with bodies made beforehand, which shares the cores with the server. Loops and server take turns; the medians of
the rounds are said, with the CPU seconds of loop and server by which they compare where other work is on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

BATCH = 16


@dataclass(frozen=True)
class Measured:
    """Images in a second, CPU milliseconds for an image, and of a server the latencies in milliseconds."""

    rate: float
    cpu: float
    latencies: tuple[float, ...] = ()


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int) -> float:
    """Resident megabytes of a process."""
    return int(Path(f"/proc/{process}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def loops(model: str, contents: list[bytes], threads: int, pipe: multiprocessing.connection.Connection) -> None:
    """Runs the loop that the pipe names for so many seconds and sends what was measured, until it says None."""
    import torch

    from resnet_tl.cli.keep_freed_memory import keep_freed_memory
    from resnet_tl.serving.engine import engine_of

    keep_freed_memory()
    torch.set_num_threads(threads)
    engine = engine_of(Path(model), "cpu")
    pipe.send("ready")
    while asked := pipe.recv():
        batch, seconds = asked
        images, given = 0, cycle(contents)
        start, busy = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            engine.judge([engine.prepare(content) for content in islice(given, batch)])
            images += batch
        elapsed = time.perf_counter() - start
        pipe.send(Measured(images / elapsed, (time.process_time() - busy) * 1000 / images))


@contextmanager
def serving(model: str, threads: int) -> Iterator[tuple[int, int]]:
    """A server's port and process."""
    words = [sys.executable, "-m", "resnet_tl", "serve", model, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/predict", process.stdout.readline())
        assert found, "the server has not begun"
        yield int(found[1]), process.pid
        process.terminate()


def clients(port: int, contents: list[bytes], connections: int, pipe: multiprocessing.connection.Connection) -> None:
    """Sends images over kept connections for so many seconds or images as the pipe asks, until it says None."""
    requests = [
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(content) + content
        for content in contents
    ]
    pipe.send("ready")
    while asked := pipe.recv():
        seconds, images = asked
        latencies: list[float] = []
        arguments = (port, requests, time.perf_counter() + seconds, images, count(), latencies)
        threads = [threading.Thread(target=one_connection, args=arguments) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pipe.send(latencies)


def one_connection(
    port: int, requests: list[bytes], end: float, images: float, numbers: Iterator[int], latencies: list[float]
) -> None:
    """Sends one request after the other, by numbers that all connections share, and adds the latencies."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < end and (number := next(numbers)) < images:
            start = time.perf_counter()
            client.sendall(requests[number % len(requests)])
            said = client.recv(65536)
            while not is_whole(said):
                said += client.recv(65536)
            if not said.startswith(b"HTTP/1.1 200"):
                raise SystemExit(said.decode())
            latencies.append((time.perf_counter() - start) * 1000)


def is_whole(said: bytes) -> bool:
    """Whether an answer has come to its end."""
    head, _, body = said.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    return bool(found) and len(body) >= int(found[1])


@contextmanager
def apart(work: Callable[..., None], *arguments: Any) -> Iterator[Callable[..., Any]]:
    """What `work` answers to what it is asked by a pipe, in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(*arguments, there))
    process.start()
    here.recv()

    def ask(*asked: float) -> Any:
        here.send(asked)
        return here.recv()

    yield ask
    here.send(None)
    process.join()


def percentile(values: list[float] | tuple[float, ...], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def compare(model: str, name: str, contents: list[bytes], options: argparse.Namespace) -> None:
    """Prints the lines of one model: two loops and the server at several numbers of connections."""
    with ExitStack() as stack:
        loop = stack.enter_context(apart(loops, model, contents, options.threads))
        port, process = stack.enter_context(serving(model, options.threads))
        ways: dict[str, Callable[[float], Measured]] = {
            "loop, 1 at a time": lambda seconds: loop(1, seconds),
            f"loop, {BATCH} at a time": lambda seconds: loop(BATCH, seconds),
        }
        for connections in options.connections:
            ask = stack.enter_context(apart(clients, port, contents, connections))

            def served(seconds: float, ask: Callable[..., Any] = ask) -> Measured:
                busy, start = cpu_seconds(process), time.perf_counter()
                latencies = ask(seconds, float("inf"))
                elapsed = time.perf_counter() - start
                used = (cpu_seconds(process) - busy) * 1000 / len(latencies)
                return Measured(len(latencies) / elapsed, used, tuple(latencies))

            ways[f"server, {connections} connections"] = served
        for way in ways.values():
            way(options.seconds / 4)
        found: dict[str, list[Measured]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, measure in ways.items():
                found[way].append(measure(options.seconds))
    best = max(median(one.rate for one in found[way]) for way in found if way.startswith("loop"))
    for way, rounds in found.items():
        rate, latencies = median(one.rate for one in rounds), [ms for one in rounds for ms in one.latencies]
        cells = [name, way, f"{rate:.1f}", f"{rate / best:.2f}", f"{median(one.cpu for one in rounds):.1f}"]
        cells += [f"{percentile(latencies, share):.0f}" if latencies else "" for share in (0.5, 0.99)]
        print(f"| {' | '.join(cells)} |", flush=True)


def remember(model: str, contents: list[bytes], options: argparse.Namespace) -> None:
    """Prints the server's memory over many requests."""
    connections = max(options.connections)
    with serving(model, options.threads) as (port, process), apart(clients, port, contents, connections) as ask:
        print(f"after 0 requests: {memory_of(process):.0f} MB")
        for number in range(10):
            ask(float("inf"), options.requests // 10)
            print(f"after {(number + 1) * (options.requests // 10)} requests: {memory_of(process):.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run, or a model bundle")
    parser.add_argument("photos", type=Path, help="a folder with JPEG files")
    parser.add_argument("--onnx", help="the same model, exported")
    parser.add_argument("--images", type=int, default=200, help="different photos")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch; onnxruntime takes all cores")
    parser.add_argument("--seconds", type=float, default=8, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, help="measure the memory over so many requests instead")
    options = parser.parse_args()
    contents = [path.read_bytes() for path in sorted(options.photos.rglob("*.jpg"))[: options.images]]
    if options.requests:
        remember(options.model, contents, options)
        return
    print("| model | way | images/s | of the faster loop | CPU ms an image | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|")
    compare(options.model, "onnxruntime" if options.model.endswith(".onnx") else "torch", contents, options)
    if options.onnx:
        compare(options.onnx, "onnxruntime", contents, options)


if __name__ == "__main__":
    main()
