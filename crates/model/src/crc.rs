//! The two sync CRCs of a mailbox, and the CRC-32 that both are made of.
