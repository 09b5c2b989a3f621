//! Command lines, control sockets, logging, targets of streams, captures, sFlow.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::task::Waker;

use cli::ctl::db::Db;
use cli::ctl::names::Naming;
use cli::ctl::syntax::{self, Context, Needs};
use cli::ofctl::pcap::Frames;
use cli::vsctl::program::{COMMANDS, ROW_IDS, SHOW};
use daemon::clock::SystemClock;
use daemon::options::{Arg, Getopt, Row};
use daemon::stream::{Passive, Target as Active, is_known_target};
use daemon::unixctl::{Command, Commands, Host, Request, Services, builtins, time_commands};
use daemon::vlog::pattern::{self, Line};
use daemon::vlog::{Facility, Level, Logger};
use datapath::dpctl::{self, Env};
use datapath::netdev::tunnel::Tunnel;
use datapath::netdev::{DummyLevel, Netdev, Netdevs};
use datapath::user::port::pcap;
use datapath::user::{Engine, Setup};
use datapath::{Datapath, Error};
use flow::time::{Clock, Instant, WallTime};
use ovsdb::idl::Idl;
use ovsdb::symbols::Symbols;
use ovsdb::transact::random_uuid;
use sflow::{Datagram, Sample};
use sys::errno::Errno;

use super::packets::{action_texts, flows, frames};
use super::{Target, none};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new("dpctl-text", "a command line of ovs-dpctl", dpctl_text, dpctl_seeds, dpctl_words),
    Target::new("vsctl-text", "a command line of ovs-vsctl", vsctl_text, vsctl_seeds, vsctl_words),
    Target::new(
        "tunnel-text",
        "options of a tunnel, as the database has them",
        tunnel_text,
        tunnel_seeds,
        tunnel_words,
    ),
    Target::new("unixctl", "a request to a control socket", unixctl, unixctl_seeds, unixctl_words),
    Target::new("options", "a command line", options, option_seeds, option_words),
    Target::new("vlog", "logging levels and patterns", vlog, vlog_seeds, vlog_words),
    Target::new("stream-target", "where a stream leads", target, target_seeds, target_words),
    Target::new("pcap", "a capture file", captures, capture_seeds, none),
    Target::new("sflow", "an sFlow datagram", datagrams, datagram_seeds, none),
];

/// Words of a command line: a blank each, or a newline where words have blanks.
fn split(text: &str) -> Vec<String> {
    let by = if text.contains('\n') { '\n' } else { ' ' };
    text.split(by).map(str::to_owned).collect()
}

fn utf8(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn split_words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Time does not pass.
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _: Instant, _: &Waker) {}
}

/// One userspace datapath without ports.
struct OneDatapath(Arc<Engine>);

impl Env for OneDatapath {
    fn datapaths(&self) -> Vec<(String, String)> {
        vec![("dummy".to_owned(), "ovs-dummy".to_owned())]
    }

    fn open(&self, _: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
        if name == "ovs-dummy" { Ok(self.0.clone()) } else { Err(Errno::ENODEV.into()) }
    }

