//! Tests of the kernel's datapath, with traffic: many in one boot of `scripts/vm`, each in namespaces of its own (network,
//! mounts, processes), with its own database server, switch and hosts, so that they run side by side and leave nothing.
//!
//! ```text
//! scripts/vm target/debug/vm-tests [--smoke] [--long] [--list] [--jobs N] [--daemons ours|peer] [FILTER...]
//! ```
//!
//! Each test is reported by name as it ends, with what it printed if it failed. `--daemons peer` runs Debian's Open vSwitch instead (or
//! the one in the folders that `TURNOUT_PEER` lists): it shows that a test asks for what Open vSwitch does.
#![forbid(unsafe_code)]

mod world;
mod l2;
mod actions;
mod tunnels;
mod conntrack;
mod shaping;
mod watching;
mod pings;
mod restart;
mod record;
mod netlink;
mod simnic;
mod offload;
mod hardware;
mod same;
mod room;
mod tracked;

use std::net::Ipv4Addr;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tests::kit::Kit;
use world::World;

/// One test: a row of its module's table.
pub struct Test {
    name: &'static str,
    /// Part of every run of `scripts/test`, not only of `scripts/test --vm`.
    smoke: bool,
    /// The test starts the daemons itself.
    bare: bool,
    /// The simulated NIC is there.
    nic: bool,
    /// Only with `--long`, or by its whole name.
    long: bool,
    run: fn(&World),
}

impl Test {
    const fn new(name: &'static str, run: fn(&World)) -> Self {
        Self { name, smoke: false, bare: false, nic: false, long: false, run }
    }

    const fn bare(name: &'static str, run: fn(&World)) -> Self {
        Self { name, smoke: false, bare: true, nic: false, long: false, run }
    }

    const fn smoke(name: &'static str, run: fn(&World)) -> Self {
        Self { name, smoke: true, bare: false, nic: false, long: false, run }
    }

    const fn offloading(name: &'static str, run: fn(&World)) -> Self {
        Self { name, smoke: false, bare: false, nic: true, long: false, run }
    }

    const fn long(self) -> Self {
        Self { long: true, ..self }
    }

    const fn nic(name: &'static str, run: fn(&World)) -> Self {
        Self { name, smoke: false, bare: true, nic: true, long: false, run }
    }
}

const TABLES: &[&[Test]] = &[
    l2::TESTS,
    actions::TESTS,
    tunnels::TESTS,
    conntrack::TESTS,
    shaping::TESTS,
    watching::TESTS,
    restart::TESTS,
    netlink::TESTS,
    simnic::TESTS,
    offload::TESTS,
    hardware::TESTS,
    same::TESTS,
    room::TESTS,
    tracked::TESTS,
];

/// What tests run as processes of their own.
const PARTS: &[&[Test]] = &[netlink::PARTS];

/// The longest that a test may take. Emulated processors are slow, and the machine may be busy.
const LIMIT: Duration = Duration::from_secs(1800);
/// The longest that one of `--long` may take.
const LONG_LIMIT: Duration = Duration::from_secs(7200);

struct Options {
    smoke: bool,
    long: bool,
    list: bool,
    jobs: usize,
    daemons: String,
    /// The one test to run in this process: how the runner calls itself.
    inside: Option<String>,
    /// Only to send pings there.
    pings: Option<Ipv4Addr>,
    /// Only to answer them.
    answers: bool,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("vm-tests: {why}");
            return ExitCode::from(2);
        }
    };
    let only = options.pings.map(pings::send).or_else(|| options.answers.then(pings::answer));
    if let Some(Err(error)) = &only {
        eprintln!("vm-tests: {error}");
        return ExitCode::FAILURE;
    }
    if only.is_some() {
        return ExitCode::SUCCESS;
    }
    if let Some(name) = &options.inside {
        return run_inside(name, &options);
    }
    let chosen: Vec<&Test> = TABLES
        .iter()
        .flat_map(|table| table.iter())
        .filter(|test| !options.smoke || test.smoke)
        .filter(|test| options.long || !test.long || options.filters.iter().any(|f| f == test.name))
        .filter(|test| options.filters.is_empty() || options.filters.iter().any(|f| test.name.contains(f)))
        .collect();
    if options.list {
        for test in &chosen {
            println!("{}", test.name);
        }
        return ExitCode::SUCCESS;
    }
    if !std::path::Path::new("/sys/module/openvswitch").exists() {
        eprintln!("vm-tests: this kernel has no openvswitch module loaded; run me by scripts/vm");
        return ExitCode::from(2);
    }
    let nic = std::path::Path::new("/sys/module/simnic").exists();
    let (chosen, skipped): (Vec<&Test>, Vec<&Test>) = chosen.into_iter().partition(|test| nic || !test.nic);
    for test in &skipped {
        println!("skipped           {}: no simulated NIC is loaded (scripts/vm --simnic)", test.name);
    }
    if chosen.is_empty() && !skipped.is_empty() {
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        eprintln!("vm-tests: no test has such a name; --list shows them");
        return ExitCode::from(2);
    }
    run_all(&chosen, &options)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let daemons = std::env::var("TURNOUT_VM_DAEMONS").unwrap_or_else(|_| "ours".into());
    let mut options = Options {
        smoke: false,
        long: false,
        list: false,
        jobs: 2,
        daemons,
        inside: None,
        pings: None,
        answers: false,
        filters: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--smoke" => options.smoke = true,
            "--long" => options.long = true,
            "--list" => options.list = true,
            "--jobs" => options.jobs = value()?.parse().map_err(|_| "--jobs needs a number")?,
            "--daemons" => options.daemons = value()?,
            "--inside" => options.inside = Some(value()?),
            "--answers" => options.answers = true,
            "--pings" => options.pings = Some(value()?.parse().map_err(|_| "--pings needs an address")?),
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
            _ => options.filters.push(arg),
        }
    }
    kit(&options.daemons)?;
    Ok(options)
}

