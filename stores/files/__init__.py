"""Files on local disk and S3: storage, Parquet, JSON with a checksum, compare and swap."""
