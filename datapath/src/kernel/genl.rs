//! Generic netlink families of the openvswitch module: their numbers, the headers of their messages, and events.
//!
//! Events are heard by the `genetlink` crate, whose connections live on a thread of their own with a runtime of its own, for
//! [`crate::Datapath`]'s methods are plain calls from within the main runtime. Requests go by [`crate::netlink`], in batches
//! where there are many. (Families are looked up by us, too: that crate's reader of what is said of a family panics over an
//! attribute that is cut.)
//!
//! Every message of these families begins with `struct genlmsghdr` and `struct ovs_header`; attributes follow
//! (`linux/genetlink.h`, `linux/openvswitch.h`).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use flow::attr::{Attr, AttrError, Attrs, Writer};
use futures_util::{Stream, StreamExt};
use genetlink::message::RawGenlMessage;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use sys::errno::Errno;
use sys::netlink::{AsyncSocket, NETLINK_GENERIC};
use tokio::sync::watch;

use super::vport;
use crate::netlink::{Batch, Client, Malformed, Message, Outcome, Pool, flag};
use crate::{Error, PortChanges};

/// Bytes of the two headers.
pub const HEADER: usize = 8;

/// A family as requests name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Family {
    /// Its number on this machine.
    pub id: u16,
    /// The version of its protocol that we speak.
    pub version: u8,
}

impl Family {
    /// The headers of a message.
    pub fn header(self, command: u8, dp: u32) -> [u8; HEADER] {
        let [a, b, c, d] = dp.to_ne_bytes();
        [command, self.version, 0, 0, a, b, c, d]
    }

    /// Checks a message's headers; gives command, datapath and attributes.
    pub fn open<'a>(self, message: &Message<'a>) -> Result<(u8, u32, Attrs<'a>), Malformed> {
        let (command, dp, attrs) = open(message)?;
        if message.kind != self.id {
            return Err(Malformed::Unexpected { at: message.at, kind: message.kind, command });
        }
        Ok((command, dp, attrs))
    }
}

/// Command, datapath and attributes of a message of whichever family.
fn open<'a>(message: &Message<'a>) -> Result<(u8, u32, Attrs<'a>), Malformed> {
    let (head, tail) = message.payload.split_first_chunk::<HEADER>().ok_or_else(|| message.short(HEADER))?;
    let &[command, _, _, _, a, b, c, d] = head;
    let at = message.at + crate::netlink::HEADER + HEADER;
    Ok((command, u32::from_ne_bytes([a, b, c, d]), Attrs::new_at(tail, at)))
}

/// The attributes of a message by type; those from `N` up are a newer kernel's and not looked at. One that comes twice with
/// different payloads is an error. (The answer to a change of a meter names the meter twice.)
pub fn collect<const N: usize>(attrs: Attrs<'_>) -> Result<[Option<Attr<'_>>; N], AttrError> {
    let mut found = [None; N];
    collect_into(attrs, &mut found)?;
    Ok(found)
}

/// As [`collect`], to a place where there is nothing yet.
pub fn collect_into<'a>(attrs: Attrs<'a>, found: &mut [Option<Attr<'a>>]) -> Result<(), AttrError> {
    for attr in attrs {
        let attr = attr?;
        match found.get_mut(usize::from(attr.kind)) {
            Some(Some(first)) if first.data != attr.data => return Err(attr.invalid("present twice")),
            Some(slot) => *slot = Some(attr),
            None => {}
        }
    }
    Ok(())
}

/// An attribute that must be there; `within` is what it is missing in.
pub fn required<'a>(attr: Option<Attr<'a>>, kind: u16, within: Attrs<'_>) -> Result<Attr<'a>, AttrError> {
    attr.ok_or(AttrError::Missing { at: within.offset(), kind })
}

/// The families that the module has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Families {
    pub datapath: Family,
    pub vport: Family,
    pub flow: Family,
    pub packet: Family,
    /// Since Linux 4.15.
    pub meter: Option<Family>,
    /// Since Linux 4.18.
    pub ct_limit: Option<Family>,
    /// The multicast group of port changes.
    pub vport_group: u32,
}