    fn create(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
        self.open(kind, name)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<(), Error> {
        self.open(kind, name).map(|_| ())
    }

    fn open_device(&self, _: &str, _: &str) -> Result<Arc<dyn Netdev>, Error> {
        Err(Errno::EAFNOSUPPORT.into())
    }

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

fn engine() -> OneDatapath {
    let setup = Setup {
        name: "ovs-dummy".to_owned(),
        kind: "dummy".to_owned(),
        dummy: true,
        clock: Arc::new(Still),
        seed: 1,
        cores: Some(vec![(0, 0)]),
    };
    let devices = Netdevs::new();
    devices.enable_dummy(DummyLevel::Plain);
    let engine = Engine::new(setup, &devices);
    OneDatapath(Arc::new(engine.expect("a datapath without ports needs nothing")))
}

static ENGINE: LazyLock<OneDatapath> = LazyLock::new(engine);

/// Commands, a line each, with a tab between words.
fn dpctl_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines().take(8) {
        let words: Vec<&str> = line.split('\t').collect();
        // Those read files, and standard input.
        if words.first().is_some_and(|name| name.ends_with("flows") && *name != "dump-flows") {
            continue;
        }
        for appctl in [true, false] {
            let options = dpctl::Options { appctl, program: "ovs-dpctl".to_owned(), ..Default::default() };
            let _ = dpctl::run(&*ENGINE, options, &words);
        }
        let named = words.split_first().and_then(|(name, rest)| {
            Some((dpctl::COMMANDS.iter().find(|command| command.name == *name)?, rest))
        });
        if let Some((command, rest)) = named
            && rest.len() >= command.min_args
        {
            let _ = dpctl::appctl(&*ENGINE, "ovs-vswitchd", command, rest, rest.len() % 2 == 1);
        }
    }
    let _ = ENGINE.0.flow_flush();
}

fn dpctl_seeds() -> Vec<Vec<u8>> {
    let mut lines: Vec<String> = flows()
        .iter()
        .zip(action_texts())
        .map(|(flow, actions)| format!("add-flow\t{flow}\t{actions}\ndump-flows\t-m"))
        .collect();
    lines.extend(action_texts().iter().map(|actions| format!("parse-actions\t{actions}")));
    lines.extend(
        flows().iter().map(|flow| format!("normalize-actions\t{flow}\t1,push_vlan(vid=3,pcp=0),p\tp=7")),
    );
    let more = [
        "dump-flows\t-m\tfilter=tcp,nw_src=10.0.0.1\ttype=ovs,offloaded",
        "ct-set-limits\tdefault=5\tzone=1,limit=2",
        "flush-conntrack\tzone=5\tmark=1/2\tct_nw_src=1.1.1.1,ct_nw_proto=6",
        "ct-del-limits\tdefault\tzone=1,2",
        "cache-set-size\tovs-dummy\tmasks\t5",
        "get-flow\tufid:00000000-0000-0001-0000-000000000002",
        "show\t-s",
        "ipf-set-min-frag\tv4\t1000",
        "add-if\tovs-dummy\tp1,type=dummy,port_no=5",
        "list-commands",
        "ct-bkts\tgt=5",
    ];
    lines.into_iter().chain(more.map(str::to_owned)).map(String::into_bytes).collect()
}

fn dpctl_words() -> Vec<String> {
    let mut words = super::packets::TARGETS
        .iter()
        .find(|target| target.name == "action-text")
        .map_or(Vec::new(), |t| (t.words)());
    words.extend(dpctl::COMMANDS.iter().map(|command| format!("{}\t", command.name)));
    words.extend(split_words(
        "dummy@ovs-dummy filter= type= pmd= zone= limit= default= gt= mark= labels= -m -s --names --clear",
    ));
    words
}

/// Commands of one call, run on an empty database that nobody hears of.
fn vsctl_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(commands) = syntax::parse(COMMANDS, &split(text), BTreeMap::new()) else { return };
    let naming = Naming { schema: ovsdb::vswitch::schema(), row_ids: ROW_IDS, show: SHOW };
    let mut idl = Idl::new(ovsdb::vswitch::schema());
    let mut needs = Needs::default();
    needs.table("Open_vSwitch");
    for command in &commands {
        if (command.syntax.prepare)(&naming, &command.args, &command.options, &mut needs).is_err() {
            return;
        }
    }
    for (table, columns) in &needs.tables {
        idl.monitor(table, "");
        columns.iter().for_each(|column| idl.monitor(table, column));
    }
    let mut db = Db::new(idl, "Open_vSwitch");
    let mut symbols = Symbols::new(random_uuid);
    for command in &commands {
        let mut context = Context {
            db: &mut db,
            naming: &naming,
            symbols: &mut symbols,
            args: &command.args,
            options: &command.options,
            output: String::new(),
            table: None,
            try_again: false,
            warnings: Vec::new(),
            notes: Vec::new(),
        };
        if (command.syntax.run)(&mut context).is_err() {
            return;
        }
    }
    let id = db.idl.commit(&db.txn);
    let _ = db.idl.status(id);
}

