"""Convex polygons: area and overlap."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array


def polygon_area(polygon: Array) -> float:
    """Signed area of (N, 2) corners x, y; above 0 where they go from the x axis towards the y axis."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y)) / 2


def clipped(polygon: Array, by: Array) -> Array:
    """The intersection of two convex polygons of positive area (Sutherland and Hodgman 1974)."""
    for start, end in zip(by, np.roll(by, -1, axis=0), strict=True):
        if not len(polygon):
            break
        edge = end - start
        side = edge[0] * (polygon[:, 1] - start[1]) - edge[1] * (polygon[:, 0] - start[0])
        corners: list[Array] = []
        for place, point in enumerate(polygon):
            before = place - 1
            if (side[place] >= 0) != (side[before] >= 0):
                share = side[before] / (side[before] - side[place])
                corners.append(polygon[before] + share * (point - polygon[before]))
            if side[place] >= 0:
                corners.append(point)
        polygon = np.array(corners).reshape(-1, 2)
    return polygon


def polygon_overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of convex polygons (N, K, 2) and (M, K, 2) with corners in either order: (N, M)."""
    ones = [_counted(np.asarray(polygon, dtype=np.float64)) for polygon in first]
    others = [_counted(np.asarray(polygon, dtype=np.float64)) for polygon in second]
    found = np.zeros((len(ones), len(others)))
    for row, one in enumerate(ones):
        for column, other in enumerate(others):
            apart = (one.max(axis=0) <= other.min(axis=0)) | (other.max(axis=0) <= one.min(axis=0))
            if apart.any():
                continue
            inner = clipped(one, other)
            shared = polygon_area(inner) if len(inner) > 2 else 0.0
            union = polygon_area(one) + polygon_area(other) - shared
            found[row, column] = shared / union if union > 0 else 0.0
    return found


def _counted(polygon: Array) -> Array:
    """The corners in the order of a positive area."""
    return polygon if polygon_area(polygon) >= 0 else polygon[::-1]
