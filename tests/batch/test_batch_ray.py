"""A job on a Ray cluster of two nodes: the same bytes as on one machine, whatever is lost meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nybble.batch import BatchError, Job, Network, Settings, open_input
from nybble.batch.on_ray import Work, do_shard
from nybble.cli import app
from nybble.graph import write_graph
from nybble.synthetic import bottleneck_resnet

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

COUNT, SHARD = 160, 4
BROKEN = "007.png"
SECONDS = 240.0
#: Drivers and workers that are killed; 50 for a series by hand, which says how many there were.
KILLS = int(os.environ.get("NYBBLE_KILLS", "1"))
#: Ray takes 127.0.0.1 for the machine's other address, at which a cluster bound to loopback does not listen, unless its
#: clusters of several machines are off. Its workers would give way to all other processes.
ENVIRONMENT = {
    **os.environ,
    "RAY_ADDRESS": "",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes long enough for something to be lost meanwhile."""
    folder = tmp_path_factory.mktemp("larger")
    write_graph(bottleneck_resnet(blocks=(2, 2), width=64, image=224, classes=10), folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    (folder / BROKEN).write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def whole(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the job on one machine."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = CliRunner().invoke(app, words(model, photos, out))
    assert done.exit_code == 4, done.output
    return content(out)


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A cluster of two nodes; ``cluster.args`` is its address."""
    script = Path(__file__).with_name("ray_cluster.py")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None and process.stdout is not None
    process.args = process.stdout.readline().strip()
    assert process.args.startswith("127.0.0.1:")
    yield process
    process.stdin.close()
    process.wait(SECONDS)
    process.stdout.close()


def words(model: Path, photos: Path, out: Path, *more: object) -> list[str]:
    return [*map(str, ("batch", model, photos, "--out", out, "--shard", SHARD, "--threads", 1, *more))]


def start(model: Path, photos: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nybble", *words(model, photos, out, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def content(out: Path) -> dict[str, bytes]:
    """The files of a job, which has none where it was killed before it had begun."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())} if out.exists() else {}


def wait_for_files(process: subprocess.Popen[str], out: Path, count: int) -> None:
    until = time.monotonic() + SECONDS
    while len(list(out.glob("part-*"))) < count:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.005)


def kill(driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=SECONDS)


def finished(
    model: Path, photos: Path, whole: dict[str, bytes], out: Path, following: Path, arguments: tuple[str, ...]
) -> Path:
    """Let a job end, compare what it wrote, and name the folder of the next one."""
    driver = start(model, photos, out, *arguments)
    said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 4, said
    assert content(out) == whole
    return following


def workers(parent: int) -> list[int]:
    """Processes below one that do shards at this moment."""
    children: dict[int, list[int]] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue
        children.setdefault(above, []).append(int(folder.name))
    found, waiting = [], [parent]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            if titles[child].startswith("ray::do_shard"):
                found.append(child)
    return found


def test_two_nodes_and_what_is_lost(
    cluster: Any, model: Path, photos: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A job as a whole; a driver killed, and resumed; a worker killed; a node lost."""
    arguments = ("--ray", cluster.args, "--resume")
    draw = random.Random(11)
    out = tmp_path / "killed"
    driver = start(model, photos, out, *arguments)
    wait_for_files(driver, out, 2)
    seen: set[int] = set()
    while len(seen) < 2 and driver.poll() is None:
        seen |= set(workers(cluster.pid))
    kill(driver)
    assert len(seen) == 2
    assert 2 <= len(content(out)) < len(whole)
    for number in range(1, KILLS):
        if len(content(out)) > len(whole) - 5:
            out = finished(model, photos, whole, out, tmp_path / f"killed{number}", arguments)
        driver = start(model, photos, out, *arguments)
        if draw.random() < 0.5:
            wait_for_files(driver, out, len(list(out.glob("part-*"))) + 1)
        time.sleep(draw.random() * 3)
        kill(driver)

    driver = start(model, photos, out, *arguments)
    wait_for_files(driver, out, 4)
    killed = 0
    while killed < KILLS:
        if driver.poll() is not None:
            driver.communicate(timeout=SECONDS)
            out = finished(model, photos, whole, out, tmp_path / f"workers{killed}", arguments)
            driver = start(model, photos, out, *arguments)
        if busy := workers(cluster.pid):
            os.kill(draw.choice(busy), signal.SIGKILL)
            killed += 1
            # A task is repeated five times at most.
            time.sleep(draw.random() * 4 if KILLS > 1 else 0)
        time.sleep(0.005)
    said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 4, said
    assert content(out) == whole
    sys.stdout.write(f"{KILLS} drivers and {killed} workers killed\n")

    out = tmp_path / "smaller"
    driver = start(model, photos, out, *arguments)
    wait_for_files(driver, out, 1)
    cluster.stdin.write("lose\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "lost\n"
    assert len(content(out)) < len(whole)
    said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 4, said
    assert content(out) == whole


def test_a_cluster_of_its_own(model: Path, photos: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """What was begun on one machine goes on with Ray; other settings are refused before anything starts."""
    out = tmp_path / "out"
    driver = start(model, photos, out)
    wait_for_files(driver, out, 1)
    kill(driver)
    assert "has other settings" in refused(model, photos, out, "--ray", "local", "--resume", "--top", 2)
    driver = start(model, photos, out, "--ray", "local", "--resume")
    said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 4, said
    assert f"{COUNT} photos, 1 with errors" in said[0]
    assert content(out) == whole


def refused(*given: Any) -> str:
    done = CliRunner().invoke(app, words(*given))
    assert done.exit_code == 3, done.output
    return done.output


def test_a_worker_that_sees_other_files_refuses(photos: Path, tmp_path: Path) -> None:
    """As after a change of the input, or where nodes have copies of their own."""
    write_graph(bottleneck_resnet(blocks=(1,), width=4, image=32, classes=10), tmp_path / "net")
    settings = Settings(format="jsonl", shard=SHARD)
    work = Work(tmp_path / "net", photos, None, settings, 1, 8)
    job = Job(open_input(photos), Network(tmp_path / "net", 1, embeddings=False), settings, tmp_path)
    description = job.description()
    found, errors = do_shard(work, description, job.parts[1])
    assert (found.count(b"\n"), errors) == (SHARD, 1)
    for name, what in (("input", photos), ("model", tmp_path / "net")):
        with pytest.raises(BatchError, match=f"{what}: on node .* is not that of the driver, or has changed"):
            do_shard(replace(work, batch=4), {**description, name: "another"}, job.parts[1])


def test_what_is_missing_is_said(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(bottleneck_resnet(blocks=(1,), width=4, image=32, classes=10), tmp_path / "net")
    monkeypatch.setattr("nybble.batch.on_ray.find_spec", lambda name: None)
    assert "pip install 'nybble[ray]'" in refused(tmp_path / "net", photos, tmp_path / "out", "--ray", "local")
    assert not (tmp_path / "out").exists()