/// The family that tells of families (`linux/genetlink.h`): its number, its request, and attributes.
mod controller {
    pub const ID: u16 = 16;
    /// Command and version, and two bytes of nothing.
    pub const GET_FAMILY: [u8; 4] = [3, 1, 0, 0];
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
    pub const GROUPS: u16 = 7;
    pub const GROUP_NAME: u16 = 1;
    pub const GROUP_ID: u16 = 2;
}

/// Reads what the controller says of a family: its number, and that of the multicast group which has its name, if there is
/// one.
pub(super) fn read_family(message: &Message<'_>, name: &str) -> Result<(u16, Option<u32>), AttrError> {
    let len = controller::GET_FAMILY.len();
    let at = message.at + crate::netlink::HEADER + len;
    let attrs = Attrs::new_at(message.payload.get(len..).unwrap_or_default(), at);
    let id = required(attrs.find(controller::FAMILY_ID), controller::FAMILY_ID, attrs)?.u16()?;
    for group in attrs.find(controller::GROUPS).iter().flat_map(Attr::nested) {
        let group = group?.nested();
        let named = group.find(controller::GROUP_NAME).map(|attr| attr.str()).transpose()?;
        if named == Some(name) {
            let number = required(group.find(controller::GROUP_ID), controller::GROUP_ID, group)?;
            return Ok((id, Some(number.u32()?)));
        }
    }
    Ok((id, None))
}

/// Asks for a family by its name, and for one of its multicast groups, if it has that.
///
/// # Errors
/// `ENOENT` if there is no such family.
pub fn family(
    client: &mut Client,
    name: &str,
    group: &str,
    version: u8,
) -> Result<(Family, Option<u32>), Error> {
    let mut batch = Batch::default();
    batch.push(controller::ID, 0, &controller::GET_FAMILY, |attrs| {
        attrs.put_str(controller::FAMILY_NAME, name);
    });
    let mut result = Err(Errno::EPROTO.into());
    client.transact_batch(&mut batch, &mut |_, outcome| {
        result = match outcome {
            Outcome::Reply(message) => read_family(&message, group).map_err(Error::from),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Done | Outcome::Warned(_) => Err(Errno::EPROTO.into()),
            Outcome::Unknown => Err(Errno::ENOBUFS.into()),
        };
    })?;
    let (id, group) = result?;
    Ok((Family { id, version }, group))
}

/// Runs `work` on a thread with a runtime of its own.
fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(tokio::runtime::Runtime) -> T + Send + 'static,
) -> Result<JoinHandle<Result<T, std::io::Error>>, Error> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(work(runtime))
    })?;
    Ok(thread)
}

/// Tells the log what a lookup did not find.
pub(super) fn tell(found: &Result<Families, Error>) {
    match found {
        Err(_) => tracing::info!(
            target: "dpif_netlink", rl = "1,1",
            "Generic Netlink family 'ovs_datapath' does not exist. \
             The Open vSwitch kernel module is probably not loaded."
        ),
        Ok(found) => {
            if found.meter.is_none() {
                tracing::info!(target: "dpif_netlink", "The kernel module does not support meters.");
            }
            if found.ct_limit.is_none() {
                tracing::info!(
                    target: "dpif_netlink",
                    "Generic Netlink family 'ovs_ct_limit' does not exist. Please update the Open vSwitch kernel \
                     module to enable the conntrack limit feature."
                );
            }
        }
    }
}

/// Looks the families up.
///
/// # Errors
/// `ENOENT` if the openvswitch module is not there.
pub fn lookup() -> Result<Families, Error> {
    let client = &mut Client::open(NETLINK_GENERIC)?;
    // Groups are named as their families.
    let mut named = |name, version| family(client, name, name, version);
    let (datapath, _) = named("ovs_datapath", 2)?;
    let (vport, group) = named("ovs_vport", 1)?;
    let (flow, _) = named("ovs_flow", 1)?;
    let (packet, _) = named("ovs_packet", 1)?;
    let meter = named("ovs_meter", 1).ok().map(|(family, _)| family);
    let ct_limit = named("ovs_ct_limit", 1).ok().map(|(family, _)| family);
    let vport_group = group.ok_or(Errno::ENOENT)?;
    Ok(Families { datapath, vport, flow, packet, meter, ct_limit, vport_group })
}

