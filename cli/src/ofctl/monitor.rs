//! Printing what a switch says until told to stop; with a control socket for sending to it meanwhile.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::clock::SystemClock;
use daemon::detach::{self, Detached};
use daemon::unixctl::{Command, Commands, Host, Reply, Request, Responder, Server, Services, builtins};
use openflow::action::Decode;
use openflow::header::{self, Header, Type};
use openflow::msg::hello::{self, Versions};
use openflow::msg::monitor::MonitorRequest;
use openflow::msg::nicira::PacketInFormat;
use openflow::msg::packet_in::{Continuation, PacketIn};
use openflow::names::Names;
use openflow::parse::monitor::monitor_request;
use openflow::parse::packet_out;
use openflow::print;
use openflow::text::atoi;
use openflow::version::Version;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::options::versions_of;
use super::packets::message_from_hex;
use super::remote::{Socket, failed};
use super::switch::{fetch_config, set_config};
use super::vconn::{Vconn, VconnError, barrier_raw, read_message};
use super::{Context, Fatal, Outcome, PROGRAM, die, timestamp};

pub(super) fn monitor(context: &mut Context) -> Outcome {
    if context.args[2..].iter().any(|arg| arg == "invalid_ttl") {
        allow_invalid_ttl(context)?;
    }
    let detached = detach(context)?;
    let switch = context.arg(1).to_owned();
    let mut vconn = context.open(&switch)?;
    let mut resume = false;
    let args = context.args.split_off(2);
    for arg in args {
        resume |= prepare(context, &mut vconn, &switch, &arg)?;
    }
    choose_format(context, &mut vconn)?;
    let names = context.show(&switch)?;
    serve(context, vconn, names, detached, Replies { echo: true, resume })
}

pub(super) fn snoop(context: &mut Context) -> Outcome {
    let detached = detach(context)?;
    let switch = context.arg(1).to_owned();
    let vconn = context.open_socket(&switch, Socket::Snoop)?;
    let names = context.show(&switch)?;
    serve(context, vconn, names, detached, Replies { echo: false, resume: false })
}

/// Becomes a daemon if asked to; nothing else may run yet.
fn detach(context: &Context) -> Outcome<Detached> {
    detach::start(context.options.common.daemon.clone(), &context.options.log)
        .map_err(|error| Fatal::Log("daemon_unix", error.to_string()))
}

/// The setting of `invalid_ttl` exists up to OpenFlow 1.2.
fn allow_invalid_ttl(context: &mut Context) -> Outcome {
    let usable: Versions = [Version::V10, Version::V11, Version::V12].into_iter().collect();
    let versions = &mut context.options.versions;
    if versions.0 & usable.0 == 0 {
        die!(
            "invalid_ttl requires one of the OpenFlow versions {} but none is enabled (use -O)",
            usable.names()
        );
    }
    versions.0 &= usable.0;
    Ok(())
}

/// Does what one argument says; whether it says that packets be sent on their way again.
fn prepare(context: &mut Context, vconn: &mut Vconn, switch: &str, arg: &str) -> Outcome<bool> {
    if let Some(text) = arg.strip_prefix("watch:") {
        let names = context.accept(switch)?;
        let (request, _) = monitor_request(text, 0, &names)?;
        let xid = vconn.next_xid();
        let request = MonitorRequest::encode(&request, vconn.version(), xid);
        context.dump(vconn, &request)?;
        std::io::stdout().flush().map_err(failed("write failed"))?;
        return Ok(false);
    }
    let resume = arg == "resume";
    if !resume && arg != "invalid_ttl" && !arg.starts_with(|c: char| c.is_ascii_digit()) {
        die!("{arg}: unsupported \"monitor\" argument");
    }
    let mut config = fetch_config(context, vconn)?;
    if arg == "invalid_ttl" {
        if config.invalid_ttl_to_controller == Some(true) {
            return Ok(false);
        }
        config.invalid_ttl_to_controller = Some(true);
        set_config(context, vconn, &config)?;
        if fetch_config(context, vconn)?.invalid_ttl_to_controller != Some(true) {
            die!("setting invalid_ttl_to_controller failed (this switch probably doesn't support this flag)");
        }
        return Ok(false);
    }
    config.miss_send_len = if resume { u16::MAX } else { atoi(arg) as u16 };
    set_config(context, vconn, &config)?;
    Ok(resume)
}

