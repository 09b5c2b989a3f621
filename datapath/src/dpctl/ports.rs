//! Datapaths and their ports: add, change, delete.

use super::{Done, Failed, Session, split_name};
use crate::netdev::Flags;
use ::flow::id::DpPort;
use std::collections::BTreeMap;
use sys::errno::Errno;

pub(super) fn add_dp(session: &mut Session<'_>, args: &[&str]) -> Done {
    let (kind, name) = split_name(args.first().copied().unwrap_or_default());
    if let Err(error) = session.env.create(kind, name) {
        return session.fail(Some(error.errno()), "add_dp");
    }
    if args.len() > 1 { add_if(session, args) } else { Ok(()) }
}

pub(super) fn del_dp(session: &mut Session<'_>, args: &[&str]) -> Done {
    let name = args.first().copied().unwrap_or_default();
    if let Err(error) = session.open_named(name) {
        return session.fail(Some(error.errno()), "opening datapath");
    }
    let (kind, name) = split_name(name);
    session.env.delete(kind, name).or_else(|error| session.fail(Some(error.errno()), "del_dp"))
}

/// `NAME,type=TYPE,port_no=N,option=value…`
struct IfaceArg<'a> {
    name: &'a str,
    kind: Option<&'a str>,
    number: Option<DpPort>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> IfaceArg<'a> {
    fn parse(session: &mut Session<'_>, arg: &'a str) -> Result<Self, Failed> {
        let mut words = arg.split(',').filter(|word| !word.is_empty());
        let Some(name) = words.next() else {
            return session.fail(None, format!("{arg} is not a valid network device name"));
        };
        let mut iface = Self { name, kind: None, number: None, options: Vec::new() };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "" => return session.fail(None, "Invalid option format"),
                "type" => iface.kind = Some(value),
                "port_no" => iface.number = Some(DpPort(value.parse().unwrap_or(0))),
                key => iface.options.push((key, value)),
            }
        }
        Ok(iface)
    }
}

/// Does `each` for every interface of the arguments; one that fails does not stop the others.
fn for_each_iface(
    session: &mut Session<'_>,
    args: &[&str],
    each: impl Fn(&mut Session<'_>, &dyn crate::Datapath, &str) -> Done,
) -> Done {
    let [datapath, ifaces @ ..] = args else { return Err(Failed) };
    let datapath = match session.open_named(datapath) {
        Ok(datapath) => datapath,
        Err(error) => return session.fail(Some(error.errno()), "opening datapath"),
    };
    let mut done = Ok(());
    for iface in ifaces {
        done = done.and(each(session, &*datapath, iface));
    }
    done
}

pub(super) fn add_if(session: &mut Session<'_>, args: &[&str]) -> Done {
    let dp_name = args.first().copied().unwrap_or_default();
    for_each_iface(session, args, |session, datapath, arg| {
        let iface = IfaceArg::parse(session, arg)?;
        let mut options = BTreeMap::new();
        for (key, value) in &iface.options {
            if options.insert((*key).to_owned(), (*value).to_owned()).is_some() {
                session.error(None, format!("duplicate \"{key}\" option"));
            }
        }
        let device = match session.env.open_device(iface.name, iface.kind.unwrap_or("system")) {
            Ok(device) => device,
            Err(error) => {
                let text = format!("{}: failed to open network device", iface.name);
                return session.fail(Some(error.errno()), text);
            }
        };
        device.set_config(&options).map_err(|_| Failed)?;
        if let Err(error) = datapath.port_add(&device, iface.number) {
            return session.fail(Some(error.errno()), format!("adding {} to {dp_name} failed", iface.name));
        }
        device.update_flags(Flags::empty(), Flags::UP).or_else(|error| {
            session.fail(Some(error.errno()), format!("{}: failed bringing interface up", iface.name))
        })
    })
}

pub(super) fn set_if(session: &mut Session<'_>, args: &[&str]) -> Done {
    let dp_name = args.first().copied().unwrap_or_default();
    for_each_iface(session, args, |session, datapath, arg| {
        let iface = IfaceArg::parse(session, arg)?;
        let name = iface.name;
        let port = match datapath.port_by_name(name) {
            Ok(port) => port,
            Err(error) => {
                return session
                    .fail(Some(error.errno()), format!("{name}: failed to query port in {dp_name}"));
            }
        };
        let device = match session.device(datapath, &port) {
            Ok(device) => device,
            Err(error) => {
                return session.fail(Some(error.errno()), format!("{name}: failed to open network device"));
            }
        };
        if let Some(kind) = iface.kind.filter(|kind| *kind != port.kind) {
            return session.fail(None, format!("{name}: can't change type from {} to {kind}", port.kind));
        }
        if let Some(number) = iface.number.filter(|number| *number != port.number) {
            let text = format!("{name}: can't change port number from {} to {number}", port.number);
            return session.fail(None, text);
        }
        let mut options = device.config();
        for (key, value) in iface.options {
            if value.is_empty() {
                options.remove(key);
            } else {
                options.insert(key.to_owned(), value.to_owned());
            }
        }
        device.set_config(&options).or_else(|error| session.fail(Some(error.errno()), error.to_string()))
    })
}

pub(super) fn del_if(session: &mut Session<'_>, args: &[&str]) -> Done {
    let dp_name = args.first().copied().unwrap_or_default();
    for_each_iface(session, args, |session, datapath, name| {
        let number = match name.parse() {
            Ok(number) => DpPort(number),
            Err(_) => match datapath.port_by_name(name) {
                Ok(port) => port.number,
                Err(_) => return session.fail(None, format!("no port named {name}")),
            },
        };
        // The engine's own port stays as long as the engine does; the kernel says that itself.
        let stays = number == DpPort::LOCAL && datapath.as_engine().is_some();
        let deleted = if stays { Err(Errno::EINVAL.into()) } else { datapath.port_del(number) };
        deleted.or_else(|error: crate::Error| {
            session.fail(Some(error.errno()), format!("deleting port {name} from {dp_name} failed"))
        })
    })
}
