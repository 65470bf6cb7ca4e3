use super::*;
use crate::door::{GUESSES_MAX, PASSWORD_BYTES};
use schema::display::{HEIGHT_MAX, Input, Pointer, WIDTH_MAX};
use std::collections::BTreeMap;

const PASSWORD: [u8; PASSWORD_BYTES] = *b"secret\0\0";
const CHALLENGE: [u8; CHALLENGE_BYTES] = *b"nobody knew this";
const NOW: Duration = Duration::from_secs(7);

/// What a viewer that knows the password says until it waits for a picture.
fn introduction() -> Vec<u8> {
    [&VERSION[..], &[SECURITY], &Door::new(PASSWORD).answer(&CHALLENGE), &[1]].concat()
}

fn asks(changes: bool, x: u16, y: u16, width: u16, height: u16) -> Vec<u8> {
    let words = [x, y, width, height].map(u16::to_be_bytes).concat();
    [&[3, u8::from(changes)][..], &words].concat()
}

fn encodings(list: &[i32]) -> Vec<u8> {
    let list_bytes = list.iter().flat_map(|encoding| encoding.to_be_bytes());
    [2, 0].into_iter().chain((list.len() as u16).to_be_bytes()).chain(list_bytes).collect()
}

/// A server with one viewer, and what the viewer sees.
struct Bench {
    viewer: Viewer,
    door: Door,
    hands: Hands,
    picture: Picture,
    seen: BTreeMap<(u16, u16), u32>,
    size: (u16, u16),
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench {
            viewer: Viewer::new(),
            door: Door::new(PASSWORD),
            hands: Hands::new(),
            picture: Picture::new(),
            seen: BTreeMap::new(),
            size: (0, 0),
        };
        bench.viewer.greet(CHALLENGE);
        bench.draw(100, 70, 1);
        bench
    }

    /// One that is let in and told the size.
    fn shown() -> Bench {
        let mut bench = Bench::new();
        bench.say(&introduction()).unwrap();
        bench.viewer.show(&bench.picture);
        let said = bench.hear();
        assert_eq!(said[..said.len() - 24 - NAME.len()], [&VERSION[..], &[1, 2], &CHALLENGE, &[0; 4]].concat());
        let start = &said[said.len() - 24 - NAME.len()..];
        bench.size = (u16::from_be_bytes([start[0], start[1]]), u16::from_be_bytes([start[2], start[3]]));
        assert_eq!(bench.size, bench.picture.size().unwrap());
        bench
    }

    fn draw(&mut self, width: u32, height: u32, seed: u32) {
        self.picture.look(width, height, |y, bytes| {
            for (x, bytes) in (0..).zip(bytes.as_chunks_mut::<4>().0) {
                *bytes = pixel(x, y, seed).to_le_bytes();
            }
        });
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.viewer.take(bytes, &mut self.door, &mut self.hands, NOW)
    }

    fn hear(&mut self) -> Vec<u8> {
        let said = self.viewer.output().to_vec();
        self.viewer.sent(said.len());
        said
    }

    /// All that the server shows until it has nothing more. Gives the number of rectangles.
    fn look(&mut self) -> usize {
        let mut said = Vec::new();
        loop {
            self.viewer.show(&self.picture);
            assert!(self.viewer.output().len() <= OUTPUT_BYTES);
            match self.hear() {
                more if more.is_empty() => break,
                more => said.extend(more),
            }
        }
        let (mut rest, mut rectangles) = (said.as_slice(), 0);
        while let [0, 0, high, low, after @ ..] = rest {
            rest = after;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                let (head, after) = rest.split_at(12);
                let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
                let (x, y, width, height) = (word(0), word(2), word(4), word(6));
                rest = after;
                rectangles += 1;
                if i32::from_be_bytes([head[8], head[9], head[10], head[11]]) == DESKTOP_SIZE {
                    self.size = (width, height);
                    self.seen.clear();
                    continue;
                }
                assert!(x + width <= self.size.0 && y + height <= self.size.1, "beyond its screen");
                let (pixels, after) = rest.split_at(4 * usize::from(width) * usize::from(height));
                rest = after;
                let places = (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y)));
                for (place, pixel) in places.zip(pixels.as_chunks::<4>().0) {
                    self.seen.insert(place, u32::from_le_bytes(*pixel));
                }
            }
        }
        assert!(rest.is_empty());
        rectangles
    }
}

