//! `--nic`: a network card, and the network behind it.

use crate::args::usage;
use crate::machine;
use anyhow::Result;
use schema::host::Setting;
use std::path::PathBuf;
use vmm::supervisor::{Backing, Network, NetworkPlan, PlannedDevice};

/// What a card may be, as a person names it, and the device that it is.
const CARDS: [(&str, &str); 2] = [("virtio", "virtio-net"), ("rtl8139", "rtl8139")];

/// The card of `CARD[,tap=NAME|passt=PATH|user][,OPTION=VALUE]…`, which is number `number` of the VM `vm`.
pub fn parse(spec: &str, vm: &str, number: usize) -> Result<PlannedDevice> {
    let mut parts = spec.split(',');
    let card = parts.next().unwrap_or_default();
    let Some((_, device)) = CARDS.iter().find(|(name, _)| *name == card) else {
        return Err(usage!(
            "--nic {spec}: `{card}` is not a card; there are {}",
            CARDS.map(|(name, _)| name).join(", ")
        ));
    };
    let (mut network, mut options) = (None, Vec::new());
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let plan = match name {
            "tap" => NetworkPlan::Tap(value.to_owned()),
            "passt" => NetworkPlan::Passt(PathBuf::from(value)),
            "user" if value.is_empty() => NetworkPlan::User,
            _ => {
                let value = if part.contains('=') { value } else { "on" };
                options.push(Setting { name: name.to_owned(), value: value.to_owned() });
                continue;
            }
        };
        if network.replace(plan).is_some() {
            return Err(usage!("--nic {spec}: a card has one network; give one of tap=NAME, passt=PATH and user"));
        }
    }
    let network = network.ok_or_else(|| usage!("--nic {spec}: give its network: tap=NAME, passt=PATH or user"))?;
    if options.iter().all(|option| option.name != "mac") {
        options.push(Setting { name: "mac".into(), value: address(vm, number) });
    }
    Ok(machine::planned(device, options, vec![Backing::Network(Network::new(network))]))
}

/// An address that is always the same for this card of this VM, and hardly another's: locally administered, then four bytes of
/// an FNV-1a hash.
fn address(vm: &str, number: usize) -> String {
    let bytes = vm.bytes().chain(b"/".iter().copied()).chain(number.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    format!("02:cf:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: &str) -> String {
        parse(spec, "vm", 0).err().unwrap_or_else(|| panic!("{spec} is taken")).to_string()
    }

    #[test]
    fn card_that_there_is_not_or_that_has_no_network_or_two_is_refused() {
        assert!(refused("ne2000,user").contains("there are virtio, rtl8139"));
        assert!(refused("virtio").contains("tap=NAME"));
        assert!(refused("virtio,user,tap=t0").contains("one network"));
    }

    #[test]
    fn card_has_its_options_and_an_address_of_its_own() {
        let card = parse("rtl8139,tap=t0,cplus", "vm", 0).unwrap();
        let options: Vec<_> = card.options.iter().map(|option| (option.name.as_str(), option.value.as_str())).collect();
        assert_eq!((card.device.as_str(), options[0]), ("rtl8139", ("cplus", "on")));
        assert_eq!(options[1], ("mac", address("vm", 0).as_str()));
        assert_ne!(address("vm", 0), address("vm", 1));
        assert_ne!(address("vm", 0), address("wm", 0));
        let card = parse("virtio,mac=02:00:00:00:00:07,user", "vm", 0).unwrap();
        assert_eq!((card.options.len(), card.options[0].value.as_str()), (1, "02:00:00:00:00:07"));
    }
}
