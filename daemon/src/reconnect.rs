//! When to connect, to probe and to give up.
