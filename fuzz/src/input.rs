//! Bytes as a script.

use schema::lane::Operation;

/// What is left of the input; past its end it is zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes: at most `count`, fewer at the end.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    pub fn u64(&mut self) -> u64 {
        (0..8).fold(0, |number, place| number | u64::from(self.u8()) << (8 * place))
    }

    /// Any operation of a lane.
    pub fn operation(&mut self) -> Operation {
        let operations = 1..=Operation::ReadString as u16;
        Operation::from_raw(operations.start() + u16::from(self.u8()) % operations.end())
            .expect("they are numbered from 1 on")
    }

    /// Of a choice of `count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.u8()) % count
    }
}
