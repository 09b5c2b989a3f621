//! OpenFlow 1.0 to 1.5 and the Nicira extensions: wire and text.
//!
//! A tour, in the order to read it:
//!
//! * [`version`]: the protocol versions; [`protocol`]: flow formats, and sets of them.
//! * [`wire`]: big-endian bytes; [`error`]: the table of errors; [`header`]: the table of message formats.
//! * [`text`]: numbers and `key=value` lists, what all our text has in common; [`names`]: ports and tables by name.
//! * [`oxm`]: entries of fields; [`action`]: actions and instructions; [`instruction`]: their frame on the wire.
//! * [`matching`]: matches on the wire.
//! * [`prop`]: properties; [`msg`]: the messages, a file each; [`mod@print`]: any of them as text.
//! * [`parse`]: what people write, into those structs.
#![forbid(unsafe_code)]

pub mod version;
pub mod protocol;
pub mod wire;
pub mod error;
pub mod header;
pub mod text;
pub mod names;
pub mod oxm;
pub mod action;
pub mod instruction;
pub mod matching;
pub mod prop;
pub mod msg;
pub mod print;
pub mod parse;
