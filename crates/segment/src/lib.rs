//! Snapshots as tar runs that concatenate: entries, manifests, compression.
