//! `bundle` and `multipath`: choices by hash.

use flow::hash::{self, HashFields};
use flow::id::OfPort;
use openflow::action::{Bundle, Multipath, bundle, multipath};

use super::ctx::Ctx;

/// The same fields as the actions name them.
fn fields(of: openflow::action::HashFields) -> HashFields {
    HashFields::from_wire(of as u16).unwrap_or(HashFields::SymmetricL4)
}

impl Ctx<'_> {
    pub(super) fn bundle(&mut self, a: &Bundle, last: bool, bucket: bool) {
        let port = match a.algorithm {
            bundle::Algorithm::ActiveBackup => {
                a.members.iter().copied().find(|&port| self.is_member_live(port))
            }
            bundle::Algorithm::Hrw => self.highest_weight(a),
        };
        let port = port.unwrap_or(OfPort::NONE);
        match &a.dst {
            Some(dst) => {
                self.load(dst, port.0.into());
                self.report_subfield(dst);
            }
            None => self.output(port, 0, false, last, false, bucket),
        }
    }

    fn highest_weight(&mut self, a: &Bundle) -> Option<OfPort> {
        let fields = fields(a.fields);
        if a.members.len() > 1 {
            fields.mask(self.key, &mut self.wc);
        }
        let of_key = fields.hash(self.key, a.basis.into());
        let mut best: Option<(u32, OfPort)> = None;
        for (i, &port) in (0u32..).zip(&a.members) {
            let weight = hash::two(i, of_key);
            if self.is_member_live(port) && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, port));
            }
        }
        best.map(|(_, port)| port)
    }

    fn is_member_live(&self, port: OfPort) -> bool {
        match port {
            OfPort::IN_PORT | OfPort::TABLE | OfPort::NORMAL | OfPort::FLOOD | OfPort::ALL | OfPort::NONE => {
                true
            }
            OfPort::CONTROLLER => false,
            port => self.port(port).is_some_and(|port| port.may_enable),
        }
    }

    pub(super) fn multipath(&mut self, a: &Multipath) {
        let fields = fields(a.fields);
        let hash = fields.hash(self.key, a.basis.into());
        let link = link(hash, a.algorithm, u32::from(a.max_link) + 1, a.arg);
        fields.mask(self.key, &mut self.wc);
        self.load(&a.dst, link.into());
        self.report_subfield(&a.dst);
    }
}

/// The link, of `links`, that a hash leads to.
fn link(hash: u32, algorithm: multipath::Algorithm, links: u32, arg: u32) -> u16 {
    let link = match algorithm {
        multipath::Algorithm::ModuloN => hash % links,
        multipath::Algorithm::HashThreshold if links == 1 => 0,
        multipath::Algorithm::HashThreshold => hash / (u32::MAX / links + 1),
        multipath::Algorithm::Hrw if links <= 64 => highest_weight_link(hash, links),
        multipath::Algorithm::Hrw => iterate(hash, links, 0),
        multipath::Algorithm::IterHash => iterate(hash, links, arg),
    };
    link as u16
}

fn highest_weight_link(hash: u32, links: u32) -> u32 {
    let mut best = (0, hash::two(hash, 0));
    for link in 1..links {
        let weight = hash::two(hash, link);
        if weight > best.1 {
            best = (link, weight);
        }
    }
    best.0
}

/// Hashes again until a link comes out that there is: few flows move when links come or go.
fn iterate(hash: u32, links: u32, modulo: u32) -> u32 {
    let modulo = if modulo < links || modulo / 2 > links { links.next_power_of_two() } else { modulo };
    let mut tries = 0u32;
    loop {
        let link = hash::two(hash, tries) % modulo;
        tries += 1;
        if link < links || tries > 1_000_000 {
            return link % links;
        }
    }
}
