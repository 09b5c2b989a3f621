//! Connects to the server, runs the commands, commits, tries again, and waits for the switch.

use std::sync::Arc;
use std::time::Duration;

use daemon::jsonrpc::Parser;
use daemon::stream::{Network, Stream};
use ovsdb::idl::{Idl, Note, Status, TxnId};
use ovsdb::output::{Printer, Style};
use ovsdb::schema::DatabaseSchema;
use ovsdb::symbols::Symbols;
use ovsdb::transact::random_uuid;
use ovsdb::value::Uuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::db::Db;
use super::names::Naming;
use super::syntax::{Command, Context, Needs, Stop};
use crate::dbclient::rpc::{Rpc, shuffled};

/// How a program's commands are run.
pub struct Settings {
    /// Logs a warning under the program's module.
    pub warn: fn(&str),
    /// Where the server is: one remote, or several with commas between.
    pub remote: String,
    /// Of several, only the leader of the cluster will do.
    pub leader_only: bool,
    /// Several are tried in an order of chance, else as given.
    pub shuffles: bool,
    pub schema: Arc<DatabaseSchema>,
    pub root_table: &'static str,
    /// The columns of the root table that count configurations asked for and done (`next_cfg`, `cur_cfg`): the program
    /// waits for the latter. None to not wait.
    pub wait: Option<(&'static str, &'static str)>,
    /// Connecting is tried again for ever.
    pub retry: bool,
    pub dry_run: bool,
    /// A command's output is one line, with `\n` for line breaks.
    pub oneline: bool,
    pub style: Style,
    /// The comment of the transaction.
    pub comment: String,
}

/// What one run of all commands gave.
struct Outputs(Vec<Output>);

struct Output {
    text: String,
    table: Option<ovsdb::output::Table>,
    /// The text is the provisional UUID of a new row, to be replaced by the one that the server gave.
    is_new_row: bool,
}

/// A session with the database server.
pub struct Session<'a> {
    settings: &'a Settings,
    naming: Naming,
    network: Network,
    commands: &'a [Command],
    db: Db,
    link: Option<Link>,
}

/// A connection.
struct Link {
    stream: Stream,
    parser: Parser,
}

