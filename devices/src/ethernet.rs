//! What network devices have in common: addresses, and the least that a frame is.

use device::manifest::{OptionKind, OptionSpec};
use device::{OptionError, Options};

/// Bytes of an address (IEEE 802.3, 3.2.3).
pub(crate) const ADDRESS_BYTES: usize = 6;
/// Destination, source and type.
pub(crate) const HEADER_BYTES: usize = 14;
/// The shortest frame on a wire, without its checksum (IEEE 802.3, 3.2.8): a sender fills up what is shorter.
pub(crate) const FRAME_MIN: usize = 60;

/// An address that nobody else has unless he uses this program's devices as they come: locally administered.
const DEFAULT: &str = "02:cf:da:00:00:01";

/// The option by which a device gets its address.
pub(crate) fn mac_spec() -> OptionSpec {
    OptionSpec {
        name: "mac".into(),
        kind: OptionKind::Text,
        default: DEFAULT.into(),
        summary: "the card's own address".into(),
    }
}

/// The option `mac`.
pub(crate) fn mac_option(options: &Options) -> Result<[u8; ADDRESS_BYTES], OptionError> {
    let text = options.text("mac").unwrap_or(DEFAULT);
    let refused = || OptionError::Value {
        name: "mac".into(),
        value: text.into(),
        wanted: "an address of one card, as 02:cf:da:00:00:01",
    };
    let mut address = [0; ADDRESS_BYTES];
    let mut parts = text.split(':');
    for byte in &mut address {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let part = parts.next().filter(digits).ok_or_else(refused)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
    }
    // The lowest bit of the first byte is for groups (3.2.3), and all zeros is nobody.
    if parts.next().is_some() || address[0] & 1 != 0 || address == [0; ADDRESS_BYTES] {
        return Err(refused());
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cards_address_is_refused() {
        for text in
            ["", "02:cf:da", "02:cf:da:00:00:01:02", "02-cf-da-00-00-01", "+2:cf:da:00:00:01", "xx:cf:da:00:00:01"]
        {
            assert!(mac_option(&Options::new([("mac", text)])).is_err(), "{text}");
        }
        for text in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert!(mac_option(&Options::new([("mac", text)])).is_err(), "{text}");
        }
        assert_eq!(mac_option(&Options::new([("mac", "52:54:00:AB:cd:ef")])), Ok([0x52, 0x54, 0, 0xab, 0xcd, 0xef]));
        assert_eq!(mac_option(&Options::default()), Ok([2, 0xcf, 0xda, 0, 0, 1]));
    }
}