fn pixel(x: u32, y: u32, seed: u32) -> u32 {
    x.wrapping_mul(0x0001_0203) ^ y << 5 ^ seed << 16 & 0x00ff_ffff
}

fn says(bytes: &[u8]) -> (Result<(), Ended>, Vec<u8>) {
    let mut bench = Bench::new();
    bench.hear();
    let result = bench.say(bytes);
    let said = bench.hear();
    assert!(!bench.viewer.is_in() || result.is_err());
    (result, said)
}

#[test]
fn who_speaks_something_else_is_not_listened_to() {
    for greeting in [b"GET / HTTP/1", b"RFB 004.000\n", b"RFB 003.abc\n", b"RFB 003.008\r"] {
        let (result, said) = says(greeting);
        assert_eq!((result, said), (Err(Ended::Version), vec![]), "{}", greeting.escape_ascii());
    }
}

#[test]
fn who_does_not_know_the_password_is_shown_nothing() {
    let wrong = Door::new(*b"secreu\0\0").answer(&CHALLENGE);
    assert_eq!(says(&[&VERSION[..], &[1]].concat()).0, Err(Ended::Security), "no password at all");
    let (result, said) = says(&[&VERSION[..], &[2], &wrong, &[1]].concat());
    assert_eq!(result, Err(Ended::Refused));
    assert_eq!(said, [&[1, 2][..], &CHALLENGE, &[0, 0, 0, 1, 0, 0, 0, 14], b"wrong password"].concat());
    let (result, said) = says(&[&b"RFB 003.003\n"[..], &wrong].concat());
    assert_eq!((result, said), (Err(Ended::Refused), [&[0, 0, 0, 2][..], &CHALLENGE, &[0, 0, 0, 1]].concat()));
    let mut bench = Bench::new();
    bench.say(&[&VERSION[..], &[2], &wrong].concat()).unwrap_err();
    bench.hear();
    bench.viewer.show(&bench.picture);
    assert!(bench.viewer.output().is_empty());
}

#[test]
fn who_comes_after_too_many_guesses_is_not_asked() {
    let mut bench = Bench::new();
    for _ in 0..GUESSES_MAX {
        assert!(!bench.door.admits(&CHALLENGE, &[0; CHALLENGE_BYTES], NOW));
    }
    bench.hear();
    assert_eq!(bench.say(&introduction()), Err(Ended::Refused));
    let said = bench.hear();
    assert!(said.starts_with(&[0, 0, 0, 0]) && said.ends_with(b"in a minute"), "{}", said.escape_ascii());
}

#[test]
fn older_viewers_are_let_in_as_their_versions_have_it() {
    let answer = Door::new(PASSWORD).answer(&CHALLENGE);
    for (greeting, chooses) in
        [(b"RFB 003.003\n", false), (b"RFB 003.005\n", false), (b"RFB 003.007\n", true), (b"RFB 003.889\n", true)]
    {
        let mut bench = Bench::new();
        let choice: &[u8] = if chooses { &[2] } else { &[] };
        bench.say(&[&greeting[..], choice, &answer].concat()).unwrap();
        assert!(bench.viewer.is_in(), "{}", greeting.escape_ascii());
    }
}

#[test]
fn message_that_there_is_not_ends_the_conversation() {
    for kind in [1, 7, 150, 255] {
        assert_eq!(Bench::shown().say(&[kind, 0]), Err(Ended::Message(kind)));
    }
}

