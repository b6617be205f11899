"""One file or folder = one outside system. Vendor errors become `SourceError` here and go no further."""
