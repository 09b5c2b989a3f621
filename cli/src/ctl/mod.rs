//! What `ovs-vsctl` and `vtep-ctl` share: commands joined by `--` into one transaction, and the database commands.
//!
//! * [`syntax`]: a table of commands and the parser of command lines.
//! * [`db`]: the database as a command sees it, its own changes included.
//! * [`names`]: tables, columns and rows by abbreviated names.
//! * [`argument`]: `COLUMN[:KEY]=VALUE` and conditions.
//! * [`records`]: `list`, `find`, `get`, `set`, `add`, `remove`, `clear`, `create`, `destroy`, `wait-until`, `comment`.
//! * [`show`]: the overview.
//! * [`targets`]: controllers and managers.
//! * [`session`]: connect, run, commit, try again, wait.
//! * [`program`]: options, log, time limit around it.

pub mod syntax;
pub mod db;
pub mod names;
pub mod argument;
pub mod records;
pub mod show;
pub mod targets;
pub mod session;
pub mod program;
