//! What `--help` says.

use daemon::dirs::Dirs;
use daemon::options::help;

use super::{Context, Outcome, say};

const HEAD: &str = include_str!("usage.txt");

const VERSIONS: &str = "
OpenFlow version options:
  -V, --version           display version information
  -O, --protocols         set allowed OpenFlow versions
                          (default: OpenFlow10, OpenFlow11, OpenFlow12, OpenFlow13, OpenFlow14, OpenFlow15)
";

const TAIL: &str = "
Other options:
  --strict                    use strict match for flow commands
  --read-only                 do not execute read/write commands
  --readd                     replace flows that haven't changed
  -F, --flow-format=FORMAT    force particular flow format
  -P, --packet-in-format=FRMT force particular packet in format
  -m, --more                  be more verbose printing OpenFlow
  --timestamp                 (monitor, snoop) print timestamps
  -t, --timeout=SECS          give up after SECS seconds
  --sort[=field]              sort in ascending order
  --rsort[=field]             sort in descending order
  --names                     show port names instead of numbers
  --no-names                  show port numbers, but not names
  --unixctl=SOCKET            set control socket name
  --color[=always|never|auto] control use of color in output
  -h, --help                  display this help message
  -V, --version               display version information
";

const CONNECTIONS: &str = "
Active OpenFlow connection methods:
  tcp:HOST[:PORT]         PORT (default: 6653) at remote HOST
  ssl:HOST[:PORT]         SSL/TLS PORT (default: 6653) at remote HOST
  unix:FILE               Unix domain socket named FILE
PKI configuration (required to use SSL/TLS):
  -p, --private-key=FILE  file with private key
  -c, --certificate=FILE  file with certificate for private key
  -C, --ca-cert=FILE      file with peer CA certificate
";

/// The whole text.
pub fn text(dirs: &Dirs) -> String {
    let daemon = help::daemon(super::PROGRAM, dirs);
    let logging = help::logging(super::PROGRAM, dirs);
    format!("{HEAD}{CONNECTIONS}{daemon}{VERSIONS}{logging}{TAIL}")
}

pub(super) fn help(context: &mut Context) -> Outcome {
    say!("{}", text(&context.options.dirs));
    Ok(())
}
