//! RFC 7047 and the OVS extensions.
#![forbid(unsafe_code)]
