"""Versioned Zarr artifacts: schema, workspace, staging and publishing, verified reading."""
