//! The operations: snapshot, list, restore; ports, no input or output of its own.
