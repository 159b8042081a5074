"""Reading and writing a model directory (docs/format.md)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nybble.graph import extras
from nybble.graph.archive import ModelArchive, is_archive
from nybble.graph.containers import HEAD, INPUT, RESNET, collapse, expand_resnet
from nybble.graph.errors import GraphError, ModelFormatError
from nybble.graph.folder import DATA, MAX_TEXT, ROOT, ModelFolder
from nybble.graph.graph import Graph
from nybble.graph.layers import check_declared_inputs, format_version, read_layer, reads_several, write_layer
from nybble.graph.lines import LayerFile, LayerText, joined, typed_shape
from nybble.graph.nodes import Input, Node, Pair
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.swap import replacing
from nybble.graph.task import Task
from nybble.graph.task_file import TASK, TASK_VERSION, key_of, read_task, write_task
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType

GRAPH = "Graph"
#: Most children of a Sequential. Each must exist as a file, so this only keeps the message short.
MAX_CHILDREN = 10_000
#: Names the format itself takes in ``model/``.
RESERVED = frozenset((ROOT, DATA, extras.PREPROCESSING, extras.CLASS_NAMES, extras.FORMAT_VERSION, TASK))

# Short enough that a data file's name, with its key, stays within 255 bytes.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a model directory, also one that :func:`nybble.graph.archive.packed` has made a file of.

    Parameters
    ----------
    path : path
        The folder ``model/`` or the folder that holds it, or an archive.

    Returns
    -------
    Graph
        Its tensors stay in their files until they are used, so the directory must outlive the graph.

    Raises
    ------
    ModelFormatError
        If the directory is not valid. The text names the file and, if there is one, the line.
    """
    folder = ModelArchive(path) if is_archive(path) else ModelFolder(path)
    version = extras.read_version(folder)
    root = folder.layer(ROOT)
    if root.kind == RESNET:
        return _Reader(folder, root, version).resnet()
    if root.kind == GRAPH:
        return _Reader(folder, root, version).graph()
    raise root.error(f"the root must be of type {RESNET} or {GRAPH}, found {root.kind[:40]!r}")


class _Reader:
    """Reads one directory and keeps which file and line each node came from, for the graph's errors."""

    def __init__(self, folder: ModelFolder, root: LayerFile, version: int) -> None:
        self._folder = folder
        self._root = root
        # Up to version 2, a node may have this name.
        is_node = version < TASK_VERSION and f"node.{TASK}" in root.entries
        self._reserved = RESERVED - {TASK} if is_node else RESERVED
        self._task: Task | None = None if is_node else read_task(folder)
        self._preprocessing = extras.read_preprocessing(folder)
        self._files: dict[str, LayerFile] = {}

    def resnet(self) -> Graph:
        """The graph of a directory whose root is a ResNetQuantized."""
        input_type, output_type = self._root.mode(2)
        if output_type is not DType.F32:
            raise self._root.error(f"the output must be f32, found {output_type}", "compute_mode")
        self._root.finish()
        preprocessing = self._preprocessing if self._preprocessing is not None else Preprocessing()
        if input_type is not preprocessing.input_type:
            raise self._root.error(
                f"compute_mode says {input_type}, but preprocessing makes {preprocessing.input_type}", "compute_mode"
            )
        entry = Input(name=INPUT, dtype=input_type, shape=(len(preprocessing.mean), *preprocessing.crop))
        expansion = expand_resnet(_FolderSource(self._folder))
        self._files = {name: self._folder.layer(file) for name, file in expansion.files.items()}
        return self._checked([entry], expansion.nodes, (HEAD[-1][0],), preprocessing)

    def graph(self) -> Graph:
        """The graph of a directory whose root is a Graph."""
        root = self._root
        inputs = []
        nodes = []
        outputs = root.words("outputs")
        for key in root.entries:
            role, _, name = key.partition(".")
            if role == "input" and name:
                dtype, shape = root.shape(key)
                inputs.append(Input(name=name, dtype=dtype, shape=shape))
            elif role == "node" and name:
                if name in self._reserved or not _NAME.fullmatch(name):
                    raise root.error(f"{name[:40]!r} cannot name a node: it is not a safe file name, or is taken", key)
                sources = root.words(key)
                self._files[name] = self._folder.layer(name)
                nodes.append(read_layer(self._folder, self._files[name], name, sources))
        root.finish()
        return self._checked(inputs, nodes, outputs, self._preprocessing)

    def _checked(
        self, inputs: list[Input], nodes: list[Node], outputs: tuple[str, ...], preprocessing: Preprocessing | None
    ) -> Graph:
        class_names = extras.read_class_names(self._folder)
        try:
            graph = Graph(inputs, nodes, outputs, preprocessing=preprocessing, class_names=class_names, task=self._task)
        except GraphError as error:
            raise self._located(error) from error
        for node in graph:
            check_declared_inputs(self._files[node.name], node, graph.values)
        return graph

    def _located(self, error: GraphError) -> ModelFormatError:
        """The same error with the file and line of the node and attribute at fault."""
        name, field = error.node, error.field
        if name is None:
            if field == extras.CLASS_NAMES:
                return ModelFormatError(self._folder.path / extras.CLASS_NAMES, error.message)
            if field == extras.PREPROCESSING and self._folder.has(extras.PREPROCESSING):
                return self._folder.layer(extras.PREPROCESSING).error(error.message, "input_type")
            if field == TASK and self._folder.has(TASK):
                return self._folder.layer(TASK).error(error.message, key_of(error))
            return self._root.error(error.message, "outputs" if field == "outputs" else "compute_mode")
        for key in (f"input.{name}", f"node.{name}"):
            if key in self._root.entries and (key.startswith("input") or field == "inputs"):
                return self._root.error(str(error), key)
        if name in self._files:
            return self._files[name].error(str(error), field)
        return self._root.error(str(error), "compute_mode")


