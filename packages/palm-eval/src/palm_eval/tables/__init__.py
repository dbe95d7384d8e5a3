"""The tables of the paper from any runs: what they hold, and how they are written."""

from palm_eval.tables.formats import FORMATS, Cell, Column, Section, Table
from palm_eval.tables.making import TABLES, make_table

__all__ = ["FORMATS", "TABLES", "Cell", "Column", "Section", "Table", "make_table"]
