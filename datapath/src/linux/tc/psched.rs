//! The units of the kernel's packet scheduler: ticks, rate specifications and rate tables (`/proc/net/psched`,
//! `linux/pkt_sched.h`).

use flow::attr::Writer;

/// Entries of a rate table.
const TABLE: u32 = 256;
/// The shortest frame, without its checksum.
const MIN_FRAME: u32 = 60;
/// What a frame is longer than its payload: Ethernet and VLAN headers.
const FRAME_OVERHEAD: u32 = 14 + 4;
/// The longest payload of Ethernet.
const DEFAULT_MTU: u32 = 1500;

/// How the kernel counts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Psched {
    pub ticks_per_second: f64,
    /// How often a second the kernel looks at its queues; a discipline has to have room for what comes in between.
    pub buffer_hz: u32,
}

impl Default for Psched {
    fn default() -> Self {
        Self { ticks_per_second: 1.0, buffer_hz: 100 }
    }
}

impl Psched {
    /// What this kernel says.
    pub fn read() -> Self {
        const FILE: &str = "/proc/net/psched";
        match std::fs::read_to_string(FILE) {
            Ok(text) => Self::parse(&text).unwrap_or_else(|| {
                tracing::warn!(target: "netdev_linux", "{FILE}: invalid scheduler parameters");
                Self::default()
            }),
            Err(error) => {
                let error = sys::errno::Errno::from(error);
                tracing::warn!(target: "netdev_linux", "{FILE}: open failed: {error}");
                Self::default()
            }
        }
    }

    /// Four hexadecimal numbers: microseconds and ticks (nanoseconds each), the resolution, and the timer's frequency.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().map(|word| u32::from_str_radix(word, 16).ok());
        let mut next = || words.next().flatten();
        let (a, b, c, hz) = (next()?, next()?, next()?, next()?);
        if a == 0 || b == 0 || c == 0 {
            return None;
        }
        let ticks_per_second = f64::from(a) * f64::from(c) / f64::from(b);
        let buffer_hz = if c == 1_000_000 && hz > 0 { hz } else { Self::default().buffer_hz };
        Some(Self { ticks_per_second, buffer_hz })
    }

    /// How long `bytes` take at `rate` bytes a second, in ticks.
    pub fn ticks(self, rate: u64, bytes: u64) -> u32 {
        let ticks = u128::from(self.ticks_per_second as u64) * u128::from(bytes);
        let ticks = ticks.checked_div(u128::from(rate)).unwrap_or(0);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// How many bytes go in `ticks` at `rate` bytes a second.
    pub fn bytes(self, rate: u64, ticks: u32) -> u64 {
        (rate as f64 * f64::from(ticks) / self.ticks_per_second) as u64
    }

    /// Microseconds in ticks.
    pub fn ticks_of_us(self, us: u32) -> u32 {
        (f64::from(us) * self.ticks_per_second / 1e6) as u32
    }

    /// Ticks in microseconds, to the next.
    pub fn us_of_ticks(self, ticks: u32) -> u32 {
        (f64::from(ticks) * 1e6 / self.ticks_per_second).round() as u32
    }

    /// A burst of `bytes`, or what comes between two looks at the queue and one frame, if that is more: in ticks.
    pub fn buffer(self, rate: u64, mtu: u32, bytes: u64) -> u32 {
        let least = rate / u64::from(self.buffer_hz) + u64::from(mtu);
        self.ticks(rate, bytes.max(least))
    }

    /// A rate table: how long frames take, by length, at `rate` bytes a second.
    pub fn put_table(self, attrs: &mut Writer, kind: u16, rate: u64, mtu: u32) {
        let cell_log = cell_log(mtu);
        let cell = |n: u32| self.ticks(rate, u64::from(((n + 1) << cell_log).max(MIN_FRAME)));
        let table: Vec<u8> = (0..TABLE).flat_map(|n| cell(n).to_ne_bytes()).collect();
        attrs.put(kind, &table);
    }
}

/// Bits that lengths of frames lose in a rate table of 256 entries.
pub fn cell_log(mtu: u32) -> u32 {
    let longest = if mtu == 0 { DEFAULT_MTU } else { mtu }.saturating_add(FRAME_OVERHEAD);
    (u32::BITS - longest.leading_zeros()).saturating_sub(8).min(24)
}

/// `struct tc_ratespec`: a rate in bytes a second, as far as it fits.
pub fn rate_spec(rate: u64, mtu: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = cell_log(mtu) as u8;
    bytes[6..8].copy_from_slice(&(MIN_FRAME as u16).to_ne_bytes());
    bytes[8..].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_kernels_say() {
        let usual = Psched::parse("000003e8 00000040 000f4240 3b9aca00\n").unwrap();
        assert_eq!(usual, Psched { ticks_per_second: 15_625_000.0, buffer_hz: 1_000_000_000 });
        let coarse = Psched::parse("000c8000 000f4240 000f4240 00000064").unwrap();
        assert_eq!(coarse, Psched { ticks_per_second: 819_200.0, buffer_hz: 100 });
        assert_eq!(Psched::parse("0 1 2 3"), None);
        assert_eq!(Psched::parse("1 2 x"), None);
        assert_eq!((usual.ticks(125_000, 1500), usual.bytes(125_000, 187_500)), (187_500, 1500));
        assert_eq!((usual.ticks_of_us(1000), usual.us_of_ticks(15_625)), (15_625, 1000));
        assert_eq!(usual.ticks(0, 1500), 0);
    }

    #[test]
    fn tables_have_room_for_the_longest_frame() {
        assert_eq!([0, 100, 1500, 9000, 65535, u32::MAX].map(cell_log), [3, 0, 3, 6, 9, 24]);
        assert_eq!(rate_spec(125_000, 1500), [3, 0, 0, 0, 0, 0, 60, 0, 0x48, 0xe8, 1, 0]);
        assert_eq!(rate_spec(u64::MAX, 1500)[8..], [0xff; 4]);
        let psched = Psched { ticks_per_second: 15_625_000.0, buffer_hz: 1_000_000_000 };
        let mut attrs = Writer::new();
        psched.put_table(&mut attrs, 4, 125_000, 1500);
        let entry = |n: usize| u32::from_ne_bytes(attrs.bytes()[4 + 4 * n..][..4].try_into().unwrap());
        assert_eq!(attrs.len(), 4 + 1024);
        assert_eq!([entry(0), entry(6), entry(7), entry(255)], [7500, 7500, 8000, 256_000]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panics(text in "[0-9a-fx \n]{0,40}", rate: u64, bytes: u64, ticks: u32, mtu: u32) {
            let psched = Psched::parse(&text).unwrap_or_default();
            let _ = (psched.ticks(rate, bytes), psched.bytes(rate, ticks), psched.buffer(rate, mtu, bytes));
            let _ = (psched.ticks_of_us(ticks), psched.us_of_ticks(ticks), cell_log(mtu));
        }
    }
}
