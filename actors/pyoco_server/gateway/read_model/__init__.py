"""The read model: what lists, counts and metrics are answered from, in an embedded SQLite.

It is a copy: everything in it comes from the runs bucket, and it is built again from there whenever it is
missing, damaged, of another version or of another bucket.
"""
