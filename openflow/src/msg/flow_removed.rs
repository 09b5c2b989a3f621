//! Flow-removed messages.

/// Why a flow was removed (`OFPRR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RemovedReason {
    IdleTimeout = 0,
    HardTimeout = 1,
    Delete = 2,
    GroupDelete = 3,
    /// OpenFlow 1.4 and later.
    MeterDelete = 4,
    Eviction = 5,
}

impl RemovedReason {
    const ALL: [Self; 6] = [
        Self::IdleTimeout,
        Self::HardTimeout,
        Self::Delete,
        Self::GroupDelete,
        Self::MeterDelete,
        Self::Eviction,
    ];

    /// The reason of a number.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// `idle`, `hard`, `delete`, `group_delete`, `meter_delete`, `eviction`.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle",
            Self::HardTimeout => "hard",
            Self::Delete => "delete",
            Self::GroupDelete => "group_delete",
            Self::MeterDelete => "meter_delete",
            Self::Eviction => "eviction",
        }
    }
}
