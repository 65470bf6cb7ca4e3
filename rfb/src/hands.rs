//! What people do with keyboard and mouse, on its way to a guest that may not take it.

use schema::display::{INPUT_BYTES, Input, Pointer};
use std::collections::VecDeque;

/// Records that wait. A guest that takes none loses what is done then, but never the end of what it was told the beginning of.
const WAITING_MAX: usize = 1024;
/// Places that are kept for releases: of each key there is one at most.
const RELEASES: usize = 256;
/// The farthest that a record moves the pointer.
const STEP_MAX: i32 = 127;
/// Records of one movement: across the widest picture.
const STEPS_MAX: i32 = 32;

/// The keyboard and the mouse of all viewers together.
#[derive(Default)]
pub struct Hands {
    waiting: VecDeque<Input>,
    /// Keys whose press is on its way or there, a bit each.
    down: [u64; 4],
    buttons: u8,
    /// The guest is to be told of `buttons` when there is room.
    owed: bool,
}

impl Hands {
    /// With room for all that may wait: a sealed process gets no more memory.
    #[must_use]
    pub fn new() -> Hands {
        Hands { waiting: VecDeque::with_capacity(WAITING_MAX), ..Hands::default() }
    }

    /// The next record for the guest. It is gone once it was taken.
    pub fn take(&mut self) -> Option<[u8; INPUT_BYTES]> {
        if self.waiting.is_empty() && std::mem::take(&mut self.owed) {
            self.waiting.push_back(Input::Pointer(Pointer { buttons: self.buttons, ..Pointer::default() }));
        }
        self.waiting.pop_front().map(Input::to_bytes)
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.owed || !self.waiting.is_empty()
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX - RELEASES - STEPS_MAX as usize
    }

    /// A key goes down, or, held, says so again.
    pub(crate) fn press(&mut self, key: u16) {
        if let Some((word, bit)) = place(key).filter(|_| self.has_room()) {
            self.down[word] |= bit;
            self.waiting.push_back(Input::Press { key });
        }
    }

    /// A key goes up.
    pub(crate) fn release(&mut self, key: u16) {
        if let Some((word, bit)) = place(key).filter(|(word, bit)| self.down[*word] & bit != 0) {
            self.down[word] &= !bit;
            self.waiting.push_back(Input::Release { key });
        }
    }

    /// The mouse moves so far, with these buttons down, and its wheel turns.
    pub(crate) fn point(&mut self, mut dx: i32, mut dy: i32, wheel: i8, buttons: u8) {
        let changes = self.buttons != buttons;
        self.buttons = buttons;
        if !self.has_room() {
            self.owed |= changes;
            return;
        }
        if dx == 0 && dy == 0 && wheel == 0 && !changes {
            return;
        }
        self.owed = false;
        if let Some(Input::Pointer(last)) = self.waiting.back_mut()
            && (last.buttons, last.wheel, wheel) == (buttons, 0, 0)
            && let (Ok(x), Ok(y)) = (i8::try_from(i32::from(last.dx) + dx), i8::try_from(i32::from(last.dy) + dy))
        {
            (last.dx, last.dy) = (x, y);
            return;
        }
        let mut wheel = wheel;
        for _ in 0..STEPS_MAX {
            let (x, y) = (dx.clamp(-STEP_MAX, STEP_MAX), dy.clamp(-STEP_MAX, STEP_MAX));
            let step = Pointer { dx: x as i8, dy: y as i8, wheel: std::mem::take(&mut wheel), buttons };
            self.waiting.push_back(Input::Pointer(step));
            (dx, dy) = (dx - x, dy - y);
            if (dx, dy) == (0, 0) {
                break;
            }
        }
    }
}

/// Where the bit of a key is.
pub(crate) fn place(key: u16) -> Option<(usize, u64)> {
    let word = usize::from(key / 64);
    (word < 4).then_some((word, 1 << (key % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(hands: &mut Hands) -> Vec<Input> {
        std::iter::from_fn(|| hands.take()).map(|bytes| Input::from_bytes(&bytes).unwrap()).collect()
    }

    #[test]
    fn guest_that_takes_nothing_is_told_the_end_of_all_that_it_was_told_the_beginning_of() {
        let mut hands = Hands::new();
        let held: Vec<u16> = (0..256).collect();
        held.iter().for_each(|key| hands.press(*key));
        for step in 0..2 * WAITING_MAX as i32 {
            hands.point(1000, step, 0, 0);
        }
        hands.press(4);
        hands.point(0, 0, 0, 1);
        hands.point(0, 0, 0, 0);
        hands.point(0, 0, 0, 4);
        held.iter().for_each(|key| hands.release(*key));
        assert!(hands.waiting.len() <= WAITING_MAX, "{}", hands.waiting.len());
        let told = all(&mut hands);
        let releases = told.iter().filter(|input| matches!(input, Input::Release { .. })).count();
        assert_eq!(releases, 256);
        assert_eq!(told.last(), Some(&Input::Pointer(Pointer { buttons: 4, ..Pointer::default() })));
        assert!(!hands.has_more());
    }

    #[test]
    fn key_that_is_not_down_cannot_go_up() {
        let mut hands = Hands::new();
        hands.release(4);
        hands.press(4);
        hands.release(4);
        hands.release(4);
        hands.press(256);
        hands.release(u16::MAX);
        assert_eq!(all(&mut hands), [Input::Press { key: 4 }, Input::Release { key: 4 }]);
    }

    #[test]
    fn movements_are_joined_and_long_ones_divided() {
        let mut hands = Hands::new();
        hands.point(3, -2, 0, 0);
        hands.point(4, -2, 0, 0);
        hands.point(-300, 0, 0, 1);
        let pointer = |dx, dy, buttons| Input::Pointer(Pointer { dx, dy, wheel: 0, buttons });
        assert_eq!(all(&mut hands), [pointer(7, -4, 0), pointer(-127, 0, 1), pointer(-127, 0, 1), pointer(-46, 0, 1)]);
        hands.point(0, 0, 0, 1);
        hands.point(0, 0, -1, 1);
        hands.point(0, 0, -1, 1);
        assert_eq!(all(&mut hands).len(), 2, "each step of the wheel is one, and what changes nothing none");
    }
}
