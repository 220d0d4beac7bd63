"""Buckets of notes become shards, on local processes or Apache Beam."""