fn choose_format(context: &mut Context, vconn: &mut Vconn) -> Outcome {
    let version = vconn.version();
    let set = |format: PacketInFormat, vconn: &mut Vconn| {
        let xid = vconn.next_xid();
        let name = vconn.name().to_owned();
        vconn.transact_noreply(&format.encode(version, xid)).map_err(failed(format!("talking to {name}")))
    };
    if let Some(format) = context.options.packet_in_format {
        let xid = vconn.next_xid();
        return context.transact_one(vconn, format.encode(version, xid));
    }
    let refused = set(PacketInFormat::Nxt2, vconn)?.is_some();
    if refused && version == Version::V10 {
        set(PacketInFormat::Nxt, vconn)?;
    }
    Ok(())
}

/// What is answered by itself.
#[derive(Clone, Copy)]
struct Replies {
    echo: bool,
    resume: bool,
}

/// What the control socket's commands work on.
struct Monitor {
    services: Services,
    /// Where messages are printed: standard error until told otherwise.
    output: File,
    names: Rc<Names>,
    version: Version,
    verbosity: i32,
    timestamps: bool,
    replies: Replies,
    blocked: bool,
    /// Who waits for the reply to a barrier.
    barrier: Option<Responder>,
    /// Messages to send.
    outbox: Vec<Vec<u8>>,
    xid: u32,
}

impl Host for Monitor {
    fn services(&mut self) -> &mut Services {
        &mut self.services
    }
}

impl Monitor {
    /// Prints; whoever reads may have gone, which is no reason to stop.
    fn print(&mut self, text: &str) {
        let _ = self.output.write_all(text.as_bytes());
    }

    fn print_sent(&mut self, message: &[u8], names: &Names, verbosity: i32) {
        let text = print::to_string(message, names, verbosity);
        self.print(&format!("send: {text}"));
    }

    /// Prints a message and answers it if it is of those that are.
    fn take(&mut self, message: &[u8]) {
        if self.timestamps {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let stamp = timestamp(i64::try_from(now).unwrap_or(i64::MAX), true);
            self.print(&format!("{stamp}: "));
        }
        let names = Rc::clone(&self.names);
        self.print(&print::to_string(message, &names, self.verbosity + 2));
        match Header::peek(message).map(|header| header.kind()) {
            Ok(Type::BarrierReply) => {
                if let Some(waiting) = self.barrier.take() {
                    waiting.reply("");
                }
            }
            Ok(Type::EchoRequest) if self.replies.echo => {
                self.outbox.push(hello::echo_reply(self.version, message))
            }
            Ok(Type::PacketIn) if self.replies.resume => self.resume(message, &names),
            _ => {}
        }
    }

    /// Sends a packet on its way if it was only paused.
    fn resume(&mut self, message: &[u8], names: &Names) {
        let mut cx = Decode::new(self.version);
        let packet_in = match PacketIn::decode(message, true, &mut cx) {
            Ok(packet_in) => packet_in,
            Err(error) => return self.print(&format!("decoding packet-in failed: {error}")),
        };
        if packet_in.continuation == Continuation::default() {
            return;
        }
        let reply = packet_in.encode_resume(self.version);
        self.print_sent(&reply, names, self.verbosity + 2);
        self.outbox.push(reply);
    }

    fn next_xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }
}

fn commands() -> Commands<Monitor> {
    let mut commands = builtins();
    commands.add([
        Command::new("ofctl/send", "OFMSG...", 1, usize::MAX, send),
        Command::new(
            "ofctl/packet-out",
            "\"in_port=<port> packet=<hex data> actions=...\"",
            1,
            1,
            packet_out,
        ),
        Command::new("ofctl/barrier", "", 0, 0, barrier),
        Command::new("ofctl/set-output-file", "FILE", 1, 1, set_output_file),
        Command::new("ofctl/block", "", 0, 0, |monitor, _| set_blocked(monitor, true)),
        Command::new("ofctl/unblock", "", 0, 0, |monitor, _| set_blocked(monitor, false)),
    ]);
    commands
}

type Answer = Result<Reply, String>;

fn send(monitor: &mut Monitor, request: &Request) -> Answer {
    let (mut text, mut ok) = (String::new(), true);
    for hex in &request.args {
        match message_from_hex(hex) {
            Ok(message) => {
                monitor.print_sent(&message, &Names::default(), monitor.verbosity);
                monitor.outbox.push(message);
                text += "sent\n";
            }
            Err(error) => {
                ok = false;
                text += &format!("{error}\n");
            }
        }
    }
    if ok { Ok(text.into()) } else { Err(text) }
}

