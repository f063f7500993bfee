"""The store with one deliberate mistake, many times over. A scenario must catch each: this tests the explorer."""

from . import backups, collection, requests, rot, uploads
from .registry import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant", "backups", "collection", "requests", "rot", "uploads"]