fn vsctl_seeds() -> Vec<Vec<u8>> {
    utf8(&[
        "add-br br0 -- add-port br0 p1 tag=5 -- set interface p1 type=vxlan options:remote_ip=1.2.3.4 -- list-ports br0",
        "add-br br0 -- add-br fake br0 7 -- br-to-vlan fake -- del-port br0 p -- get bridge br0 name _uuid",
        "--id=@q create queue other-config:max-rate=1000 -- --id=@p create qos type=linux-htb queues:5=@q -- list qos",
        "--if-exists del-br br0 -- set open_vswitch . external-ids:a=b other_config={x=y} -- remove open_vswitch . external_ids a",
        "add-br b -- add-bond b bond0 p1 p2 lacp=active -- set-controller b tcp:1.2.3.4:6633 -- set-fail-mode b secure -- show",
        "set-manager ptcp:6640 -- get-manager -- set-ssl a b c -- get-ssl -- emer-reset -- del-manager",
        "--columns=name,ports find bridge name{>=}x external_ids:a!=b -- wait-until bridge br0 name=br0 -- clear bridge b ports",
        "add-zone-tp netdev zone=1 icmp_first=1 -- list-zone-tp netdev -- add-dp-cap netdev -- set-zone-limit netdev zone=5 7",
        "add-br b -- br-set-external-id b k v -- br-get-external-id b k -- add bridge b other_config a=b -- destroy bridge b",
        "add-aa-mapping b 1 2 -- get-aa-mapping b -- iface-to-br p1 -- port-to-br p1 -- br-exists b -- list-ifaces b",
    ])
}

fn vsctl_words() -> Vec<String> {
    let mut words: Vec<String> = COMMANDS.iter().copied().flatten().map(|row| row.name.to_owned()).collect();
    let options = COMMANDS.iter().copied().flatten().flat_map(|row| row.options.split(','));
    words.extend(options.map(|option| format!(" {option}")));
    words.extend(ovsdb::vswitch::schema().tables.keys().map(|name| format!(" {name}")));
    words.extend(split_words(
        "-- = != {>=} : @ . [] {a=b} [1,2] \"x\" _uuid name ports br0 p1 zone= tag= true",
    ));
    words
}

/// A kind, then `key=value` words.
fn tunnel_text(data: &[u8]) {
    let Some((pick, text)) = super::text_choice(data) else { return };
    let kind = TUNNELS[pick % TUNNELS.len()];
    let pairs = text.split(' ').map(|word| word.split_once('=').unwrap_or((word, "")));
    let options: BTreeMap<String, String> =
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let Ok(device) = Tunnel::open(&Netdevs::new(), "t", kind) else { return };
    if device.set_config(&options).is_ok() {
        let written = device.config();
        // Not all that is shown, as OVS shows it, can be configured: ERSPAN's version 0. Then nothing changes.
        let _ = device.set_config(&written);
        assert_eq!(device.config(), written);
    }
}

const TUNNELS: [&str; 9] =
    ["geneve", "gre", "vxlan", "erspan", "ip6erspan", "ip6gre", "gtpu", "bareudp", "srv6"];

fn tunnel_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "remote_ip=1.2.3.4 local_ip=flow key=flow tos=inherit ttl=64 df_default=false csum=true dst_port=4790 exts=gbp,gpe",
        "remote_ip=fe80::1 in_key=5 out_key=flow packet_type=legacy_l3 egress_pkt_mark=7 seq=true",
        "remote_ip=1.1.1.1 erspan_ver=2 erspan_dir=1 erspan_hwid=7 key=1",
        "erspan_ver=1 erspan_idx=0x5 remote_ip=flow",
        "payload_type=mpls dst_port=6635 remote_ip=1.1.1.1",
        "srv6_segs=fc00::1,fc00::2 srv6_flowlabel=compute remote_ip=fc00::1",
    ];
    (0..TUNNELS.len()).flat_map(|kind| super::chosen(kind, texts)).collect()
}

fn tunnel_words() -> Vec<String> {
    split_words(
        "remote_ip= local_ip= key= in_key= out_key= tos= ttl= df_default= csum= dst_port= exts= gbp gpe packet_type= ptap \
         legacy_l2 legacy_l3 egress_pkt_mark= seq= erspan_ver= erspan_idx= erspan_dir= erspan_hwid= payload_type= srv6_segs= \
         srv6_flowlabel= flow inherit ::1 1.2.3.4 0x mpls bad",
    )
}

