//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

/// A terminal that says that it is narrower does not know its width: nobody reads a letter a line.
const NARROW: u16 = 40;
/// The width of a table where none is known.
const WIDE: u16 = 140;

/// A table with this header.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none_or(|width| width < NARROW) {
        // A pipe has no width to fit; people will page or grep it.
        table.set_width(WIDE);
    }
    table.set_header(header);
    table
}

/// Bytes with a unit, as short as they read exactly: `16M`, `4K`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("G", 30), ("M", 20), ("K", 10)];
    if bytes == 0 {
        return "none".to_owned();
    }
    for (unit, shift) in UNITS {
        if bytes >= 1 << shift && bytes.trailing_zeros() as u64 >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    for (unit, shift) in UNITS {
        if bytes >= 1 << shift {
            return format!("{:.1}{unit}", bytes as f64 / (1u64 << shift) as f64);
        }
    }
    bytes.to_string()
}
