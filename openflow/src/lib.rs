//! OpenFlow 1.0 to 1.5 and the Nicira extensions: wire and text.
#![forbid(unsafe_code)]