/// The state of a daemon that does nothing.
struct Idle(Services);

impl Host for Idle {
    fn services(&mut self) -> &mut Services {
        &mut self.0
    }
}

static COMMON: LazyLock<Commands<Idle>> = LazyLock::new(|| {
    let mut commands = builtins();
    commands.add(time_commands());
    commands.add([Command::new("echo", "[arg]...", 0, 3, |_: &mut Idle, request: &Request| {
        Ok(request.args.join(" ").into())
    })]);
    commands
});

/// A command, with newlines between words.
fn unixctl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<&str> = text.split('\n').collect();
    let Some((method, args)) = words.split_first() else { return };
    let clock = SystemClock::new();
    let mut state = Idle(Services::new("fuzz", Logger::new("fuzz", clock.clone()), clock));
    let (request, mut answer) = Request::detached(method, args);
    COMMON.dispatch(&mut state, &request);
    // A warp in tiny steps would take long.
    for _ in 0..100 {
        if !state.0.step_warp() {
            break;
        }
    }
    drop(request);
    let deferred = state.0.is_exiting() || state.0.warp.is_some();
    assert!(deferred || answer.try_recv().is_ok(), "no answer to {words:?}");
}

fn unixctl_seeds() -> Vec<Vec<u8>> {
    utf8(&[
        "list-commands",
        "vlog/set\nANY:file:dbg\nPATTERN:console:%d %m",
        "time/stop",
        "time/warp\n1000\n10",
        "version",
        "coverage/show",
        "coverage/read-counter\nx",
        "exit\n--cleanup",
        "set-options\n--format\njson",
        "memory/show",
        "vlog/disable-rate-limit\nbridge",
        "vlog/list",
        "vlog/list-pattern",
        "vlog/close",
        "echo\na\nb",
    ])
}

fn unixctl_words() -> Vec<String> {
    COMMON.iter().map(|row| row.name.to_owned()).chain(split_words("--format json text --cleanup")).collect()
}

const ROWS: &[Row<u8>] = &[
    Row::new("verbose", Some('v'), Arg::Optional, 1),
    Row::new("version", Some('V'), Arg::No, 2),
    Row::new("timeout", Some('t'), Arg::Required, 3),
    Row::new("unixctl", None, Arg::Required, 4),
    Row::new("ünicode", Some('ü'), Arg::Optional, 5),
    Row::new("", Some('x'), Arg::No, 6),
];

/// Words with newlines between them.
fn options(data: &[u8]) {
    let Some((stop, text)) = super::text_choice(data) else { return };
    let args: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let most = text.len() + 1;
    let mut getopt = Getopt::new(ROWS, args.clone(), stop & 1 == 1);
    let mut steps = 0;
    while !matches!(getopt.next(), Ok(None)) {
        steps += 1;
        assert!(steps <= most, "more options than letters in {text}");
    }
    assert!(getopt.rest().len() <= args.len());
}

fn option_seeds() -> Vec<Vec<u8>> {
    super::chosen(
        0,
        [
            "--verbose=a\n-vb\n-Vt\n5\nfile\n--\n-x",
            "--ver\n--timeout\n--unixctl=u\n-",
            "-ü\n-xüV\n--ünicode=",
        ],
    )
}

fn option_words() -> Vec<String> {
    split_words("--verbose --version --timeout= --unixctl -v -V -t -x -- -ü --ünicode --ver =")
}

/// A word of `-v`, a newline, a pattern.
fn vlog(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (spec, form) = text.split_once('\n').unwrap_or((text, text));
    let logger = Logger::new("fuzz", SystemClock::new());
    let _ = logger.configure(spec);
    let _ = logger.set_syslog_method(spec);
    let _ = logger.set_syslog_target(spec);
    let _ = (logger.levels_text(), logger.patterns_text());
    let line = Line {
        app: "fuzz",
        module: "bridge",
        level: Level::Warn,
        message: "something\nhappened",
        number: 7,
        wall_ms: 1_700_000_000_123,
        uptime_ms: 12_345,
        thread: "handler1",
        facility: Facility::Local0,
    };
    let printed = pattern::format(form, &line);
    assert!(printed.len() <= (form.len() + 1) * 8192, "a line of {} bytes", printed.len());
}

