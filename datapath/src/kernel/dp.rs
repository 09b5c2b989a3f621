//! `ovs_datapath`: datapaths, their counters and what userspace says it can do (`linux/openvswitch.h`).

use flow::attr::{Attr, AttrError, Writer};

use super::genl::{Family, Genl, collect, required};
use crate::netlink::Message;
use crate::{DpStats, Error};

mod cmd {
    pub const NEW: u8 = 1;
    pub const DEL: u8 = 2;
    pub const GET: u8 = 3;
    pub const SET: u8 = 4;
}

mod attr {
    pub const NAME: u16 = 1;
    pub const UPCALL_PID: u16 = 2;
    pub const STATS: u16 = 3;
    pub const MEGAFLOW_STATS: u16 = 4;
    pub const USER_FEATURES: u16 = 5;
    pub const MASKS_CACHE_SIZE: u16 = 7;
    pub const PER_CPU_PIDS: u16 = 8;
    /// One more than the last that is read.
    pub const N: usize = 9;
}

bitflags::bitflags! {
    /// What userspace can do, or asks for (`OVS_DP_F_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct UserFeatures: u32 {
        /// The last attribute of a message need not be aligned.
        const UNALIGNED = 1 << 0;
        /// A port may have several upcall sockets.
        const VPORT_PIDS = 1 << 1;
        /// tc and the datapath continue each other's packets.
        const TC_RECIRC_SHARING = 1 << 2;
        /// Upcalls go to the socket of the CPU that they happen on.
        const UPCALL_PER_CPU = 1 << 3;
        /// No kernel knows it: one that takes it checks nothing.
        const UNSUPPORTED = 1 << 31;
        const _ = !0;
    }
}

/// A datapath as the kernel tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dp {
    /// The interface index of its own port, by which messages name it.
    pub ifindex: u32,
    pub name: String,
    pub features: UserFeatures,
    pub stats: DpStats,
    /// Entries of the cache of masks; `None` before Linux 5.9.
    pub cache_size: Option<u32>,
}

/// What a request says of a datapath.
#[derive(Clone, Copy, Default)]
pub struct Request<'a> {
    /// 0 if it is named.
    pub ifindex: u32,
    pub name: Option<&'a str>,
    /// The socket for upcalls of its own port; 0 for none. For new ones.
    pub upcall_pid: Option<u32>,
    pub features: Option<UserFeatures>,
    /// The sockets for upcalls by CPU.
    pub per_cpu_pids: Option<&'a [u32]>,
    pub cache_size: Option<u32>,
}

impl Request<'_> {
    fn write(&self, attrs: &mut Writer) {
        if let Some(name) = self.name {
            attrs.put_str(attr::NAME, name);
        }
        if let Some(pid) = self.upcall_pid {
            attrs.put_u32(attr::UPCALL_PID, pid);
        }
        if let Some(features) = self.features.filter(|features| !features.is_empty()) {
            attrs.put_u32(attr::USER_FEATURES, features.bits());
        }
        if let Some(pids) = self.per_cpu_pids {
            let bytes: Vec<u8> = pids.iter().flat_map(|pid| pid.to_ne_bytes()).collect();
            attrs.put(attr::PER_CPU_PIDS, &bytes);
        }
        if let Some(size) = self.cache_size {
            attrs.put_u32(attr::MASKS_CACHE_SIZE, size);
        }
    }
}

/// Makes a datapath.
///
/// # Errors
/// `EEXIST` if there is one of this name, `EOPNOTSUPP` for features that the kernel lacks.
pub fn create(genl: &Genl, request: &Request<'_>) -> Result<Dp, Error> {
    ask(genl, cmd::NEW, request)
}

/// # Errors
/// `ENODEV` if there is none such.
pub fn get(genl: &Genl, request: &Request<'_>) -> Result<Dp, Error> {
    ask(genl, cmd::GET, request)
}

pub fn set(genl: &Genl, request: &Request<'_>) -> Result<Dp, Error> {
    ask(genl, cmd::SET, request)
}

/// Removes a datapath with its ports and flows.
pub fn delete(genl: &Genl, ifindex: u32) -> Result<(), Error> {
    let request = Request { ifindex, ..Request::default() };
    ask(genl, cmd::DEL, &request).map(|_| ())
}

/// All datapaths.
pub fn dump(genl: &Genl) -> Result<Vec<Dp>, Error> {
    genl.dump(genl.families.datapath, (cmd::GET, 0), &|_| {}, &|message| {
        decode(genl.families.datapath, message)
    })
}