/// How often a lost connection is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl<'a> Session<'a> {
    /// Prepares to run `commands`: finds out which columns they need.
    pub fn new(
        settings: &'a Settings,
        naming: Naming,
        network: Network,
        commands: &'a [Command],
    ) -> Result<Self, Stop> {
        let mut idl = Idl::new(settings.schema.clone());
        let mut needs = Needs::default();
        needs.table(settings.root_table);
        if let Some((_, current)) = settings.wait {
            needs.columns(settings.root_table, &[current]);
        }
        for command in commands {
            (command.syntax.prepare)(&naming, &command.args, &command.options, &mut needs)?;
        }
        for (table, columns) in &needs.tables {
            idl.monitor(table, "");
            columns.iter().for_each(|column| idl.monitor(table, column));
        }
        Ok(Self { settings, naming, network, commands, db: Db::new(idl, settings.root_table), link: None })
    }

    /// Runs everything; returns the exit status.
    pub async fn run(mut self) -> Result<i32, Stop> {
        loop {
            let seqno = self.db.idl.change_seqno();
            if self.db.idl.is_monitoring()
                && let Some((id, outputs, status)) = self.attempt().await?
            {
                self.print(id, outputs);
                return self.wait_for_switch(id, status).await;
            }
            while self.db.idl.change_seqno() == seqno || !self.db.idl.is_monitoring() {
                self.step(self.settings.retry).await?;
            }
        }
    }

    /// Runs the commands and commits; nothing if all must be tried again after the next change.
    async fn attempt(&mut self) -> Result<Option<(TxnId, Outputs, Status)>, Stop> {
        self.db.start_over();
        if self.settings.dry_run {
            self.db.txn.dry_run();
        }
        self.db.txn.comment(&self.settings.comment);
        let root = self.db.root();
        if let Some((next, _)) = self.settings.wait {
            self.db.txn.increment(self.settings.root_table, next, root, false);
        }
        let Some(outputs) = self.run_commands()? else { return Ok(None) };
        let id = self.db.idl.commit(&self.db.txn);
        while self.db.idl.status(id) == Status::Incomplete {
            self.step(true).await?;
        }
        match self.db.idl.status(id) {
            Status::TryAgain => Ok(None),
            Status::Error(text) => Err(Stop::Fatal(format!("transaction error: {text}"))),
            Status::NotLocked => Err(Stop::Fatal("database not locked".to_owned())),
            Status::Aborted if !self.settings.dry_run => Err(Stop::Fatal("transaction aborted".to_owned())),
            status @ (Status::Aborted | Status::Unchanged | Status::Success | Status::Incomplete) => {
                Ok(Some((id, outputs, status)))
            }
        }
    }

    /// Runs the commands in order; nothing if one of them waits for a change.
    fn run_commands(&mut self) -> Result<Option<Outputs>, Stop> {
        let mut symbols = Symbols::new(random_uuid);
        let mut outputs = Vec::new();
        for command in self.commands {
            let mut ctx = Context {
                db: &mut self.db,
                naming: &self.naming,
                symbols: &mut symbols,
                args: &command.args,
                options: &command.options,
                output: String::new(),
                table: None,
                try_again: false,
                warnings: Vec::new(),
                notes: Vec::new(),
            };
            let done = (command.syntax.run)(&mut ctx);
            let Context { output, table, try_again, warnings, notes, .. } = ctx;
            warnings.iter().for_each(|text| self.warn(text));
            notes.iter().for_each(|text| tracing::warn!(target: "db_ctl_base", "{text}"));
            done?;
            if try_again {
                return Ok(None);
            }
            outputs.push(Output { text: output, table, is_new_row: command.syntax.name == "create" });
        }
        self.check_symbols(&symbols)?;
        Ok(Some(Outputs(outputs)))
    }

    fn check_symbols(&self, symbols: &Symbols) -> Result<(), Stop> {
        for (name, symbol) in symbols.iter() {
            if !symbol.created {
                return Err(Stop::Fatal(format!(
                    "row id \"{name}\" is referenced but never created (e.g. with \"-- --id={name} create ...\")"
                )));
            }
            if symbol.strong_ref {
                continue;
            }
            let why = if symbol.weak_ref { "only a weak reference" } else { "no reference" };
            self.warn(&format!(
                "row id \"{name}\" was created but {why} to it was inserted, so it will not actually appear in the \
                 database"
            ));
        }
        Ok(())
    }

    fn warn(&self, text: &str) {
        (self.settings.warn)(text);
    }

    fn print(&self, id: TxnId, outputs: Outputs) {
        let mut printer = Printer::default();
        for output in outputs.0 {
            let mut text = output.text;
            if output.is_new_row
                && let Ok(provisional) = text.trim_end().parse::<Uuid>()
                && let Some(real) = self.db.idl.inserted(id, provisional)
            {
                text = format!("{real}\n");
            }
            match output.table {
                Some(table) => print!("{}", printer.format(&table, &self.settings.style)),
                None if self.settings.oneline => {
                    let line = text.strip_suffix('\n').unwrap_or(&text);
                    println!("{}", line.replace('\\', "\\\\").replace('\n', "\\n"));
                }
                None => print!("{text}"),
            }
        }
    }

    /// Waits until the switch has done what was committed, and looks at the interfaces that it made.
    async fn wait_for_switch(&mut self, id: TxnId, status: Status) -> Result<i32, Stop> {
        let (Some((_, current)), Status::Success) = (self.settings.wait, status) else { return Ok(0) };
        let Some(wanted) = self.db.idl.incremented(id) else { return Ok(0) };
        let done = |idl: &Idl| {
            let row = idl.first(self.settings.root_table);
            row.and_then(|row| row.integer(current)).is_some_and(|done| done >= wanted)
        };
        while !done(&self.db.idl) {
            self.step(true).await?;
        }
        let mut failed = false;
        for provisional in self.db.expected_interfaces() {
            let Some(row) =
                self.db.idl.inserted(id, *provisional).and_then(|uuid| self.db.idl.row("Interface", uuid))
            else {
                continue;
            };
            if row.integer("ofport").is_some_and(|port| port != -1) {
                continue;
            }
            let name = row.str("name").unwrap_or_default();
            let why = row
                .str("error")
                .filter(|why| !why.is_empty())
                .map_or(String::new(), |why| format!(": {why}"));
            let see = "See ovs-vswitchd log for details.";
            eprintln!("ovs-vsctl: Error detected while setting up '{name}'{why}.  {see}");
            failed = true;
        }
        if !failed {
            return Ok(0);
        }
        let logs = daemon::dirs::Dirs::from_env().log;
        eprintln!("ovs-vsctl: The default log directory is \"{}\".", logs.display());
        Ok(EXIT_PORT_FAILED)
    }

    /// Sends what is to be sent and takes in what comes, connecting first if need be.
    async fn step(&mut self, retry: bool) -> Result<(), Stop> {
        let Some(link) = &mut self.link else { return self.connect(retry).await };
        let idl = &mut self.db.idl;
        let done = link.exchange(idl).await;
        self.notes();
        if let Err(error) = done {
            self.link = None;
            self.db.idl.disconnected();
            if !retry {
                return Err(self.no_connection(&error));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        Ok(())
    }

    fn notes(&mut self) {
        while let Some(note) = self.db.idl.poll_note() {
            match note {
                Note::Warning(text) => tracing::warn!(target: "ovsdb_idl", "{text}"),
                Note::Info(text) => tracing::info!(target: "ovsdb_idl", "{text}"),
                Note::Debug(text) => tracing::debug!(target: "ovsdb_idl", "{text}"),
            }
        }
    }

    async fn connect(&mut self, retry: bool) -> Result<(), Stop> {
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        let remotes = self.settings.remote.split(',').filter(|remote| !remote.is_empty());
        let remotes = if self.settings.shuffles { shuffled(remotes) } else { remotes.collect() };
        for remote in &remotes {
            match self.open(remote, remotes.len() > 1).await {
                Ok(stream) => {
                    self.link = Some(Link { stream, parser: Parser::new() });
                    self.db.idl.connected();
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        if !retry {
            return Err(self.no_connection(&last));
        }
        tokio::time::sleep(RETRY_EVERY).await;
        Ok(())
    }

    /// Connects to an active remote, or waits for a server that connects to a passive one. One of `several` must serve the
    /// database as a member of a cluster should.
    async fn open(&self, remote: &str, several: bool) -> std::io::Result<Stream> {
        let stream = match remote.split_once(':') {
            Some(("punix" | "ptcp" | "pssl", _)) => self.network.listen(remote)?.accept().await,
            _ => self.network.connect(remote).await,
        }?;
        if !several {
            return Ok(stream);
        }
        let (database, leader_only) = (&self.settings.schema.name, self.settings.leader_only);
        let serving = Rpc::on(stream, remote).into_serving(database, leader_only).await;
        serving.ok_or_else(|| std::io::Error::other("no server of these leads the cluster or belongs to it"))
    }

    fn no_connection(&self, error: &std::io::Error) -> Stop {
        let why = daemon::error_text(error);
        Stop::Fatal(format!("{}: database connection failed ({why})", self.settings.remote))
    }
}

/// The exit status when the switch could not set up a new port.
const EXIT_PORT_FAILED: i32 = 65;

impl Link {
    /// Sends all output, then waits for input and feeds it to the copy.
    async fn exchange(&mut self, idl: &mut Idl) -> std::io::Result<()> {
        let mut sent = false;
        while let Some(message) = idl.poll_output() {
            self.stream.write_all(message.to_string().as_bytes()).await?;
            sent = true;
        }
        if sent {
            self.stream.flush().await?;
        }
        let mut buffer = vec![0; 65536];
        let n = self.stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.parser.feed(&buffer[..n]);
        while let Some(message) = self.parser.next_value().map_err(std::io::Error::other)? {
            idl.receive(&message);
        }
        Ok(())
    }
}
