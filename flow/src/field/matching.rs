//! What a match may require of a field, and how it comes to require it.

use super::place::{self, Place};
use super::{Field, Maskable, Value};
use crate::key::Mask;
use crate::mini::FullMatch;

impl Field {
    /// Makes a match require `value` in the bits of `mask`, replacing what it required of the field.
    pub fn set_match(self, m: &mut FullMatch, value: &Value, mask: &Value) {
        if let Place::TunMetadata(index) = self.info().place {
            return crate::tlv::set_match(m, index.into(), value, mask);
        }
        if mask.is_zero() {
            return self.set_wild(m);
        }
        match self.info().place {
            Place::Vlan(part) => part.set_match(m, value, mask),
            _ => {
                let mask =
                    if self.matches_wide_icmp() && mask.is_ones() { Value::ones(2) } else { mask.clone() };
                // OVS looks at the bits of these that are 1 in the value, whatever the mask.
                let mask = if self.is_erspan_part() { value.and_right(&mask) } else { mask };
                self.info().place.set(&mut m.mask.0, &mask);
                self.info().place.set(&mut m.key, &value.and_right(&mask));
                if self == Self::Ipv6Label && mask.u64() & 0xfffff == 0xfffff {
                    m.mask.0.ipv6_label = u32::MAX.into();
                }
            }
        }
    }

    /// Makes a match require nothing of the field.
    pub fn set_wild(self, m: &mut FullMatch) {
        match self.info().place {
            Place::Vlan(part) => part.set_wild(m),
            Place::TunMetadata(index) => {
                crate::tlv::set_match(m, index.into(), &Value::zero(4), &Value::zero(4));
                m.key.tunnel.opt_present &= !(1 << index);
                m.mask.0.tunnel.opt_present &= !(1 << index);
            }
            place => {
                let zero = Value::zero(self.n_bytes());
                place.set(&mut m.key, &zero);
                place.set(&mut m.mask.0, &zero);
            }
        }
    }

    /// Whether a match requires nothing of the field.
    pub fn is_wild(self, mask: &Mask) -> bool {
        match self.info().place {
            Place::TunMetadata(index) => mask.0.tunnel.opt_present & (1 << index) == 0,
            Place::Vlan(part) => mask.0.vlans[0].tci.get() & part.bits() == 0,
            _ => self.get(&mask.0).is_zero(),
        }
    }

    const fn is_erspan_part(self) -> bool {
        matches!(self, Self::TunErspanVer | Self::TunErspanDir | Self::TunErspanHwid)
    }

    /// ICMP types and codes are 8 bits that live in 16, all of which an exact match requires.
    fn matches_wide_icmp(self) -> bool {
        matches!(
            self,
            Self::Icmpv4Type | Self::Icmpv4Code | Self::Icmpv6Type | Self::Icmpv6Code | Self::NdOptionsType
        )
    }

    /// Whether a match may have this mask.
    pub fn mask_ok(self, mask: &Value) -> bool {
        match self.info().maskable {
            Maskable::Never => mask.is_zero() || mask.is_ones(),
            Maskable::Fully => true,
        }
    }

    /// Whether the value makes sense in a match: bits that can never be there are not asked for.
    pub fn value_ok(self, value: &Value) -> bool {
        let wide = |allowed: u64| value.u64() & !allowed == 0;
        match self {
            Self::InPortOxm | Self::ActsetOutput => place::port_from_oxm(value.u64()).is_some(),
            Self::IpDscp => wide(0xfc),
            Self::IpDscpShifted => wide(0x3f),
            Self::IpEcn | Self::IpFrag => wide(0x3),
            Self::TcpFlags | Self::DlVlan => wide(0xfff),
            Self::ArpOp | Self::CtState => wide(0xff),
            Self::VlanVid => wide(0x1fff),
            Self::DlVlanPcp | Self::VlanPcp | Self::MplsTc => wide(0x7),
            Self::Ipv6Label | Self::MplsLabel => wide(0xfffff),
            Self::MplsBos => wide(1),
            Self::TunFlags => wide(u64::from(crate::key::tnl_flags::PUBLIC)),
            Self::NshTtl => value.u64() <= 63,
            Self::NshMdtype => matches!(value.u64(), 1 | 2),
            Self::NshSpi => wide(0xff_ffff),
            _ => true,
        }
    }
}