fn ask(genl: &Genl, command: u8, request: &Request<'_>) -> Result<Dp, Error> {
    let family = genl.families.datapath;
    genl.ask(
        family,
        (command, request.ifindex),
        0,
        |attrs| request.write(attrs),
        |message| decode(genl.families.datapath, message),
    )
}

/// Reads a datapath.
pub(super) fn decode(family: Family, message: &Message<'_>) -> Result<Dp, Error> {
    let (_, ifindex, attrs) = family.open(message)?;
    let found = collect::<{ attr::N }>(attrs)?;
    let at = |kind: u16| found[usize::from(kind)];
    let number = |kind| at(kind).map(|attr| attr.u32()).transpose();
    Ok(Dp {
        ifindex,
        name: required(at(attr::NAME), attr::NAME, attrs)?.str()?.to_owned(),
        features: UserFeatures::from_bits_retain(number(attr::USER_FEATURES)?.unwrap_or(0)),
        stats: stats(at(attr::STATS), at(attr::MEGAFLOW_STATS))?,
        cache_size: number(attr::MASKS_CACHE_SIZE)?,
    })
}

/// `struct ovs_dp_stats` and `struct ovs_dp_megaflow_stats`. Kernels before 5.9 leave the count of cache hits at zero.
fn stats(basic: Option<Attr<'_>>, megaflow: Option<Attr<'_>>) -> Result<DpStats, AttrError> {
    let mut stats = DpStats::default();
    if let Some(basic) = basic {
        let [hits, misses, lost, flows] = words::<4>(&basic)?;
        stats = DpStats { hits, misses, lost, flows, ..stats };
    }
    if let Some(megaflow) = megaflow {
        let [mask_hits, masks, cache_hits] = words::<3>(&megaflow)?;
        // 32 bits and padding.
        let [a, b, c, d, ..] = masks.to_ne_bytes();
        stats.mask_hits = Some(mask_hits);
        stats.masks = Some(u32::from_ne_bytes([a, b, c, d]));
        stats.cache_hits = Some(cache_hits).filter(|hits| *hits != 0);
    }
    Ok(stats)
}

/// The first `N` 64-bit words of a structure that newer kernels may make longer.
pub(super) fn words<const N: usize>(attr: &Attr<'_>) -> Result<[u64; N], AttrError> {
    let mut words = [0; N];
    if attr.data.len() < N * 8 {
        return Err(attr.wrong_size(N * 8));
    }
    for (word, bytes) in words.iter_mut().zip(attr.data.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{FAMILY, message};
    use crate::netlink::Messages;
    use proptest::prelude::*;

    fn words_of(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_datapath_is_read() {
        let datagram = message(cmd::NEW, 7, |attrs| {
            attrs.put_str(attr::NAME, "ovs-system");
            attrs.put(attr::STATS, &words_of(&[1, 2, 3, 4]));
            attrs.put(attr::MEGAFLOW_STATS, &words_of(&[5, 6, 7, 0]));
            attrs.put_u32(attr::USER_FEATURES, 1 << 3 | 1);
            attrs.put_u32(attr::MASKS_CACHE_SIZE, 256);
            // A newer kernel's.
            attrs.put_u32(77, 1);
        });
        let read = decode(FAMILY, &Messages::new(&datagram).next().unwrap().unwrap());
        let stats = DpStats {
            hits: 1,
            misses: 2,
            lost: 3,
            flows: 4,
            mask_hits: Some(5),
            masks: Some(6),
            cache_hits: Some(7),
        };
        let expected = Dp {
            ifindex: 7,
            name: "ovs-system".to_owned(),
            features: UserFeatures::UNALIGNED | UserFeatures::UPCALL_PER_CPU,
            stats,
            cache_size: Some(256),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn bad_datapaths_are_refused() {
        let detail = |datagram: &[u8]| {
            let error = decode(FAMILY, &Messages::new(datagram).next().unwrap().unwrap()).unwrap_err();
            error.detail().unwrap().to_owned()
        };
        let unnamed = message(cmd::NEW, 7, |attrs| attrs.put_u32(attr::USER_FEATURES, 1));
        assert_eq!(detail(&unnamed), "attribute 1 is missing in the attribute at offset 24");
        let short = message(cmd::NEW, 7, |attrs| {
            attrs.put_str(attr::NAME, "a");
            attrs.put(attr::STATS, &[0; 31]);
        });
        assert_eq!(detail(&short), "attribute 3 at offset 32 has 31 bytes of payload instead of 32");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn arbitrary_attributes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let datagram = message(cmd::NEW, 7, |attrs| crate::kernel::testing::put_raw(attrs, &bytes));
            let _ = decode(FAMILY, &Messages::new(&datagram).next().unwrap().unwrap());
        }
    }
}
