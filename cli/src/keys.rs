//! Keys by their names and by what they type: numbers of the keyboard page of the USB HID usage tables.

use crate::args::usage;
use anyhow::Result;
use schema::display::Input;
use schema::keys::typed;

const SHIFT: u16 = 0xe1;

/// Names beside letters, digits and `f1` to `f12`.
const NAMED: [(&str, u16); 41] = [
    ("enter", 0x28),
    ("return", 0x28),
    ("esc", 0x29),
    ("escape", 0x29),
    ("backspace", 0x2a),
    ("tab", 0x2b),
    ("space", 0x2c),
    ("minus", 0x2d),
    ("capslock", 0x39),
    ("print", 0x46),
    ("sysrq", 0x46),
    ("scrolllock", 0x47),
    ("pause", 0x48),
    ("insert", 0x49),
    ("home", 0x4a),
    ("pageup", 0x4b),
    ("delete", 0x4c),
    ("end", 0x4d),
    ("pagedown", 0x4e),
    ("right", 0x4f),
    ("left", 0x50),
    ("down", 0x51),
    ("up", 0x52),
    ("numlock", 0x53),
    ("menu", 0x65),
    ("ctrl", 0xe0),
    ("control", 0xe0),
    ("shift", SHIFT),
    ("alt", 0xe2),
    ("meta", 0xe3),
    ("super", 0xe3),
    ("rightctrl", 0xe4),
    ("rightshift", 0xe5),
    ("rightalt", 0xe6),
    ("altgr", 0xe6),
    ("rightmeta", 0xe7),
    ("kp-enter", 0x58),
    ("plus", 0x57),
    ("kp-minus", 0x56),
    ("kp-multiply", 0x55),
    ("kp-divide", 0x54),
];
const F1: u16 = 0x3a;

/// Presses and releases that type `text`. Backslash and a letter, `\n` or `\t`, are Enter and Tab; two are one.
pub fn of_text(text: &str) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    let mut characters = text.chars();
    while let Some(mut character) = characters.next() {
        if character == '\\' {
            character = match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('\\') => '\\',
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(usage!("sendkeys: `\\{other}` means nothing; there are \\n, \\t and \\\\"));
                }
            };
        }
        let (key, shifted) = typed(character)
            .ok_or_else(|| usage!("sendkeys: no key types `{character}`; use --keys with the name of a key"))?;
        inputs.extend(strike(&if shifted { vec![SHIFT, key] } else { vec![key] }));
    }
    Ok(inputs)
}

/// Presses and releases of keys that are held together: `ctrl-alt-delete`.
pub fn of_chord(chord: &str) -> Result<Vec<Input>> {
    let mut keys = Vec::new();
    let mut rest = chord;
    while !rest.is_empty() {
        // Some names have a hyphen of their own.
        let whole = NAMED.iter().find(|(name, _)| rest.eq_ignore_ascii_case(name));
        let (name, after) = match whole {
            Some(_) => (rest, ""),
            None => rest.split_once('-').unwrap_or((rest, "")),
        };
        keys.push(named(name).ok_or_else(|| {
            usage!("sendkeys: there is no key `{name}` in `{chord}`; keys are a to z, 0 to 9, f1 to f12, ctrl, alt, delete, up …")
        })?);
        rest = after;
    }
    if keys.is_empty() {
        return Err(usage!("sendkeys: --keys needs keys, such as ctrl-alt-delete"));
    }
    Ok(strike(&keys))
}

/// All go down in order, and up the other way.
fn strike(keys: &[u16]) -> Vec<Input> {
    let down = keys.iter().map(|key| Input::Press { key: *key });
    down.chain(keys.iter().rev().map(|key| Input::Release { key: *key })).collect()
}

fn named(name: &str) -> Option<u16> {
    let name = name.to_ascii_lowercase();
    if let Some((_, key)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Some(*key);
    }
    if let Some(number) = name.strip_prefix('f').and_then(|number| number.parse::<u16>().ok()) {
        return (1..=12).contains(&number).then(|| F1 + number - 1);
    }
    let mut characters = name.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => typed(character).filter(|(_, shifted)| !shifted).map(|(key, _)| key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(inputs: &[Input]) -> Vec<u16> {
        inputs.iter().filter_map(|input| if let Input::Press { key } = input { Some(*key) } else { None }).collect()
    }

    #[test]
    fn what_no_key_types_is_refused_by_name() {
        assert!(of_text("ü").unwrap_err().to_string().contains("`ü`"));
        assert!(of_text("a\\q").unwrap_err().to_string().contains("`\\q`"));
        assert!(of_text("\\").is_err() && of_text("\0").is_err());
        for chord in ["", "-", "f13", "hyper-a", "ctrl-altdelete"] {
            assert!(of_chord(chord).is_err(), "{chord}");
        }
    }

    #[test]
    fn text_is_typed_with_shift_where_it_must_be() {
        assert_eq!(down(&of_text("aA1!\\n|").unwrap()), [4, SHIFT, 4, 0x1e, SHIFT, 0x1e, 0x28, SHIFT, 0x31]);
        assert_eq!(down(&of_text("~ /").unwrap()), [SHIFT, 0x35, 0x2c, 0x38]);
    }

    #[test]
    fn keys_of_a_chord_are_let_go_the_other_way() {
        let press = |key| Input::Press { key };
        let release = |key| Input::Release { key };
        let expected = [press(0xe0), press(0xe2), press(0x4c), release(0x4c), release(0xe2), release(0xe0)];
        assert_eq!(of_chord("Ctrl-Alt-Delete").unwrap(), expected);
        assert_eq!(down(&of_chord("shift-kp-enter").unwrap()), [SHIFT, 0x58]);
        assert_eq!(down(&of_chord("f12").unwrap()), [0x45]);
    }
}