fn kit(daemons: &str) -> Result<Kit, String> {
    match daemons {
        "ours" => Ok(Kit::ours()),
        "peer" => Ok(Kit::peer()),
        other => Err(format!("--daemons: ours or peer, not {other}")),
    }
}

/// Runs `tests`, `options.jobs` at a time, and tells how each ended.
fn run_all(tests: &[&Test], options: &Options) -> ExitCode {
    let queue = Mutex::new(tests.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no holder panics").next();
                    let Some(test) = next else { return };
                    let start = Instant::now();
                    let output = apart(test.name, &options.daemons);
                    let seconds = start.elapsed().as_secs_f32();
                    match output {
                        Ok(said) => {
                            let figures: String =
                                said.lines().map(|line| format!("\n          {line}")).collect();
                            println!("ok      {seconds:6.1} s  {}{figures}", test.name);
                        }
                        Err(output) => {
                            println!("FAILED  {seconds:6.1} s  {}\n{}\n", test.name, output.trim_end());
                            failed.lock().expect("no holder panics").push(test.name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder panics");
    println!(
        "\n{} passed, {} failed, on {} daemons",
        tests.len() - failed.len(),
        failed.len(),
        options.daemons
    );
    for name in &failed {
        println!("FAILED  {name}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the test or part `name` on `daemons` in a process with namespaces of its own. Its standard output, or what it
/// complained of.
pub fn apart(name: &str, daemons: &str) -> Result<String, String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let is_long = TABLES.iter().flat_map(|table| table.iter()).any(|test| test.name == name && test.long);
    let limit = if is_long { LONG_LIMIT } else { LIMIT }.as_secs().to_string();
    let out = Command::new("timeout")
        .args([
            "-k",
            "5",
            &limit,
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        // Process 1 of the test is a shell: it reaps what daemons leave behind.
        .args(["bash", "-c", r#""$@"; exit $?"#, "bash"])
        .arg(me)
        .args(["--daemons", daemons, "--inside", name])
        .env("RUST_BACKTRACE", "0")
        // The test's own; not /tmp, where the checkout may be.
        .env("TMPDIR", "/run/vm-test")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    let [said, complaint] =
        [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    match out.status.code() {
        Some(0) => Ok(said),
        Some(124 | 137) => Err(format!("{said}{complaint}\nthe time limit of {limit} s is reached")),
        _ => Err(format!("{said}{complaint}")),
    }
}

/// Runs the test `name` here; a panic is its failure.
fn run_inside(name: &str, options: &Options) -> ExitCode {
    let mut tests = TABLES.iter().chain(PARTS).flat_map(|table| table.iter());
    let Some(test) = tests.find(|test| test.name == name) else {
        eprintln!("vm-tests: no test {name}");
        return ExitCode::from(2);
    };
    let Ok(kit) = kit(&options.daemons) else { return ExitCode::from(2) };
    let world = if test.bare { World::bare(&kit) } else { World::new(&kit) };
    (test.run)(&world);
    if test.nic {
        world.check_kernel();
    }
    // Without daemons, the NIC is all there is.
    if !(test.nic && test.bare) {
        world.check_end();
    }
    ExitCode::SUCCESS
}
