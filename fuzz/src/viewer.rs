//! A viewer of a display, which says anything, in any pieces, with a screen that changes meanwhile.
//!
//! Input: whether it is let in first, a byte; then steps.

use crate::input::Input;
use rfb::{CHALLENGE_BYTES, Door, Hands, OUTPUT_BYTES, PASSWORD_BYTES, Picture, Viewer};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

/// Steps of one run.
const STEPS_MAX: usize = 256;
const PASSWORD: [u8; PASSWORD_BYTES] = *b"password";
const CHALLENGE: [u8; CHALLENGE_BYTES] = *b"0123456789abcdef";
/// What is said to who is not let in is shorter: greeting, security, challenge, why not.
const WORDS_MAX: usize = 128;
/// Records that may wait, all together.
const WAITING_MAX: usize = 1024;

thread_local! {
    /// It is large.
    static PICTURE: RefCell<Picture> = RefCell::new(Picture::new());
}

pub fn run(data: &[u8]) {
    PICTURE.with_borrow_mut(|picture| play(data, picture));
}

fn play(data: &[u8], picture: &mut Picture) {
    let mut input = Input(data);
    let (mut door, mut hands, mut viewer) = (Door::new(PASSWORD), Hands::new(), Viewer::new());
    viewer.greet(CHALLENGE);
    draw(picture, 100, 70, 0);
    let mut guest = Guest::default();
    let mut now = Duration::ZERO;
    if input.u8() & 1 != 0 {
        let answer = door.answer(&CHALLENGE);
        let words = [&b"RFB 003.008\n\x02"[..], &answer, &[1]].concat();
        viewer.take(&words, &mut door, &mut hands, now).expect("it knows the password");
        assert!(viewer.is_in());
    }
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0..4 => {
                let length = usize::from(input.u8());
                if viewer.take(input.take(length), &mut door, &mut hands, now).is_err() {
                    break;
                }
            }
            4 => viewer.show(picture),
            5 => {
                let count = usize::from(input.u16()).min(viewer.output().len());
                viewer.sent(count);
            }
            6 => {
                let (width, height) = (u32::from(input.u16()) % 300, u32::from(input.u8()));
                draw(picture, width, height, input.u8());
            }
            _ => {
                now += Duration::from_secs(u64::from(input.u8()));
                (0..input.u8()).for_each(|_| guest.take(&mut hands));
            }
        }
        assert!(viewer.output().len() <= if viewer.is_in() { OUTPUT_BYTES } else { WORDS_MAX });
        assert!(viewer.is_in() || (!hands.has_more() && !viewer.wants_picture()));
    }
    // Whatever it did, the guest is left with nothing held.
    viewer.leave(&mut hands);
    for _ in 0..=WAITING_MAX {
        guest.take(&mut hands);
    }
    assert!(!hands.has_more() && guest.down.is_empty() && guest.buttons == 0);
}

fn draw(picture: &mut Picture, width: u32, height: u32, seed: u8) {
    picture.look(width, height, |row, bytes| bytes.fill(seed ^ row as u8));
}

/// What a guest has been told.
#[derive(Default)]
struct Guest {
    down: BTreeSet<u16>,
    buttons: u8,
}

impl Guest {
    fn take(&mut self, hands: &mut Hands) {
        use schema::display::Input::{Pointer, Press, Release};
        let Some(record) = hands.take() else { return };
        match schema::display::Input::from_bytes(&record).expect("something that a person can do") {
            Press { key } => drop(self.down.insert(key)),
            Release { key } => assert!(self.down.remove(&key), "{key:#x} was not down"),
            Pointer(pointer) => self.buttons = pointer.buttons,
        }
    }
}
