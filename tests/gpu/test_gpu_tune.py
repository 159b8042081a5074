"""``nybble tune --device cuda``, on the emulator with a simulated clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.cuda import variants
from nybble.backends.cuda.device import Event, Launch
from nybble.backends.cuda.emulated import EmulatedDevice
from nybble.backends.cuda.tune import tune
from nybble.backends.cuda.tuned import TunedKernelsWarning, save_kernels, tuned_path
from nybble.cli import app
from nybble.engine import Engine
from nybble.engine.noise import noise_inputs
from nybble.graph import write_graph
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

pytestmark = NEEDS_EMULATOR

GRAPH = bottleneck_resnet((1,), width=64, classes=5, image=16, seed=2)


class Moment(Event):
    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds


class Clocked(EmulatedDevice):
    """Kernels take simulated times. One tile is the fastest; those of codes with one tap are 1 % slower."""

    def __init__(self, fast: str = "m128n64") -> None:
        super().__init__(80)
        self.now, self.fast = 0, fast
        self.launched: list[str] = []

    def launch(self, launch: Launch) -> None:
        super().launch(launch)
        self.launched.append(launch.kernel)
        self.now += 1000 if self.fast in launch.kernel else 1010 if "_one_codes" in launch.kernel else 3000

    def event(self) -> Event:
        return Moment(self.now)

    def nanoseconds(self, first: Event, last: Event) -> int:
        assert isinstance(first, Moment) and isinstance(last, Moment)
        return last.nanoseconds - first.nanoseconds


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NYBBLE_TUNED", "1")
    return tmp_path / "cache"


def test_the_fastest_is_chosen_where_it_is_faster_by_more_than_noise() -> None:
    device = Clocked()
    found = tune(GRAPH, noise_inputs(GRAPH, 1), device, seconds=0)
    assert found.steps and found.images == 1
    for one in found.steps:
        best = min(one.seconds, key=lambda name: one.seconds[name])
        # 1.01 us against 1.00 us is noise, 3 us are not.
        assert one.chosen == (best if one.seconds[one.default] > 1.02 * one.seconds[best] else one.default)
        assert set(one.seconds) <= set(device.launched)
    assert any(one.chosen != one.default for one in found.steps)
    assert any(len(set(one.seconds.values())) > 1 and one.chosen == one.default for one in found.steps)
    assert found.speedup > 1
    assert not device._blocks, "memory is given back"


def test_it_is_stored_and_used_and_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(variants["emulated"], "_opener", lambda isa: Clocked())
    write_graph(GRAPH, tmp_path / "model")
    x = noise_inputs(GRAPH, 2)
    with Engine(GRAPH, device="cuda-emulated") as engine:
        assert not engine.tuned
        before = {name: engine.kernel_name(name) for name in engine.tap(x[:1])}
    line = ["tune", str(tmp_path), "--device", "cuda-emulated", "--limit", "1", "--seconds", "1", "--json"]
    monkeypatch.setattr("nybble.backends.cuda.tune.FEWEST_ROUNDS", 2)
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert Path(found["file"]).is_file() and found["isa"] == "sm_80 (emulated)"
    chosen = {one["step"]: one["chosen"] for one in found["steps"]}
    with Engine(GRAPH, device="cuda-emulated") as engine:
        assert engine.tuned
        np.testing.assert_array_equal(engine.run_integer(x), interpret(GRAPH, x)[GRAPH.outputs[0]])
        assert all(engine.kernel_name(name) == kernel for name, kernel in chosen.items())
        assert any(before[name] != kernel for name, kernel in chosen.items())
    monkeypatch.setenv("NYBBLE_TUNED", "0")
    with Engine(GRAPH, device="cuda-emulated") as engine:
        assert not engine.tuned


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "'nothing' is not the result of a convolution"),
        ("{", "Expecting property name"),
        ('{"kernels": {"a": 3}}', "kernels must map names to names"),
    ],
)
def test_what_cannot_be_used_is_a_warning(content: str | None, why: str) -> None:
    device = EmulatedDevice(80)
    if content is None:
        save_kernels(GRAPH, device, {"nothing": "conv_u4s4_m64n64k32_one_any"})
    else:
        save_kernels(GRAPH, device, {}).write_text(content)
    assert tuned_path(GRAPH, device).is_file()
    with pytest.warns(TunedKernelsWarning, match=why), Engine(GRAPH, device="cuda-emulated") as engine:
        assert not engine.tuned


def test_what_cannot_be_tuned_is_refused() -> None:
    done = CliRunner().invoke(app, ["tune", "--device", "reference"])
    assert done.exit_code == 3
    assert "--device reference: it has no kernels to tune; choose from cpu, cuda, cuda-emulated" in done.output
