//! Keys by what they type on a keyboard of the United States: numbers of the keyboard page of the USB HID usage tables.

/// Characters that keys type, without Shift and with it, from usage 0x1e on; those before are letters.
const TYPED: [(char, char); 27] = [
    ('1', '!'),
    ('2', '@'),
    ('3', '#'),
    ('4', '$'),
    ('5', '%'),
    ('6', '^'),
    ('7', '&'),
    ('8', '*'),
    ('9', '('),
    ('0', ')'),
    ('\n', '\n'),
    ('\u{1b}', '\u{1b}'),
    ('\u{8}', '\u{8}'),
    ('\t', '\t'),
    (' ', ' '),
    ('-', '_'),
    ('=', '+'),
    ('[', '{'),
    (']', '}'),
    ('\\', '|'),
    // The key beside Enter of 102 keys types nothing here.
    ('\0', '\0'),
    (';', ':'),
    ('\'', '"'),
    ('`', '~'),
    (',', '<'),
    ('.', '>'),
    ('/', '?'),
];
const LETTER_A: u16 = 0x04;
const DIGIT_1: u16 = 0x1e;

/// The key that types a character, and whether with Shift.
pub fn typed(character: char) -> Option<(u16, bool)> {
    if character.is_ascii_alphabetic() {
        let letter = u16::from(character.to_ascii_lowercase() as u8 - b'a');
        return Some((LETTER_A + letter, character.is_ascii_uppercase()));
    }
    (DIGIT_1..).zip(TYPED).filter(|_| character != '\0').find_map(|(key, (plain, shifted))| {
        (character == plain || character == shifted).then_some((key, character != plain))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_key_types_has_none() {
        assert!(['ü', '\0', '€'].into_iter().all(|character| typed(character).is_none()));
    }

    #[test]
    fn keys_are_those_of_the_table() {
        let known = [('a', 0x04, false), ('Z', 0x1d, true), ('1', 0x1e, false), (')', 0x27, true), ('?', 0x38, true)];
        for (character, key, shifted) in known {
            assert_eq!(typed(character), Some((key, shifted)), "{character}");
        }
    }
}
