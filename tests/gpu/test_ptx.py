"""Every kernel's PTX, inline assembly included, interpreted and compared with the reference."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from cases import NETWORKS, assert_agrees, assert_numbers_agree, every_kind_of_block, layers, stems
from compiled import compiled, needs_nvrtc, on_ptx, ptx_module
from hypothesis import given, settings
from ptx.module import PtxModule

from nybble.backends.cuda.kernels import STEMS, ConvKernel, all_kernels
from nybble.backends.cuda.proof.cases import moved_network
from nybble.graph import DType
from strategies import STYLES, values_of

sys.path.append(str(Path(__file__).parent.parent / "engine"))
from networks import images

needs_nvrtc()
pytestmark = pytest.mark.slow

#: Architectures whose PTX runs, and which kernels of the emulated GPU the backend asks for on each.
ARCHS = {75: 75, 80: 80, 86: 80, 89: 80, 90: 90}
ARCH = pytest.mark.parametrize("arch", ARCHS)


def is_as_80(arch: int, start: str) -> bool:
    """Whether the PTX of the kernels with this prefix equals that of 8.0, where they were run."""
    if arch not in (86, 89):
        return False
    ours, other = ptx_module(arch).kernels, ptx_module(80).kernels
    names = [name for name in other if name.startswith(start)]
    return bool(names) and all(ours[name].text == other[name].text for name in names)


@ARCH
@pytest.mark.parametrize("kernel", all_kernels(), ids=lambda kernel: kernel.name)
@settings(max_examples=3)
@given(data=st.data())
def test_every_convolution_kernel(kernel: ConvKernel, arch: int, data: st.DataObject) -> None:
    if is_as_80(arch, kernel.name):
        return
    graph, x = data.draw(layers(kernel))
    with on_ptx(ptx_module(arch)):
        assert_agrees(graph, x, ARCHS[arch], {graph.outputs[0]: kernel.name})
    assert kernel.name in ptx_module(arch).ran


@ARCH
@pytest.mark.parametrize("kernel", STEMS)
@settings(max_examples=3)
@given(data=st.data())
def test_every_stem(kernel: str, arch: int, data: st.DataObject) -> None:
    if is_as_80(arch, kernel):
        return
    graph, x = data.draw(stems(kernel.removeprefix("stem_")))
    with on_ptx(ptx_module(arch)):
        assert_agrees(graph, x, ARCHS[arch])
    assert kernel in ptx_module(arch).ran


@ARCH
@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=3)
@given(data=st.data())
def test_drawn_layers_with_any_epilogue(kind: str, arch: int, data: st.DataObject) -> None:
    if is_as_80(arch, "layer_"):
        return
    graph = data.draw(NETWORKS[kind])
    with on_ptx(ptx_module(arch)):
        assert_agrees(graph, data.draw(images(graph, 2)), ARCHS[arch])


@ARCH
def test_normalised_photos(arch: int) -> None:
    if is_as_80(arch, "layer_quantize"):
        return
    with on_ptx(ptx_module(arch)):
        assert_numbers_agree(DType.S8, ARCHS[arch])


@ARCH
def test_what_a_resnet_lacks(arch: int) -> None:
    if is_as_80(arch, "layer_"):
        return
    graph = moved_network()
    x = values_of(DType.U4, (3, *graph.inputs[0].shape), STYLES[0], 1)
    with on_ptx(ptx_module(arch)):
        assert_agrees(graph, x, ARCHS[arch])


@ARCH
def test_a_small_network_with_every_kind_of_block(arch: int) -> None:
    if is_as_80(arch, ""):
        return
    with on_ptx(ptx_module(arch)):
        assert_agrees(*every_kind_of_block(), ARCHS[arch])


@ARCH
def test_ptx_is_for_the_architecture_and_has_its_products(arch: int) -> None:
    text = compiled(arch).ptx
    assert re.findall(r"^\.target (\w+)$", text, flags=re.MULTILINE) == [f"sm_{arch}"]
    shapes = {}
    for entry in re.split(r"^\.visible \.entry ", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"\w+", entry)
        assert name is not None
        shapes[name[0]] = set(re.findall(r"\bmma\.sync\.aligned\.(m\d+n\d+k\d+)\.", entry))
    # The probe tries the instruction of 4 bits on 9.0 too, where kernels do without it.
    probe = shapes.pop("layer_probe")
    assert probe == ({"m8n8k32", "m8n8k16"} if arch == 75 else {"m16n8k64", "m16n8k32"})
    found = set().union(*shapes.values())
    assert found == {75: {"m8n8k32", "m8n8k16"}, 90: {"m16n8k32"}}.get(arch, {"m16n8k64", "m16n8k32"})
    assert isinstance(ptx_module(arch), PtxModule)
