//! Disciplines at the root of a device and their classes, whichever kind they are.

use flow::attr::{Attr, Writer};

use super::codel::Codel;
use super::fq_codel::FqCodel;
use super::hfsc::{Hfsc, HfscClass};
use super::htb::{Htb, HtbClass};
use super::netem::Netem;
use super::psched::Psched;
use super::sfq::Sfq;
use super::{Details, Facts, Rows, TCA_OPTIONS};

/// A kind of discipline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The kernel's choice.
    Default,
    Htb,
    Hfsc,
    Sfq,
    Codel,
    FqCodel,
    Netem,
    /// Not touched.
    Noop,
    /// None of these.
    Other,
}

/// A row of [`KINDS`].
pub struct KindRow {
    pub kind: Kind,
    /// As in the `type` column of the `QoS` table.
    pub name: &'static str,
    /// As the kernel names it.
    pub linux: Option<&'static str>,
}

/// The kinds that can be configured.
pub static KINDS: [KindRow; 8] = [
    KindRow { kind: Kind::Htb, name: "linux-htb", linux: Some("htb") },
    KindRow { kind: Kind::Hfsc, name: "linux-hfsc", linux: Some("hfsc") },
    KindRow { kind: Kind::Codel, name: "linux-codel", linux: Some("codel") },
    KindRow { kind: Kind::FqCodel, name: "linux-fq_codel", linux: Some("fq_codel") },
    KindRow { kind: Kind::Sfq, name: "linux-sfq", linux: Some("sfq") },
    KindRow { kind: Kind::Netem, name: "linux-netem", linux: Some("netem") },
    KindRow { kind: Kind::Default, name: "", linux: None },
    KindRow { kind: Kind::Noop, name: "linux-noop", linux: None },
];

impl Kind {
    /// The kind that the database names so.
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    /// The kind that the kernel names so.
    pub fn of_linux(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.linux == Some(name)).map(|row| row.kind)
    }

    fn row(self) -> Option<&'static KindRow> {
        KINDS.iter().find(|row| row.kind == self)
    }

    /// As in the database.
    pub fn name(self) -> &'static str {
        self.row().map_or("linux-other", |row| row.name)
    }

    /// As the kernel names it; `None` for what is not installed.
    pub fn linux_name(self) -> Option<&'static str> {
        self.row()?.linux
    }

    /// Whether it has queues.
    pub fn has_classes(self) -> bool {
        matches!(self, Self::Htb | Self::Hfsc)
    }
}

/// A discipline with its parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Root {
    Default,
    Htb(Htb),
    Hfsc(Hfsc),
    Sfq(Sfq),
    Codel(Codel),
    FqCodel(FqCodel),
    Netem(Netem),
    Other,
}

