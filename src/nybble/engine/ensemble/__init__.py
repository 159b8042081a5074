"""Ensembles: a weighted mean of several networks, or a cascade that stops when the answer is certain."""

from nybble.engine.ensemble.ensemble import Answers, Cascade, Ensemble, Member, load_ensemble
from nybble.engine.ensemble.settings import EnsembleError, Measure, MemberSettings, Settings, read_settings

__all__ = [
    "Answers",
    "Cascade",
    "Ensemble",
    "EnsembleError",
    "Measure",
    "Member",
    "MemberSettings",
    "Settings",
    "load_ensemble",
    "read_settings",
]
