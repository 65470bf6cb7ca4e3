//! Who may look: security type 2, "VNC Authentication" (RFC 6143, 7.2.2).
//!
//! The viewer encrypts a challenge with the password. DES with eight characters is what all viewers know and is weak: who sees
//! the conversation can look for the password at leisure. So it is spoken on this machine alone, and guesses are counted.

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use std::time::Duration;

/// Bytes of a password; a shorter one ends in zeros.
pub const PASSWORD_BYTES: usize = 8;
/// Bytes of a challenge, and of its answer.
pub const CHALLENGE_BYTES: usize = 16;
/// Wrong answers in [`GUESSES_PERIOD`] after which nobody is asked until it is over: a person who mistypes has some more, and
/// who tries all words of a dictionary needs years.
pub const GUESSES_MAX: u32 = 5;
/// See [`GUESSES_MAX`].
pub const GUESSES_PERIOD: Duration = Duration::from_secs(60);

/// The one password, and how often it was guessed wrong.
pub struct Door {
    cipher: Des,
    wrong: u32,
    /// When the first of them was.
    since: Duration,
}

impl Door {
    /// A door that opens to this password.
    #[must_use]
    pub fn new(password: [u8; PASSWORD_BYTES]) -> Door {
        // Each byte of the key has its bits the other way round (RFC 6143 leaves that to its readers; all viewers do it).
        let key = Array(password.map(u8::reverse_bits));
        Door { cipher: Des::new(&key), wrong: 0, since: Duration::ZERO }
    }

    /// Whether anybody is asked at `now`.
    #[must_use]
    pub fn is_open(&self, now: Duration) -> bool {
        self.wrong < GUESSES_MAX || now.saturating_sub(self.since) >= GUESSES_PERIOD
    }

    /// Whether this answers the challenge. One that does not is counted.
    pub fn admits(&mut self, challenge: &[u8; CHALLENGE_BYTES], answer: &[u8; CHALLENGE_BYTES], now: Duration) -> bool {
        if !self.is_open(now) {
            return false;
        }
        // How long it takes does not depend on where they differ.
        let differ = self.answer(challenge).iter().zip(answer).fold(0, |bits, (right, said)| bits | (right ^ said));
        if differ == 0 {
            return true;
        }
        if self.wrong == 0 || now.saturating_sub(self.since) >= GUESSES_PERIOD {
            (self.wrong, self.since) = (0, now);
        }
        self.wrong += 1;
        false
    }

    /// What a viewer answers that knows the password.
    #[must_use]
    pub fn answer(&self, challenge: &[u8; CHALLENGE_BYTES]) -> [u8; CHALLENGE_BYTES] {
        let mut answer = *challenge;
        for block in answer.as_chunks_mut::<PASSWORD_BYTES>().0 {
            self.cipher.encrypt_block(block.into());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; CHALLENGE_BYTES] = *b"0123456789abcdef";

    #[test]
    fn wrong_answers_close_the_door_to_everybody_until_the_period_is_over() {
        let mut door = Door::new(*b"secret\0\0");
        let (right, wrong) = (door.answer(&CHALLENGE), Door::new(*b"secreu\0\0").answer(&CHALLENGE));
        let start = Duration::from_secs(1000);
        for guess in 0..GUESSES_MAX {
            assert!(door.is_open(start), "{guess}");
            assert!(!door.admits(&CHALLENGE, &wrong, start));
        }
        let late = start + GUESSES_PERIOD;
        let before = late - Duration::from_nanos(1);
        assert!(!door.is_open(before) && !door.admits(&CHALLENGE, &right, before));
        assert!(door.is_open(late) && door.admits(&CHALLENGE, &right, late));
        assert!(!door.admits(&CHALLENGE, &wrong, late));
        assert!(door.is_open(late), "counting begins anew");
    }

    #[test]
    fn answer_to_another_challenge_opens_nothing() {
        let mut door = Door::new(*b"secret\0\0");
        let mut other = CHALLENGE;
        other[15] ^= 1;
        let answer = door.answer(&other);
        assert!(!door.admits(&CHALLENGE, &answer, Duration::ZERO));
    }

    #[test]
    fn answer_is_that_of_des_with_the_keys_bits_the_other_way_round() {
        // NIST SP 800-17, table A.2: key 8001010101010101, all zeros give 95a8d72813daa94d. Parity bits count for nothing.
        let door = Door::new([0x80, 1, 1, 1, 1, 1, 1, 1].map(u8::reverse_bits));
        let block = [0x95, 0xa8, 0xd7, 0x28, 0x13, 0xda, 0xa9, 0x4d];
        assert_eq!(door.answer(&[0; CHALLENGE_BYTES]), [block, block].concat()[..]);
    }
}
