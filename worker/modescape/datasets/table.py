"""A user's own table of numbers: .csv, .tsv or .parquet."""

from __future__ import annotations

from modescape.datasets.arrays import describe_numbers, numbers_of
from modescape.datasets.dataset import DataLocation, dataset
from modescape.science.data.raw import RawData
from modescape.spec_parts import DataSpec


@dataset("table", title="Table of numbers", source="the user's own", place=130, describe=describe_numbers)
def _table(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own table, a row an example: columns of numbers, one of labels, and one of splits if there are some."""
    return numbers_of(location, spec)