fn vlog_seeds() -> Vec<Vec<u8>> {
    utf8(&[
        "bridge:file:dbg\n%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m",
        "PATTERN:syslog:%b %d\n<%B> %D{%h %e %T} %E %A: %-10p%%",
        "FACILITY:daemon\n%r %t %P %a %n %w",
        "ANY emer\n%020c%.5m",
        "unix:/x\n%D{",
        "udp:1.2.3.4:514\n%",
    ])
}

fn vlog_words() -> Vec<String> {
    split_words(
        "PATTERN: FACILITY: ANY syslog console file off emer err warn info dbg bridge %D{ %d{ ### %05 %- %c %m } udp: unix: libc",
    )
}

fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (text.parse::<Active>(), text.parse::<Passive>(), is_known_target(text));
}

fn target_seeds() -> Vec<Vec<u8>> {
    utf8(&[
        "tcp:1.2.3.4:6640",
        "ssl:[::1]:6640",
        "unix:/var/run/x",
        "ptcp:6640:127.0.0.1",
        "pssl:0:[::1%lo]",
        "punix:db.sock",
        "tcp:host",
        "ptcp:",
        "ptcp:65536",
        "tcp:[fe80::1%eth0]",
    ])
}

fn target_words() -> Vec<String> {
    split_words("tcp: ssl: unix: ptcp: pssl: punix: [::1] 1.2.3.4 :6640 %lo [ ]")
}

fn captures(data: &[u8]) {
    let frames = pcap::parse(data);
    let ours: Option<Vec<Vec<u8>>> = Frames::new(data.to_vec())
        .ok()
        .map(|frames| frames.map_while(Result::ok).map(|frame| frame.bytes).collect());
    // Both readers see the same in what is well-formed for the stricter.
    if let (Ok(frames), Some(ours)) = (frames, ours)
        && frames.iter().all(|frame| frame.len() <= 65535)
    {
        assert_eq!(frames, ours);
    }
}

fn capture_seeds() -> Vec<Vec<u8>> {
    let mut file = Vec::new();
    for (at, frame) in frames().iter().enumerate() {
        let one = cli::ofctl::pcap::file_of(frame, std::time::Duration::from_millis(5));
        file.extend(if at == 0 { &one[..] } else { &one[24..] });
    }
    let nanos = [
        &0xa1b2_3c4du32.to_be_bytes(),
        &[0; 16][..],
        &1u32.to_be_bytes(),
        &[0; 8],
        &4u32.to_be_bytes(),
        &[4; 8],
    ]
    .concat();
    vec![file, nanos]
}

fn datagrams(data: &[u8]) {
    let Ok(read) = Datagram::decode(data) else { return };
    // The expanded forms, which we read and do not write, have indices of 32 bits.
    let index = |sample: &Sample| match sample {
        Sample::Flow(flow) => flow.source.index,
        Sample::Counters(counters) => counters.source.index,
        Sample::Unknown(..) => 0,
    };
    if read.samples.iter().any(|sample| index(sample) > 0xff_ffff) {
        return;
    }
    let samples = read.samples.len() as u32;
    let mut bytes = Datagram::header(&read.agent, read.sub_agent, read.sequence, read.uptime, samples);
    bytes.extend(read.samples.iter().flat_map(Sample::encode));
    assert_eq!(Datagram::decode(&bytes).as_ref(), Ok(&read));
}

fn datagram_seeds() -> Vec<Vec<u8>> {
    use sflow::sample::{CountersSample, FlowSample, Source};
    let agent = "10.0.0.1".parse().expect("it is an address");
    let flow = Sample::Flow(FlowSample {
        sequence: 1,
        source: Source::interface(5),
        rate: 10,
        pool: 100,
        drops: 0,
        input: 3,
        output: 4,
        records: Vec::new(),
    });
    let counters =
        Sample::Counters(CountersSample { sequence: 1, source: Source::entity(2), records: Vec::new() });
    let samples = [flow, counters, Sample::Unknown(77, vec![1, 2, 3, 4])];
    let mut bytes = Datagram::header(&agent, 0, 1, 5, 3);
    bytes.extend(samples.iter().flat_map(Sample::encode));
    vec![bytes]
}