fn packet_out(monitor: &mut Monitor, request: &Request) -> Answer {
    let (po, usable) = match packet_out::packet_out(request.arg(0), &Names::default()) {
        Ok(parsed) => parsed,
        Err(error) => return Err(format!("{error}\n")),
    };
    if !versions_of(usable).contains(monitor.version) {
        return Err("unusable protocol for packet-out\n".to_owned());
    }
    let xid = monitor.next_xid();
    let message = po.encode(monitor.version, xid);
    monitor.print_sent(&message, &Names::default(), monitor.verbosity);
    monitor.outbox.push(message);
    Ok(Reply::empty())
}

fn barrier(monitor: &mut Monitor, request: &Request) -> Answer {
    if monitor.barrier.is_some() {
        return Err("already waiting for barrier reply".to_owned());
    }
    let xid = monitor.next_xid();
    let message = header::bare(barrier_raw(monitor.version), monitor.version, xid);
    monitor.outbox.push(message);
    monitor.barrier = Some(request.defer());
    Ok(Reply::Deferred)
}

fn set_output_file(monitor: &mut Monitor, request: &Request) -> Answer {
    match File::create(request.arg(0)) {
        Ok(file) => {
            monitor.output = file;
            Ok(Reply::empty())
        }
        Err(error) => Err(daemon::error_text(&error)),
    }
}

fn set_blocked(monitor: &mut Monitor, blocked: bool) -> Answer {
    if monitor.blocked == blocked {
        return Err(if blocked { "already blocking" } else { "already unblocked" }.to_owned());
    }
    monitor.blocked = blocked;
    Ok(Reply::empty())
}

/// Prints messages and serves the control socket until told to end.
fn serve(
    context: &Context,
    mut vconn: Vconn,
    names: Rc<Names>,
    mut detached: Detached,
    replies: Replies,
) -> Outcome {
    let options = &context.options;
    let output = std::io::stderr().as_fd().try_clone_to_owned().map_err(failed("standard error"))?;
    let server = match control_path(context) {
        None => None,
        Some(path) => match Server::bind(&path) {
            Ok(server) => Some(server),
            Err(error) => die!("failed to create unixctl server ({})", daemon::error_text(&error)),
        },
    };
    let mut monitor = Monitor {
        services: Services::new(PROGRAM, options.log.clone(), SystemClock::new()),
        output: File::from(output),
        names,
        version: vconn.version(),
        verbosity: options.verbosity,
        timestamps: options.timestamp,
        replies,
        blocked: false,
        barrier: None,
        outbox: Vec::new(),
        xid: vconn.next_xid(),
    };
    let log = options.log.clone();
    let (runtime, stream, received) = vconn.parts();
    let ended = runtime.block_on(async {
        let requests = match &server {
            Some(server) => server.start()?,
            None => mpsc::channel(1).1,
        };
        detached.complete(&log);
        let ended = rounds(&mut monitor, stream, received, requests).await;
        for waiting in monitor.services.exit.iter().flat_map(|exit| &exit.responders) {
            waiting.reply("");
        }
        if let Some(server) = &server {
            server.flush().await;
        }
        ended
    });
    drop(server);
    drop(detached);
    match ended {
        Ok(None) => Ok(()),
        Ok(Some(number)) => daemon::process::die_by(number),
        Err(error) => die!("vconn_recv ({error})"),
    }
}

fn control_path(context: &Context) -> Option<std::path::PathBuf> {
    let options = &context.options;
    match options.common.unixctl.as_deref() {
        Some("none") => None,
        Some(name) => Some(options.dirs.in_run(name)),
        None => Some(options.dirs.in_run(format!("{PROGRAM}.{}.ctl", std::process::id()))),
    }
}

/// The loop; gives the signal that ended it, if one did.
async fn rounds(
    monitor: &mut Monitor,
    stream: &mut daemon::stream::Stream,
    received: &mut Vec<u8>,
    mut requests: mpsc::Receiver<Request>,
) -> Result<Option<i32>, VconnError> {
    let commands = commands();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            message = read_message(stream, received), if !monitor.blocked => monitor.take(&message?),
            Some(request) = requests.recv() => commands.dispatch(monitor, &request),
            _ = term.recv() => return Ok(Some(SignalKind::terminate().as_raw_value())),
            _ = int.recv() => return Ok(Some(SignalKind::interrupt().as_raw_value())),
            _ = hup.recv() => return Ok(Some(SignalKind::hangup().as_raw_value())),
        }
        for message in std::mem::take(&mut monitor.outbox) {
            stream.write_all(&message).await?;
        }
        stream.flush().await?;
        if monitor.services.is_exiting() {
            return Ok(None);
        }
    }
}