/// Requests to the families.
pub struct Genl {
    pub families: Families,
    pool: Pool,
}

impl Genl {
    /// # Errors
    /// Those of [`lookup`].
    pub fn open() -> Result<Arc<Self>, Error> {
        let families = lookup()?;
        Ok(Arc::new(Self { families, pool: Pool::new(NETLINK_GENERIC) }))
    }

    /// Lends a client to `work`.
    pub fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, Error>) -> Result<T, Error> {
        self.pool.with(work)
    }

    /// A client for a long time; [`Genl::give_back`] returns it.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(self.pool.take()?)
    }

    pub fn give_back(&self, client: Client) {
        self.pool.give_back(client);
    }

    /// One request; what `read` makes of its reply, if there is one.
    pub fn transact<T>(
        &self,
        family: Family,
        (command, dp): (u8, u32),
        flags: u16,
        fill: impl FnOnce(&mut Writer),
        read: impl FnOnce(&Message<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut batch = Batch::default();
        batch.push(family.id, flags, &family.header(command, dp), fill);
        let mut result = Ok(None);
        let mut read = Some(read);
        self.with(|client| {
            client.transact_batch(&mut batch, &mut |_, outcome| {
                result = match outcome {
                    Outcome::Done | Outcome::Warned(_) => Ok(None),
                    Outcome::Reply(message) => match read.take() {
                        Some(read) => read(&message).map(Some),
                        None => Ok(None),
                    },
                    Outcome::Refused(refusal) => Err(refusal.into()),
                    Outcome::Unknown => Err(Errno::ENOBUFS.into()),
                };
            })
        })?;
        result
    }

    /// As [`Genl::transact`], for a request that must be answered: changes are echoed.
    pub fn ask<T>(
        &self,
        family: Family,
        command: (u8, u32),
        flags: u16,
        fill: impl FnOnce(&mut Writer),
        read: impl FnOnce(&Message<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transact(family, command, flags | flag::ECHO, fill, read)?.ok_or(Errno::EPROTO.into())
    }

    /// All that a family has to say, each read by `read`.
    pub fn dump<T>(
        &self,
        family: Family,
        command: (u8, u32),
        fill: &dyn Fn(&mut Writer),
        read: &dyn Fn(&Message<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let head = family.header(command.0, command.1);
        let all = std::cell::RefCell::new(Vec::new());
        self.with(|client| {
            client.dump(family.id, &head, fill, &mut || all.borrow_mut().clear(), &mut |message| {
                all.borrow_mut().push(read(&message)?);
                Ok(())
            })
        })?;
        Ok(all.into_inner())
    }
}

/// Names of changed ports that may wait; beyond them, everything is looked at.
const MAX_CHANGED: usize = 1024;

#[derive(Default)]
struct Changed {
    names: BTreeSet<String>,
    all: bool,
    waker: Option<Waker>,
}

/// Hears what happens to the ports of one datapath.
pub struct Events {
    changed: Arc<Mutex<Changed>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), std::io::Error>>>,
}

fn lock(changed: &Mutex<Changed>) -> MutexGuard<'_, Changed> {
    changed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// Begins to listen. At first everything may have changed.
    pub fn listen(families: Families, dp: u32) -> Result<Self, Error> {
        let changed = Arc::new(Mutex::new(Changed { all: true, ..Changed::default() }));
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let listener = Listener { families, dp, changed: Arc::clone(&changed) };
        let thread =
            on_thread("genl_events", move |runtime| runtime.block_on(listener.run(stopped, &ready)))?;
        // From here on nothing is missed.
        let _ = is_ready.recv_timeout(Duration::from_secs(5));
        Ok(Self { changed, stop, thread: Some(thread) })
    }

    /// What changed since the last call.
    pub fn take(&self) -> PortChanges {
        let mut changed = lock(&self.changed);
        let names = std::mem::take(&mut changed.names);
        if std::mem::take(&mut changed.all) {
            PortChanges::All
        } else if names.is_empty() {
            PortChanges::None
        } else {
            PortChanges::Devices(names.into_iter().collect())
        }
    }

    /// Registers whom changes wake.
    pub fn wake_by(&self, waker: &Waker) {
        let mut changed = lock(&self.changed);
        changed.waker = Some(waker.clone());
        if changed.all || !changed.names.is_empty() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an event says, whose payload begins with `struct ovs_header`: nothing if it is not of a port of datapath `dp`, else
/// the port's name if that can be read.
pub(super) fn changed_port(dp: u32, command: u8, payload: &[u8]) -> Option<Option<&str>> {
    let (owner, attrs) = payload.split_first_chunk::<4>()?;
    let changes = matches!(command, vport::cmd::NEW | vport::cmd::DEL | vport::cmd::SET);
    let ours = u32::from_ne_bytes(*owner) == dp;
    let name = || Attrs::new(attrs).find(vport::attr::NAME).and_then(|name| name.str().ok());
    (ours && changes).then(name)
}

struct Listener {
    families: Families,
    dp: u32,
    changed: Arc<Mutex<Changed>>,
}

/// How long to wait before a broken connection is made anew.
const RECONNECT: Duration = Duration::from_secs(1);

impl Listener {
    async fn run(self, mut stopped: watch::Receiver<bool>, ready: &mpsc::SyncSender<()>) {
        loop {
            let connected = genetlink::new_connection().and_then(|(mut connection, handle, messages)| {
                connection.socket_mut().socket_mut().add_membership(self.families.vport_group)?;
                Ok((connection, handle, messages))
            });
            let _ = ready.try_send(());
            match connected {
                Ok((connection, _handle, messages)) => {
                    let task = tokio::spawn(connection);
                    let ended = tokio::select! {
                        () = self.hear(messages) => false,
                        _ = stopped.changed() => true,
                    };
                    task.abort();
                    if ended {
                        return;
                    }
                }
                Err(error) => tracing::warn!(
                    target: "netlink_socket",
                    "could not join multicast group {} ({error})", self.families.vport_group
                ),
            }
            // What happened meanwhile is lost.
            self.note(None);
            tokio::select! {
                () = tokio::time::sleep(RECONNECT) => {}
                _ = stopped.changed() => return,
            }
        }
    }

    async fn hear<S, A>(&self, mut messages: S)
    where
        S: Stream<Item = (NetlinkMessage<RawGenlMessage>, A)> + Unpin,
    {
        while let Some((message, _)) = Pin::new(&mut messages).next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(raw) if raw.family_id == self.families.vport.id => {
                    self.heard(raw.header.cmd, &raw.payload);
                }
                NetlinkPayload::Overrun(_) => {
                    tracing::warn!(
                        target: "dpif_netlink", rl = "1,5",
                        "error reading or parsing netlink ({})", Errno::ENOBUFS
                    );
                    self.note(None);
                }
                _ => {}
            }
        }
    }

    fn heard(&self, command: u8, payload: &[u8]) {
        if let Some(name) = changed_port(self.dp, command, payload) {
            self.note(name);
        }
    }

    /// A port changed, or, without a name, any may have.
    fn note(&self, name: Option<&str>) {
        let mut changed = lock(&self.changed);
        match name {
            Some(name) if changed.names.len() < MAX_CHANGED => _ = changed.names.insert(name.to_owned()),
            _ => changed.all = true,
        }
        if let Some(waker) = &changed.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Messages;

    #[test]
    fn headers_are_checked() {
        let family = Family { id: 30, version: 2 };
        let mut batch = Batch::default();
        batch.push(30, 0, &family.header(3, 7), |attrs| attrs.put_u32(1, 9));
        let message = Messages::new(batch.bytes()).next().unwrap().unwrap();
        let (command, dp, attrs) = family.open(&message).unwrap();
        assert_eq!((command, dp), (3, 7));
        let [_, one, two] = collect::<3>(attrs).unwrap();
        assert_eq!(one.unwrap().u32(), Ok(9));
        assert_eq!(required(two, 2, attrs), Err(AttrError::Missing { at: 24, kind: 2 }));
        let other = Family { id: 31, version: 1 };
        assert_eq!(other.open(&message).err(), Some(Malformed::Unexpected { at: 0, kind: 30, command: 3 }));
        let short = Message { payload: &message.payload[..7], ..message };
        assert_eq!(family.open(&short).err(), Some(Malformed::Short { at: 0, want: 8, got: 7 }));
    }

    #[test]
    fn families_are_looked_up() {
        let client = &mut Client::open(NETLINK_GENERIC).unwrap();
        let found = family(client, "nlctrl", "nlctrl", 2);
        assert_eq!(found, Ok((Family { id: controller::ID, version: 2 }, None)));
        assert_eq!(family(client, "no such one", "", 1).unwrap_err().errno(), Errno::ENOENT);
    }

    #[test]
    fn a_family_s_own_group_is_found_and_cut_ones_are_refused() {
        let told = |fill: &dyn Fn(&mut Writer)| {
            let mut batch = Batch::default();
            batch.push(controller::ID, 0, &controller::GET_FAMILY, |attrs| {
                attrs.put_u16(controller::FAMILY_ID, 28);
                attrs.nest_flagged(controller::GROUPS, |groups| fill(groups));
            });
            let message = Messages::new(batch.bytes()).next().unwrap().unwrap();
            read_family(&message, "ovs_vport")
        };
        let group = |groups: &mut Writer, name: &str, number: u32| {
            groups.nest_flagged(1, |group| {
                group.put_u32(controller::GROUP_ID, number);
                group.put_str(controller::GROUP_NAME, name);
            });
        };
        let two = told(&|groups| {
            group(groups, "other", 4);
            group(groups, "ovs_vport", 5);
        });
        assert_eq!(two, Ok((28, Some(5))));
        assert_eq!(told(&|groups| group(groups, "other", 4)), Ok((28, None)));
        let cut = told(&|groups| groups.put_coded(&[2, 0]));
        assert_eq!(cut, Err(AttrError::BadLength { at: 32, len: 2 }));
    }

    #[test]
    fn duplicates_that_differ_are_refused() {
        let mut attrs = Writer::new();
        attrs.put_u8(1, 1);
        attrs.put_u8(9, 1);
        attrs.put_u8(9, 2);
        attrs.put_u8(1, 1);
        assert_eq!(collect::<3>(Attrs::new(attrs.bytes())).unwrap()[1].unwrap().u8(), Ok(1));
        attrs.put_u8(1, 2);
        let error = AttrError::Invalid { at: 32, kind: 1, what: "present twice" };
        assert_eq!(collect::<3>(Attrs::new(attrs.bytes())), Err(error));
    }

    #[test]
    fn events_name_ports_until_there_are_too_many() {
        let family = Family { id: 30, version: 1 };
        let families = Families {
            datapath: family,
            vport: family,
            flow: family,
            packet: family,
            meter: None,
            ct_limit: None,
            vport_group: 1,
        };
        let listener = Listener { families, dp: 7, changed: Arc::default() };
        let event = |dp: u32, name: &str| {
            let mut bytes = Writer::after(dp.to_ne_bytes().to_vec());
            bytes.put_str(vport::attr::NAME, name);
            bytes.into_bytes()
        };
        listener.heard(vport::cmd::NEW, &event(7, "b"));
        listener.heard(vport::cmd::DEL, &event(7, "a"));
        listener.heard(vport::cmd::GET, &event(7, "c"));
        listener.heard(vport::cmd::NEW, &event(8, "d"));
        listener.heard(vport::cmd::NEW, &[1, 2]);
        let names = std::mem::take(&mut lock(&listener.changed).names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!lock(&listener.changed).all);
        for n in 0..=MAX_CHANGED {
            listener.heard(vport::cmd::SET, &event(7, &n.to_string()));
        }
        assert!(lock(&listener.changed).all);
    }
}
