//! Moves bytes; the only home of unsafe.
