"""An object's bytes as batches of raw records, with their numbers in the object: one file a format.

A reader never stops at a bad record: what it cannot read travels beside the records, with the reason and the text.
"""

from ocsf_mappers.readers.chunk import Bad, Chunk, Reader
from ocsf_mappers.readers.delimited import Delimited, Named, Unheaded
from ocsf_mappers.readers.delimited_json import DelimitedInJson
from ocsf_mappers.readers.entries import SEPARATOR, Entries
from ocsf_mappers.readers.envelope import CARRIERS, CLOUDWATCH, Envelope, wrapped
from ocsf_mappers.readers.json_records import JsonRecords
from ocsf_mappers.readers.layouts import Pairs, Pattern, Values
from ocsf_mappers.readers.lines import FieldNames, Lines
from ocsf_mappers.readers.parquet import ParquetRows


def of_object(reader: Reader, uri: str) -> Reader:
    """The reader of one object, where what a setting names differs by object."""
    return reader.of_object(uri) if isinstance(reader, Delimited | DelimitedInJson) else reader


__all__ = [
    "CARRIERS", "CLOUDWATCH", "SEPARATOR", "Bad", "Chunk", "Delimited", "DelimitedInJson", "Entries", "Envelope",
    "FieldNames", "JsonRecords", "Lines", "Named", "Pairs", "ParquetRows", "Pattern", "Reader", "Unheaded", "Values",
    "of_object", "wrapped",
]  # fmt: skip
