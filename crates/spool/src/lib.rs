//! Cyrus directories on this machine: locks, consistent reads, durable writes.
