//! Keys of viewers, "keysyms" of the X Window System (RFC 6143, 7.5.4), as keys of the guest.
//!
//! A viewer says what was typed, and Shift by itself: of a letter, large or small, the key is the same. A person whose keyboard is
//! not that of the United States reaches the keys by what is printed on them there.

/// Keysyms beside those of characters, and the keys.
const NAMED: [(u32, u16); 70] = [
    (0xff08, 0x2a), // BackSpace
    (0xff09, 0x2b), // Tab
    (0xfe20, 0x2b), // ISO_Left_Tab: with Shift
    (0xff0d, 0x28), // Return
    (0xff13, 0x48), // Pause
    (0xff6b, 0x48), // Break
    (0xff14, 0x47), // Scroll_Lock
    (0xff15, 0x46), // Sys_Req
    (0xff61, 0x46), // Print
    (0xff1b, 0x29), // Escape
    (0xff50, 0x4a), // Home
    (0xff51, 0x50), // Left
    (0xff52, 0x52), // Up
    (0xff53, 0x4f), // Right
    (0xff54, 0x51), // Down
    (0xff55, 0x4b), // Prior
    (0xff56, 0x4e), // Next
    (0xff57, 0x4d), // End
    (0xff63, 0x49), // Insert
    (0xffff, 0x4c), // Delete
    (0xff67, 0x65), // Menu
    (0xff7f, 0x53), // Num_Lock
    (0xff8d, 0x58), // KP_Enter
    (0xffaa, 0x55), // KP_Multiply
    (0xffab, 0x57), // KP_Add
    (0xffac, 0x63), // KP_Separator
    (0xffad, 0x56), // KP_Subtract
    (0xffae, 0x63), // KP_Decimal
    (0xffaf, 0x54), // KP_Divide
    (0xffb0, 0x62), // KP_0
    (0xffb1, 0x59), // KP_1
    (0xffb2, 0x5a), // KP_2
    (0xffb3, 0x5b), // KP_3
    (0xffb4, 0x5c), // KP_4
    (0xffb5, 0x5d), // KP_5
    (0xffb6, 0x5e), // KP_6
    (0xffb7, 0x5f), // KP_7
    (0xffb8, 0x60), // KP_8
    (0xffb9, 0x61), // KP_9
    // The same keys without Num Lock.
    (0xff95, 0x5f), // KP_Home
    (0xff96, 0x5c), // KP_Left
    (0xff97, 0x60), // KP_Up
    (0xff98, 0x5e), // KP_Right
    (0xff99, 0x5a), // KP_Down
    (0xff9a, 0x61), // KP_Prior
    (0xff9b, 0x5b), // KP_Next
    (0xff9c, 0x59), // KP_End
    (0xff9d, 0x5d), // KP_Begin
    (0xff9e, 0x62), // KP_Insert
    (0xff9f, 0x63), // KP_Delete
    (0xffbe, 0x3a), // F1
    (0xffbf, 0x3b),
    (0xffc0, 0x3c),
    (0xffc1, 0x3d),
    (0xffc2, 0x3e),
    (0xffc3, 0x3f),
    (0xffc4, 0x40),
    (0xffc5, 0x41),
    (0xffc6, 0x42),
    (0xffc7, 0x43),
    (0xffc8, 0x44),
    (0xffc9, 0x45), // F12
    (0xffe1, 0xe1), // Shift_L
    (0xffe2, 0xe5), // Shift_R
    (0xffe3, 0xe0), // Control_L
    (0xffe4, 0xe4), // Control_R
    (0xffe5, 0x39), // Caps_Lock
    (0xffe9, 0xe2), // Alt_L
    (0xffea, 0xe6), // Alt_R
    (0xfe03, 0xe6), // ISO_Level3_Shift: AltGr
];

/// Keysyms of the keys beside Space that are Meta to some viewers and Super to others: left, right.
const META: [(u32, u16); 4] = [(0xffe7, 0xe3), (0xffe8, 0xe7), (0xffeb, 0xe3), (0xffec, 0xe7)];

/// The key of a keysym, if there is one.
pub(crate) fn key(keysym: u32) -> Option<u16> {
    if let Ok(character) = u8::try_from(keysym) {
        // Keysyms of Latin 1 are its characters; controls have keysyms of their own.
        let character = char::from(character);
        let (key, _) = schema::keys::typed(character).filter(|_| !character.is_control())?;
        return Some(key);
    }
    NAMED.iter().chain(&META).find(|(known, _)| *known == keysym).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keysym_that_no_key_has_is_none() {
        for keysym in [0, 8, 0x0d, 0xfc, 0x20ac, 0x0100_20ac, 0xff00, u32::MAX] {
            assert_eq!(key(keysym), None, "{keysym:#x}");
        }
    }

    #[test]
    fn letters_are_the_same_key_with_shift_and_without() {
        assert_eq!((key(u32::from(b'a')), key(u32::from(b'A'))), (Some(0x04), Some(0x04)));
        assert_eq!((key(u32::from(b'1')), key(u32::from(b'!'))), (Some(0x1e), Some(0x1e)));
        assert_eq!((key(0xffc9), key(0xffff), key(0xffe3)), (Some(0x45), Some(0x4c), Some(0xe0)));
    }

    #[test]
    fn each_keysym_has_one_line() {
        let mut known: Vec<u32> = NAMED.iter().chain(&META).map(|(keysym, _)| *keysym).collect();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), NAMED.len() + META.len());
    }
}
