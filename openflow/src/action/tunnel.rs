//! `set_tunnel` and `set_tunnel64`.

use std::fmt;

use flow::field::{Field, Value};

use super::raw::Raw;
use super::{OfAction, set_field};
use crate::text::{Parsed, parse_u64};
use crate::version::Version;

/// Sets the tunnel id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SetTunnel {
    pub id: u64,
    /// Whether it was spelt for 64 bits.
    pub wide: bool,
}

pub(super) fn decode(id: u64, wide: bool) -> OfAction {
    OfAction::SetTunnel(SetTunnel { id, wide })
}

impl SetTunnel {
    fn is_wide(&self) -> bool {
        self.wide || self.id > u32::MAX.into()
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version >= Version::V12 {
            set_field::encode_whole(Field::TunId, &Value::from_u64(self.id, 8), version, out);
        } else if self.is_wide() {
            Raw::SetTunnel64.put_int(version, self.id, 8, out);
        } else {
            Raw::SetTunnel.put_int(version, self.id, 4, out);
        }
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = if self.is_wide() { "64" } else { "" };
        write!(f, "set_tunnel{wide}:{}", crate::text::alt_hex(self.id))
    }
}

pub(super) fn parse(text: &str, wide: bool) -> Parsed<OfAction> {
    parse_u64(text).map(|id| decode(id, wide))
}