#[test]
fn clipboard_is_let_pass_and_an_endless_one_is_not() {
    let mut bench = Bench::shown();
    let text = |length: u32| [&[6, 0, 0, 0][..], &length.to_be_bytes()].concat();
    bench.say(&text(TEXT_MAX)).unwrap();
    for _ in 0..TEXT_MAX / 1024 {
        bench.say(&[4; 1024]).unwrap();
    }
    assert!(bench.viewer.output().is_empty() && !bench.hands.has_more());
    bench.say(&[4, 1, 0, 0, 0, 0, 0, b'a']).unwrap();
    assert!(bench.hands.has_more(), "it is understood again");
    assert_eq!(bench.say(&text(TEXT_MAX + 1)), Err(Ended::Text(TEXT_MAX + 1)));
    assert_eq!(Bench::shown().say(&text(u32::MAX)), Err(Ended::Text(u32::MAX)));
}

#[test]
fn nothing_that_a_viewer_says_makes_more_wait_for_it() {
    let mut bench = Bench::shown();
    let list: Vec<i32> = (0..i32::from(u16::MAX)).collect();
    let memory = |viewer: &Viewer| (viewer.output.capacity(), viewer.update.capacity(), viewer.shown.capacity());
    let before = memory(&bench.viewer);
    bench.draw(WIDTH_MAX, HEIGHT_MAX, 1);
    for _ in 0..10 {
        bench.say(&encodings(&list)).unwrap();
        bench.say(&asks(false, 0, 0, u16::MAX, u16::MAX)).unwrap();
        bench.viewer.show(&bench.picture);
        assert!(bench.viewer.output().len() <= OUTPUT_BYTES);
    }
    assert_eq!(memory(&bench.viewer), before);
}

