//! Network devices by name and type, as the `Interface` table configures them.
//!
//! A device exists before and apart from the datapath port that it becomes: the bridge opens it ([`Netdevs::open`]),
//! configures it, and hands it to [`crate::Datapath::port_add`]. One name is one device, whoever opens it; a device
//! goes when its last holder lets go, and with it what was made for it (a tap interface, an open file).
//!
//! Statistics keys and status keys are those of the `Interface` table (ovs-vswitchd.conf.db(5)).

pub mod tunnel;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bitflags::bitflags;
use flow::key::EthAddr;
use sys::errno::Errno;

use crate::Error;
use crate::linux::hook::Hooks;
use crate::linux::monitor::Versions;
use crate::linux::tc::Shaper;
use crate::user::port::Io;
use crate::user::port::dummy::Dummy;
use crate::user::port::kernel::System;
use crate::user::port::patch::Patch;
use crate::user::port::tap::TapDevice;

bitflags! {
    /// Link modes (`OFPPF_*` of OpenFlow 1.1 and later, with 40 Gb and up).
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct LinkModes: u32 {
        const MB10_HD = 1 << 0;
        const MB10_FD = 1 << 1;
        const MB100_HD = 1 << 2;
        const MB100_FD = 1 << 3;
        const GB1_HD = 1 << 4;
        const GB1_FD = 1 << 5;
        const GB10_FD = 1 << 6;
        const GB40_FD = 1 << 7;
        const GB100_FD = 1 << 8;
        const TB1_FD = 1 << 9;
        const OTHER = 1 << 10;
        const COPPER = 1 << 11;
        const FIBER = 1 << 12;
        const AUTONEG = 1 << 13;
        const PAUSE = 1 << 14;
        const PAUSE_ASYM = 1 << 15;
    }
}

bitflags! {
    /// Device flags.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct Flags: u8 {
        /// Administratively up.
        const UP = 1;
        /// Receives what is not addressed to it.
        const PROMISC = 2;
        const LOOPBACK = 4;
    }
}

/// What a link can do and does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Link {
    pub current: LinkModes,
    pub advertised: LinkModes,
    pub supported: LinkModes,
    pub peer: LinkModes,
    /// Present speed in Mbit/s, 0 if unknown.
    pub speed: u32,
    /// Highest speed in Mbit/s, 0 if unknown.
    pub max_speed: u32,
    /// `None` if unknown.
    pub full_duplex: Option<bool>,
}

/// A device's counters; what it does not count is `None`. [`Counters::rows`] gives the `statistics` column.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    pub rx_packets: Option<u64>,
    pub tx_packets: Option<u64>,
    pub rx_bytes: Option<u64>,
    pub tx_bytes: Option<u64>,
    pub rx_dropped: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub rx_errors: Option<u64>,
    pub tx_errors: Option<u64>,
    pub rx_frame_errors: Option<u64>,
    pub rx_over_errors: Option<u64>,
    pub rx_crc_errors: Option<u64>,
    pub rx_missed_errors: Option<u64>,
    /// Of these two the `statistics` column has nothing.
    pub tx_aborted_errors: Option<u64>,
    pub tx_carrier_errors: Option<u64>,
    pub collisions: Option<u64>,
    pub rx_multicast: Option<u64>,
    pub upcall_packets: Option<u64>,
    pub upcall_errors: Option<u64>,
}

impl Counters {
    /// Present counters by their key in the `statistics` column.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("rx_packets", self.rx_packets),
            ("tx_packets", self.tx_packets),
            ("rx_bytes", self.rx_bytes),
            ("tx_bytes", self.tx_bytes),
            ("rx_dropped", self.rx_dropped),
            ("tx_dropped", self.tx_dropped),
            ("rx_errors", self.rx_errors),
            ("tx_errors", self.tx_errors),
            ("rx_frame_err", self.rx_frame_errors),
            ("rx_over_err", self.rx_over_errors),
            ("rx_crc_err", self.rx_crc_errors),
            ("rx_missed_errors", self.rx_missed_errors),
            ("collisions", self.collisions),
            ("rx_multicast_packets", self.rx_multicast),
            ("upcall_packets", self.upcall_packets),
            ("upcall_errors", self.upcall_errors),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }
}

/// What a userspace device leaves to whoever sends its frames on, for the `status` column.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TxOffloads {
    pub tcp_csum: bool,
    pub udp_csum: bool,
    pub tcp_seg: bool,
}

