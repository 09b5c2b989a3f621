//! `ovs-ofctl`: speaks OpenFlow to a switch.
#![forbid(unsafe_code)]

fn main() -> ! {
    cli::ofctl::main()
}
