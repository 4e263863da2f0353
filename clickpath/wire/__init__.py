"""Bytes in, records out: the formats that Clickpath reads and writes."""