#[test]
fn viewer_that_speaks_in_single_bytes_is_understood() {
    let speech = [
        introduction(),
        encodings(&[0, 7, DESKTOP_SIZE]),
        asks(false, 0, 0, 100, 70),
        vec![4, 1, 0, 0, 0, 0, 0xff, 0x0d, 6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', 4, 0, 0, 0, 0, 0, 0xff, 0x0d],
    ]
    .concat();
    let mut bench = Bench::new();
    for byte in &speech {
        bench.say(&[*byte]).unwrap();
    }
    assert!(bench.viewer.knows_size && bench.viewer.wants_picture());
    let told: Vec<_> = std::iter::from_fn(|| bench.hands.take()).map(|bytes| Input::from_bytes(&bytes)).collect();
    assert_eq!(told, [Some(Input::Press { key: 0x28 }), Some(Input::Release { key: 0x28 })]);
}

#[test]
fn viewer_sees_the_picture_and_then_what_changes() {
    let mut bench = Bench::shown();
    bench.say(&asks(true, 0, 0, 100, 70)).unwrap();
    assert_eq!(bench.look(), 4);
    assert!(bench.seen.iter().all(|((x, y), seen)| *seen == pixel((*x).into(), (*y).into(), 1)));
    assert_eq!(bench.seen.len(), 7000);
    bench.say(&asks(true, 0, 0, 100, 70)).unwrap();
    assert_eq!(bench.look(), 0, "it waits for a change");
    bench.picture.look(100, 70, |y, bytes| {
        for (x, bytes) in (0..).zip(bytes.as_chunks_mut::<4>().0) {
            *bytes = if (x, y) == (99, 0) { 5u32 } else { pixel(x, y, 1) }.to_le_bytes();
        }
    });
    assert_eq!(bench.look(), 1);
    assert_eq!(bench.seen[&(99, 0)], 5);
    assert_eq!(bench.look(), 0, "it has not asked again");
    bench.say(&asks(false, 0, 0, 1, 1)).unwrap();
    assert_eq!(bench.look(), 1, "it is shown again what it asks for");
    bench.say(&asks(false, 4000, 4000, 1, 1)).unwrap();
    assert_eq!(bench.look(), 0);
}

#[test]
fn viewer_is_told_another_size_if_it_knows_what_that_is() {
    let mut bench = Bench::shown();
    bench.say(&asks(true, 0, 0, 100, 70)).unwrap();
    bench.look();
    bench.draw(64, 200, 2);
    bench.say(&asks(true, 0, 0, 100, 70)).unwrap();
    bench.look();
    assert_eq!((bench.size, bench.seen.len()), ((100, 70), 7000));
    assert_eq!((bench.seen[&(63, 69)], bench.seen[&(64, 69)]), (pixel(63, 69, 2), 0), "cut, and black beside");
    bench.say(&encodings(&[DESKTOP_SIZE, 0])).unwrap();
    bench.say(&asks(true, 0, 0, 100, 70)).unwrap();
    assert_eq!((bench.look(), bench.size), (1, (64, 200)));
    bench.say(&asks(true, 0, 0, 64, 200)).unwrap();
    assert_eq!((bench.look(), bench.seen.len()), (4, 64 * 200));
}

#[test]
fn viewer_has_its_pixels_from_the_next_update_on() {
    let mut bench = Bench::shown();
    bench.say(&asks(true, 0, 0, 1, 1)).unwrap();
    bench.look();
    bench.say(&[0, 0, 0, 0, 16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0]).unwrap();
    bench.say(&asks(true, 0, 0, 1, 1)).unwrap();
    bench.viewer.show(&bench.picture);
    assert_eq!(bench.hear().len(), 4 + 12 + 2 * TILE * TILE, "what it had is nothing any more");
    assert_eq!(bench.say(&[0; 20]), Err(Ended::Format));
}

#[test]
fn pointer_tells_how_far_it_went() {
    let mut bench = Bench::shown();
    bench.say(&[5, 0, 0, 50, 0, 50]).unwrap();
    assert!(!bench.hands.has_more(), "a mouse has no place");
    bench.say(&[5, 0b0000_0110, 0, 53, 0, 48]).unwrap();
    bench.say(&[5, 0b0001_0110, 0, 53, 0, 48]).unwrap();
    bench.say(&[5, 0b0001_0110, 0, 53, 0, 48]).unwrap();
    bench.say(&[5, 0b0000_1000, 0, 53, 0, 48]).unwrap();
    let told: Vec<_> =
        std::iter::from_fn(|| bench.hands.take()).filter_map(|bytes| Input::from_bytes(&bytes)).collect();
    let pointer = |dx, dy, wheel, buttons| Input::Pointer(Pointer { dx, dy, wheel, buttons });
    assert_eq!(told, [pointer(3, -2, 0, 6), pointer(0, 0, 1, 6), pointer(0, 0, -1, 0)]);
}

#[test]
fn viewer_that_leaves_lets_go_what_it_holds() {
    let mut bench = Bench::shown();
    bench.say(&[4, 1, 0, 0, 0, 0, 0xff, 0xe3, 5, 1, 0, 0, 0, 0]).unwrap();
    bench.viewer.leave(&mut bench.hands);
    let told: Vec<_> =
        std::iter::from_fn(|| bench.hands.take()).filter_map(|bytes| Input::from_bytes(&bytes)).collect();
    let pointer = |buttons| Input::Pointer(Pointer { buttons, ..Pointer::default() });
    assert_eq!(told, [Input::Press { key: 0xe0 }, pointer(1), Input::Release { key: 0xe0 }, pointer(0)]);
}

#[test]
fn who_comes_next_is_somebody_else() {
    let mut bench = Bench::shown();
    bench.say(&encodings(&[DESKTOP_SIZE])).unwrap();
    bench.say(&asks(false, 0, 0, 100, 70)).unwrap();
    bench.viewer.show(&bench.picture);
    bench.say(&[6, 0, 0, 0, 0, 0, 0, 9]).unwrap();
    bench.viewer.leave(&mut bench.hands);
    bench.viewer.greet(CHALLENGE);
    assert!(!bench.viewer.is_in() && !bench.viewer.wants_picture() && !bench.viewer.knows_size);
    assert_eq!(bench.hear(), VERSION);
    bench.viewer.show(&bench.picture);
    assert!(bench.viewer.output().is_empty());
    bench.say(&introduction()).unwrap();
    assert!(bench.viewer.is_in());
}
