//! The one diff: two account states in, a plan out.
