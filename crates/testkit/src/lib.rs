//! A real Cyrus in a temporary directory, builders of old spools, fault decorators, fuzz bodies.