class _FolderSource:
    """A ResNet's parts from files."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder

    def kind(self, name: str) -> str:
        """Type of the file of that name."""
        kind = self._folder.layer(name).kind
        if kind in (RESNET, GRAPH):
            raise self._folder.layer(name).error(f"{kind} can only be the root, not contained in it (a cycle)")
        return kind

    def children_count(self, name: str) -> int:
        """``children_count`` of a Sequential."""
        file = self._folder.layer(name)
        count = file.integer("children_count", 1, MAX_CHILDREN)
        file.finish()
        return count

    def layer(self, file_name: str, kind: str | None, name: str, value: str) -> Node:
        """Read one layer file."""
        file = self._folder.layer(file_name)
        if kind not in (None, file.kind):
            raise file.error(f"must be of type {kind}, found {file.kind[:40]!r}")
        if reads_several(file):
            raise file.error(f"{file.kind} has no place in a container, which names no inputs")
        return read_layer(self._folder, file, name, (value,))

    def bottleneck(self, name: str, stride: Pair) -> None:
        """Check a block's own file."""
        file = self._folder.layer(name)
        declared = file.integer("stride", 1, 1 << 16)
        if Pair(declared, declared) != stride:
            raise file.error(
                f"stride says {declared}, but its convolutions take {stride.rows} x {stride.columns}", "stride"
            )
        if not file.flag("downsample_layer"):
            raise file.error(
                "downsample_layer=False is not supported: the shortcut must be brought to 32 bits", "downsample_layer"
            )
        file.finish()

    def too_deep(self, name: str) -> Exception:
        """Containers that lie too deep."""
        return self._folder.layer(name).error("containers are nested too deeply")


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a model directory.

    With containers if they can express the graph, else with a root of type ``Graph``; either way
    :func:`read_graph` gives an equal graph. The folder is written beside its final place and then renamed, so no reader
    sees half of it. If it replaces a folder that ``graph`` was read from, tensors of ``graph`` that are still in files
    are lost: read the graph again.

    Parameters
    ----------
    graph : Graph
    path : path
        The folder that will hold ``model/``, or ``model/`` itself if it is called so or is already a
        model. A ``model/`` that exists is replaced only if it is a model or empty.

    Raises
    ------
    GraphError
        If a name is no safe file name.
    NybbleError
        If there is something else at the path, or it cannot be written to.

    Examples
    --------
    >>> import nybble, tempfile
    >>> engine = nybble.load("efficientnet-lite0")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nybble.write_graph(engine.graph, f"{folder}/copy")
    ...     copy = nybble.load(f"{folder}/copy")
    >>> copy.classes == engine.classes
    True
    """
    collapsed = collapse(graph)
    if collapsed is not None:
        expansion, containers = collapsed
        texts = {name: text.encode() for name, text in containers.items()}
        files = expansion.files
    else:
        texts = {ROOT: _graph_root(graph).encode()}
        files = {node.name: node.name for node in graph}
    version = max(
        format_version(graph),
        extras.preprocessing_version(graph.preprocessing),
        1 if graph.task is None else TASK_VERSION,
    )
    # A folder without the file is of version 1, as the published ones are.
    if collapsed is None or version > 1:
        texts[extras.FORMAT_VERSION] = extras.write_version(version)
    # A ResNetQuantized without the file has the default preprocessing, a Graph none.
    implied = Preprocessing() if collapsed is not None else None
    if graph.preprocessing is not None and graph.preprocessing != implied:
        texts[extras.PREPROCESSING] = extras.write_preprocessing(graph.preprocessing)
    if graph.class_names is not None:
        texts[extras.CLASS_NAMES] = extras.write_class_names(graph.class_names)
    tensors: dict[str, Tensor] = {}
    if graph.task is not None:
        described = write_task(graph.task)
        texts[TASK] = described.text.encode()
        tensors |= described.tensors
    for node in graph:
        if files[node.name] not in texts:
            output = write_layer(node, files[node.name], graph.values)
            texts[output.file_name] = output.text.encode()
            tensors |= output.tensors
    for name, text in texts.items():
        if len(text) > MAX_TEXT:
            raise GraphError(f"the file {name} would be larger than the {MAX_TEXT} bytes a text file may have")
    with replacing(_target(Path(path)), _is_model) as folder:
        (folder / DATA).mkdir()
        for name, text in texts.items():
            (folder / name).write_bytes(text)
        for name, tensor in tensors.items():
            (folder / name).write_bytes(tensor.raw())


def _graph_root(graph: Graph) -> LayerText:
    text = LayerText(GRAPH)
    for entry in graph.inputs:
        _check_name(entry.name)
        text.add(f"input.{entry.name}", typed_shape(entry.dtype, entry.shape))
    for node in graph:
        _check_name(node.name)
        if node.name in RESERVED:
            raise GraphError("the model directory has a file of this name already; rename the node", node=node.name)
        text.add(f"node.{node.name}", joined(node.inputs))
    text.add("outputs", joined(graph.outputs))
    return text


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise GraphError(
            "cannot be a file name: it needs 1 to 200 of the letters A-Z a-z 0-9 _ . -, not starting with . or -",
            node=name,
        )


def _target(path: Path) -> Path:
    path = path.absolute()
    return path if path.name == ROOT or (path / ROOT).is_file() else path / ROOT


def _is_model(path: Path) -> bool:
    try:
        return ModelFolder(path).layer(ROOT).kind in (RESNET, GRAPH)
    except ModelFormatError:
        return False