impl TxOffloads {
    /// The rows of the `status` column.
    pub fn rows(self) -> BTreeMap<String, String> {
        [
            ("ip_csum", false),
            ("tcp_csum", self.tcp_csum),
            ("udp_csum", self.udp_csum),
            ("sctp_csum", false),
            ("tcp_seg", self.tcp_seg),
            ("vxlan_tso", false),
            ("gre_tso", false),
            ("geneve_tso", false),
            ("out_ip_csum", false),
            ("out_udp_csum", false),
        ]
        .into_iter()
        .map(|(name, on)| (format!("tx_{name}_offload"), on.to_string()))
        .collect()
    }
}

/// An address of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    pub ip: IpAddr,
    pub prefix: u8,
}

/// A network device. Methods take `&self` and may be called from any thread.
pub trait Netdev: Send + Sync {
    fn name(&self) -> &str;

    /// The type: `system`, `internal`, `tap`, `dummy`, `dummy-internal`, `dummy-pmd`, `patch`, a [`tunnel::Kind`].
    fn kind(&self) -> &'static str;

    /// Whether worker threads poll the device (`dummy-pmd`, `system`, …) rather than the main thread.
    fn is_pmd(&self) -> bool {
        false
    }

    /// The options in force, as `dpctl/show` prints them.
    fn config(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Applies the `options` column. Unknown options are left alone, as OVS does.
    ///
    /// # Errors
    /// [`Error::Config`] with the text for the `error` column.
    fn set_config(&self, _options: &BTreeMap<String, String>) -> Result<(), Error> {
        Ok(())
    }

    /// How the tunnel is configured that this is; `None` for all else.
    fn tunnel(&self) -> Option<Arc<tunnel::Config>> {
        None
    }

    /// The name of the datapath port that carries the device's packets: for tunnels a shared one.
    fn datapath_port(&self) -> String {
        self.name().to_owned()
    }

    /// The device that stands for a port of that name, where it is not this one.
    fn port_device(&self) -> Option<Arc<dyn Netdev>> {
        None
    }

    /// Says which datapath's ports carry the device's packets: the kernel's, or another.
    fn joined_datapath(&self, _in_kernel: bool) {}

    /// Lets a tunnel look anew where its packets leave; for when routes, links or the tunnel changed.
    fn look_for_egress(&self, _routes: &dyn tunnel::Routes) {}

    fn mac(&self) -> Result<EthAddr, Error>;

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error>;

    fn mtu(&self) -> Result<u16, Error>;

    fn set_mtu(&self, mtu: u16) -> Result<(), Error>;

    /// `None` for a device that the kernel does not know.
    fn ifindex(&self) -> Option<u32> {
        None
    }

    /// Whether it is up and there is a link; devices that cannot tell of links have one.
    fn carrier(&self) -> bool {
        self.flags().is_ok_and(|flags| flags.contains(Flags::UP))
    }

    /// How often the link came or went.
    fn carrier_resets(&self) -> u64 {
        0
    }

    fn flags(&self) -> Result<Flags, Error>;

    /// Sets the flags of `on`, clears those of `off`.
    fn update_flags(&self, off: Flags, on: Flags) -> Result<(), Error>;

    fn link(&self) -> Result<Link, Error> {
        Err(Error::Unsupported("link modes"))
    }

    fn counters(&self) -> Result<Counters, Error>;

    /// Counters of the device's own, by the key in the `statistics` column.
    fn custom_counters(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// The `status` column (`driver_name`, …).
    fn status(&self) -> Result<BTreeMap<String, String>, Error> {
        Ok(BTreeMap::new())
    }

    /// What the device leaves to the kernel when a userspace datapath sends by it; for the `status` column.
    fn tx_offloads(&self) -> Option<TxOffloads> {
        None
    }

    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    /// The packet side, opened anew, for a userspace datapath.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a device that carries no packets of its own (`patch`), or what the kernel said.
    fn io(&self) -> Result<Arc<dyn Io>, Error> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// What shapes and limits the device's traffic, if the kernel does.
    fn shaper(&self) -> Option<&Shaper> {
        None
    }

    /// Counts packets that translation received from a device without a packet side (`patch`).
    fn credit_rx(&self, _packets: u64, _bytes: u64) {}

    /// Counts packets that translation sent to a device without a packet side.
    fn credit_tx(&self, _packets: u64, _bytes: u64) {}

    /// The dummy device that this is, for `netdev-dummy/*`.
    fn as_dummy(&self) -> Option<&Dummy> {
        None
    }

    /// Changes whenever status, flags, addresses or configuration do; never 0.
    fn change_seq(&self) -> u64;
}

/// How a type of device is made. `kind` is the type asked for: one maker may serve several (`--enable-dummy=override`).
pub type Open = fn(devices: &Netdevs, name: &str, kind: &'static str) -> Result<Arc<dyn Netdev>, Error>;

/// Which types dummy devices take the place of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DummyLevel {
    Plain,
    System,
    Override,
}

/// The devices that are open, and the types that can be opened. The switch has one.
#[derive(Default)]
pub struct Netdevs {
    kinds: Mutex<BTreeMap<&'static str, Open>>,
    open: Mutex<BTreeMap<String, Weak<dyn Netdev>>>,
    dummies: AtomicU32,
    versions: Mutex<Option<Versions>>,
    tunnels: Arc<tunnel::Shared>,
    hooks: Arc<Hooks>,
}

impl Netdevs {
    /// Knows the types that every switch has: `system`, `tap`, `internal`, `patch` and tunnels.
    pub fn new() -> Self {
        let netdevs = Self::default();
        netdevs.register("system", System::open);
        netdevs.register("tap", TapDevice::open);
        netdevs.register("internal", System::internal);
        netdevs.register("patch", Patch::open);
        for kind in tunnel::KINDS {
            netdevs.register(kind.name, tunnel::Tunnel::open);
        }
        netdevs
    }

    /// Adds the dummy types (`--enable-dummy`). `override` of them take the place of every other type but `patch`
    /// (`--enable-dummy=override`); `system` of `system` alone (`--enable-dummy=system`).
    pub fn enable_dummy(&self, level: DummyLevel) {
        for kind in ["dummy", "dummy-internal", "dummy-pmd"] {
            self.register(kind, Dummy::open);
        }
        match level {
            DummyLevel::Plain => {}
            DummyLevel::System => self.register("system", Dummy::open),
            DummyLevel::Override => {
                for kind in ["system", "tap", "internal"] {
                    self.register(kind, Dummy::open);
                }
            }
        }
    }

    /// Makes `kind` a type that can be opened, in place of what it was before.
    pub fn register(&self, kind: &'static str, open: Open) {
        lock(&self.kinds).insert(kind, open);
    }

    /// The types that can be opened (`iface_types`).
    pub fn kinds(&self) -> Vec<&'static str> {
        lock(&self.kinds).keys().copied().collect()
    }

    /// Opens a device, or gives the one that is open under this name. An empty `kind` is `system`.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for an unknown type, `EEXIST` if the name is open as another type, or what making it gave.
    pub fn open(&self, name: &str, kind: &str) -> Result<Arc<dyn Netdev>, Error> {
        let kind = if kind.is_empty() { "system" } else { kind };
        let maker = lock(&self.kinds).get_key_value(kind).map(|(kind, open)| (*kind, *open));
        let mut devices = lock(&self.open);
        if let Some(device) = devices.get(name).and_then(Weak::upgrade) {
            return if device.kind() == kind { Ok(device) } else { Err(Errno::EEXIST.into()) };
        }
        let (kind, open) = maker.ok_or(Errno::EAFNOSUPPORT)?;
        let device = open(self, name, kind)?;
        devices.retain(|_, device| device.strong_count() > 0);
        devices.insert(name.to_owned(), Arc::downgrade(&device));
        Ok(device)
    }

    /// The last four bytes of the next dummy device's Ethernet address.
    pub fn dummy_serial(&self) -> u32 {
        0xaa55_0000_u32.wrapping_add(self.dummies.fetch_add(1, Ordering::Relaxed))
    }

    /// Devices of the kernel that are opened from now on ask `versions` whether they changed, not the kernel.
    pub fn watch_links(&self, versions: Versions) {
        *lock(&self.versions) = Some(versions);
    }

    /// What tells whether devices of the kernel changed, if somebody listens.
    pub fn link_versions(&self) -> Option<Versions> {
        lock(&self.versions).clone()
    }

    /// What filters of devices hang from.
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }

    /// What tunnels share.
    pub fn tunnels(&self) -> &Arc<tunnel::Shared> {
        &self.tunnels
    }

    /// Lets tunnels look anew where their packets leave.
    pub fn look_for_egress(&self, routes: &dyn tunnel::Routes) {
        self.all().iter().for_each(|device| device.look_for_egress(routes));
    }

    /// The open device of this name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn Netdev>> {
        lock(&self.open).get(name)?.upgrade()
    }

    /// All open devices, by name.
    pub fn all(&self) -> Vec<Arc<dyn Netdev>> {
        lock(&self.open).values().filter_map(Weak::upgrade).collect()
    }
}

/// Locks; a panic elsewhere while the lock was held leaves the maps whole, for every change to them is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
