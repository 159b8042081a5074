"""The result of an import: the graph, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


@dataclass(frozen=True)
class Rounding:
    """A rounding in a node: ``error`` in steps of its result, ``what`` names the rounded number."""

    node: str
    what: str
    error: float
    detail: str


@dataclass(frozen=True)
class Import:
    """A graph and the report of its import.

    Attributes
    ----------
    graph : Graph
    roundings : list of Rounding
        Where an integer replaces a real number that it does not equal exactly; largest first.
    input_scale : float or None
        Real value of one step of the input, if the model takes real numbers.
    notes : list of str
        What was left out.
    operators : mapping of str to int
        How often each ONNX operator occurred.
    channels_last : bool
        Whether the model takes (N, H, W, C); the graph takes (N, C, H, W) in either case.
    """

    graph: Graph
    roundings: Sequence[Rounding]
    input_scale: float | None
    notes: Sequence[str]
    operators: Mapping[str, int] = field(default_factory=dict)
    channels_last: bool = False

    def for_photos(
        self,
        *,
        resize: int | None = None,
        interpolation: str = "bilinear",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> Import:
        """The same with preprocessing: the input's scale is a step of a photo that is normalised in this way.

        Parameters
        ----------
        resize : int, optional
            Pixels of the short side before the crop to the input's size; 8/7 of that.
        interpolation, mean, std
            As in :class:`nybble.graph.Preprocessing`.

        Raises
        ------
        GraphError
            If the graph's input is not a single image of that many channels.
        """
        entry = self.graph.inputs[0]
        if len(entry.shape) != 3:
            raise GraphError(f"the input {entry.shape} is not an image", field="preprocessing")
        crop = (entry.shape[1], entry.shape[2])
        made = Preprocessing(
            resize=max(crop) * 8 // 7 if resize is None else resize,
            crop=crop,
            interpolation=interpolation,
            mean=mean,
            std=std,
            input_type=entry.dtype,
            scale_numerator=1.0,
            scale_denominator=1.0 if self.input_scale is None else self.input_scale,
        )
        old = self.graph
        graph = Graph(
            old.inputs, old.nodes, old.outputs, preprocessing=made, class_names=old.class_names, task=old.task
        )
        return replace(self, graph=graph)

    @property
    def largest(self) -> Rounding | None:
        """The largest error, in steps of the node's result."""
        return self.roundings[0] if self.roundings else None
