//! Who the switch says it is: datapath id and description.

use openflow::msg::switch::Desc;

use super::event::Event;
use super::switch::Ofproto;

/// The version of OVS that we are compatible with; controllers see it as the switch's software.
const SOFTWARE: &str = "3.7.1";

/// The names that the switch goes by.
pub(super) struct Identity {
    datapath_id: u64,
    desc: Desc,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            datapath_id: 0,
            desc: Desc {
                manufacturer: "Nicira, Inc.".into(),
                hardware: "Open vSwitch".into(),
                software: SOFTWARE.into(),
                serial: "None".into(),
                datapath: "None".into(),
            },
        }
    }
}

impl Ofproto {
    /// The number that controllers know the switch by.
    pub fn datapath_id(&self) -> u64 {
        self.identity.datapath_id
    }

    /// Changes the number; controllers have to reconnect if it is another one.
    pub fn set_datapath_id(&mut self, id: u64) {
        if self.identity.datapath_id != id {
            self.identity.datapath_id = id;
            self.tell(Event::Reconnect);
        }
    }

    /// What the switch is, in words.
    pub fn desc(&self) -> &Desc {
        &self.identity.desc
    }

    /// Sets the datapath's description and the serial number (`dp-desc`, `dp-sn`); `None` for `None`.
    pub fn describe(&mut self, datapath: Option<&str>, serial: Option<&str>) {
        let word = |word: Option<&str>| word.unwrap_or("None").to_owned();
        self.identity.desc.datapath = word(datapath);
        self.identity.desc.serial = word(serial);
    }
}