impl Root {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Default => Kind::Default,
            Self::Htb(_) => Kind::Htb,
            Self::Hfsc(_) => Kind::Hfsc,
            Self::Sfq(_) => Kind::Sfq,
            Self::Codel(_) => Kind::Codel,
            Self::FqCodel(_) => Kind::FqCodel,
            Self::Netem(_) => Kind::Netem,
            Self::Other => Kind::Other,
        }
    }

    /// From the `other_config` column of the `QoS` table.
    pub fn parse(kind: Kind, details: &Details, facts: &Facts) -> Self {
        match kind {
            Kind::Default | Kind::Noop => Self::Default,
            Kind::Htb => Self::Htb(Htb::parse(details, facts)),
            Kind::Hfsc => Self::Hfsc(Hfsc::parse(details, facts)),
            Kind::Sfq => Self::Sfq(Sfq::parse(details, facts)),
            Kind::Codel => Self::Codel(Codel::parse(details)),
            Kind::FqCodel => Self::FqCodel(FqCodel::parse(details)),
            Kind::Netem => Self::Netem(Netem::parse(details)),
            Kind::Other => Self::Other,
        }
    }

    /// From the kernel's `TCA_OPTIONS`. The rate of a discipline with classes is that of its outermost class.
    pub fn decode(kind: Kind, options: &Attr<'_>, psched: Psched) -> Option<Self> {
        Some(match kind {
            Kind::Htb => Self::Htb(Htb { max_rate: 0 }),
            Kind::Hfsc => Self::Hfsc(Hfsc { max_rate: 0 }),
            Kind::Sfq => Self::Sfq(Sfq::decode(options)?),
            Kind::Codel => Self::Codel(Codel::decode(options)?),
            Kind::FqCodel => Self::FqCodel(FqCodel::decode(options)?),
            Kind::Netem => Self::Netem(Netem::decode(options, psched)?),
            Kind::Default | Kind::Noop | Kind::Other => return None,
        })
    }

    /// Writes `TCA_OPTIONS`.
    pub fn put_options(&self, attrs: &mut Writer, psched: Psched) {
        match self {
            Self::Htb(_) => attrs.nest(TCA_OPTIONS, Htb::put_options),
            Self::Hfsc(_) => attrs.put(TCA_OPTIONS, &Hfsc::options()),
            Self::Sfq(sfq) => attrs.put(TCA_OPTIONS, &sfq.options()),
            Self::Codel(codel) => attrs.nest(TCA_OPTIONS, |options| codel.put_options(options)),
            Self::FqCodel(codel) => attrs.nest(TCA_OPTIONS, |options| codel.put_options(options)),
            Self::Netem(netem) => attrs.put(TCA_OPTIONS, &netem.options(psched)),
            Self::Default | Self::Other => {}
        }
    }

    /// Its parameters, as the database words them.
    pub fn rows(&self) -> Rows {
        match self {
            Self::Default | Self::Other => Vec::new(),
            Self::Htb(htb) => vec![("max-rate", htb.max_rate * 8)],
            Self::Hfsc(hfsc) => vec![("max-rate", u64::from(hfsc.max_rate) * 8)],
            Self::Sfq(sfq) => sfq.rows(),
            Self::Codel(codel) => codel.rows(),
            Self::FqCodel(codel) => codel.rows(),
            Self::Netem(netem) => netem.rows(),
        }
    }

    /// The class of the whole device, if it has classes.
    pub fn whole_class(&self) -> Option<Class> {
        match self {
            Self::Htb(htb) => Some(Class::Htb(htb.whole_class())),
            Self::Hfsc(hfsc) => Some(Class::Hfsc(hfsc.whole_class())),
            Self::Default
            | Self::Sfq(_)
            | Self::Codel(_)
            | Self::FqCodel(_)
            | Self::Netem(_)
            | Self::Other => None,
        }
    }

    /// Takes over the rate of the outermost class, in bytes a second.
    pub fn set_max_rate(&mut self, rate: u64) {
        match self {
            Self::Htb(htb) => htb.max_rate = rate,
            Self::Hfsc(hfsc) => hfsc.max_rate = u32::try_from(rate).unwrap_or(u32::MAX),
            Self::Default
            | Self::Sfq(_)
            | Self::Codel(_)
            | Self::FqCodel(_)
            | Self::Netem(_)
            | Self::Other => {}
        }
    }

    /// A class from the `other_config` column of the `Queue` table; nothing if there are no classes here.
    pub fn parse_class(&self, details: &Details, facts: &Facts) -> Option<Class> {
        match self {
            Self::Htb(htb) => Some(Class::Htb(HtbClass::parse(details, htb, facts))),
            Self::Hfsc(hfsc) => Some(Class::Hfsc(HfscClass::parse(details, hfsc))),
            Self::Default
            | Self::Sfq(_)
            | Self::Codel(_)
            | Self::FqCodel(_)
            | Self::Netem(_)
            | Self::Other => None,
        }
    }
}

/// A class with its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Htb(HtbClass),
    Hfsc(HfscClass),
}

impl Class {
    /// From the kernel's `TCA_OPTIONS`; nothing for one that we would not have made.
    pub fn decode(kind: Kind, options: &Attr<'_>, psched: Psched) -> Option<Self> {
        match kind {
            Kind::Htb => HtbClass::decode(options, psched).map(Self::Htb),
            Kind::Hfsc => HfscClass::decode(options).map(Self::Hfsc),
            Kind::Default
            | Kind::Sfq
            | Kind::Codel
            | Kind::FqCodel
            | Kind::Netem
            | Kind::Noop
            | Kind::Other => None,
        }
    }

    pub const fn linux_name(&self) -> &'static str {
        match self {
            Self::Htb(_) => "htb",
            Self::Hfsc(_) => "hfsc",
        }
    }

    /// Writes what goes into `TCA_OPTIONS`.
    pub fn put_options(&self, options: &mut Writer, mtu: u32, psched: Psched) {
        match self {
            Self::Htb(class) => class.put_options(options, mtu, psched),
            Self::Hfsc(class) => class.put_options(options),
        }
    }

    /// Bytes a second.
    pub fn max_rate(&self) -> u64 {
        match self {
            Self::Htb(class) => class.max_rate,
            Self::Hfsc(class) => class.max_rate.into(),
        }
    }

    /// Its parameters, as the database words them.
    pub fn rows(&self) -> Rows {
        match self {
            Self::Htb(class) => class.rows(),
            Self::Hfsc(class) => class.rows(),
        }
    }

    /// Its parameters, for the log.
    pub fn text(&self) -> String {
        match self {
            Self::Htb(class) => class.text(),
            Self::Hfsc(class) => class.text(),
        }
    }
}
